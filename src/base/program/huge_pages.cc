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
constexpr size_t kAtOnce = 2 << 20;

class HugePages : public SysAllocator {
 public:
  explicit HugePages(SysAllocator* below) : below_(below) {}

  void* Alloc(size_t size, size_t* actual, size_t alignment) override {
    void* memory = nullptr;
    if (size < kAtOnce) {
      memory = below_->Alloc(kAtOnce, actual, std::max(alignment, kHugePage));
      if (memory && actual) *actual = std::max(*actual, kAtOnce);
      size = kAtOnce;
    }
    // A limit (RLIMIT_AS) may leave less.
    if (!memory) return below_->Alloc(size, actual, alignment);
    ::madvise(memory, size, MADV_HUGEPAGE);
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
