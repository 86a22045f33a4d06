// Part of each program that is linked with tcmalloc (docs/decisions/011): what it takes from the
// system is advised to be huge pages. A cache of millions of small pieces, looked up at random,
// spends much of its time in misses of the TLB otherwise, and in page faults while it grows.

#include <gperftools/malloc_extension.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>

namespace graftfs {
namespace {

// Asked for at once, so that a huge page is not faulted in before all of it is ours. What is not
// touched costs nothing.
constexpr size_t kHugePage = 2 << 20;

class HugePages : public SysAllocator {
 public:
  explicit HugePages(SysAllocator* below) : below_(below) {}

  void* Alloc(size_t size, size_t* actual, size_t alignment) override {
    // What is big itself, such as a table that grows, is given back soon: clearing all of it at
    // once costs more than it saves.
    if (size >= kHugePage) return below_->Alloc(size, actual, alignment);
    size_t got = kHugePage;
    void* memory = below_->Alloc(got, &got, std::max(alignment, kHugePage));
    // A limit (RLIMIT_AS) may leave less.
    if (!memory) return below_->Alloc(size, actual, alignment);
    ::madvise(memory, got, MADV_HUGEPAGE);
    if (actual) *actual = got;
    return memory;
  }

 private:
  SysAllocator* below_;
};

// Never destroyed: memory is asked for until the very end.
alignas(HugePages) char place[sizeof(HugePages)];

[[gnu::constructor]] void use_huge_pages() {
  MallocExtension* malloc = MallocExtension::instance();
  malloc->SetSystemAllocator(new (place) HugePages(malloc->GetSystemAllocator()));
}

}  // namespace
}  // namespace graftfs
