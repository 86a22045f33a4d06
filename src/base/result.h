#pragma once
// Result<T>: a value, or an operating error that a caller can act on.
//
// Three kinds of errors are kept apart (docs/architecture.md): operating errors are Results;
// damage found in bytes is an Error with code EUCLEAN whose message names the object and the
// offset; a programmer's error is a CHECK.

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

namespace graftfs {

// An errno value and, where a person will read it, one sentence. `code` is never 0.
struct Error {
  int code = EIO;
  std::string message;

  bool is_damage() const { return code == EUCLEAN; }
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(int code, std::string message = {}) {
  return std::unexpected(Error{code, std::move(message)});
}
// Damage: bytes that were read are not what was written. `message` says where and what to do.
inline std::unexpected<Error> damaged(std::string message) {
  return fail(EUCLEAN, std::move(message));
}

// The message, or the system's text for the code.
std::string describe(const Error& error);

}  // namespace graftfs

#define GRAFTFS_CONCAT_(a, b) a##b
#define GRAFTFS_CONCAT(a, b) GRAFTFS_CONCAT_(a, b)

// TRY(expr): returns the error of a failed Result from the enclosing function.
// TRY_ASSIGN(decl, expr): binds the value, or returns the error.
// CO_TRY, CO_TRY_ASSIGN: the same inside a coroutine (expr may contain co_await).
#define TRY(expr)                                                             \
  do {                                                                        \
    auto try_result_ = (expr);                                                \
    if (!try_result_) return std::unexpected(std::move(try_result_).error()); \
  } while (false)
#define TRY_ASSIGN_(tmp, decl, expr)                        \
  auto tmp = (expr);                                        \
  if (!tmp) return std::unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)
#define TRY_ASSIGN(decl, expr) TRY_ASSIGN_(GRAFTFS_CONCAT(try_, __LINE__), decl, expr)
#define CO_TRY(expr)                                                             \
  do {                                                                           \
    auto try_result_ = (expr);                                                   \
    if (!try_result_) co_return std::unexpected(std::move(try_result_).error()); \
  } while (false)
#define CO_TRY_ASSIGN_(tmp, decl, expr)                        \
  auto tmp = (expr);                                           \
  if (!tmp) co_return std::unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)
#define CO_TRY_ASSIGN(decl, expr) CO_TRY_ASSIGN_(GRAFTFS_CONCAT(try_, __LINE__), decl, expr)
