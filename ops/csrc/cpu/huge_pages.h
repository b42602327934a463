// Asks for large pages under buffers that a kernel is about to write for the first time.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace maskray {

// Fresh memory is otherwise faulted in 4 KiB at a time: for a map of 50 MiB that takes longer than the pooling. Only a
// hint, and only from 4 MiB on; memory that is in use already stays as it is.
inline void advise_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr int64_t page = int64_t(1) << 21;
  const int64_t above = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % page);
  const int64_t skipped = above == 0 ? 0 : page - above;
  const int64_t whole = bytes > skipped ? (bytes - skipped) / page * page : 0;
  if (bytes >= 2 * page && whole > 0) {
    madvise(static_cast<char*>(data) + skipped, whole, MADV_HUGEPAGE);
  }
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace maskray
