// A grid of CUDA threads on one thread of the CPU: blocks one after the other in a drawn order, the threads of a block as
// fibres that are switched at barriers, votes and atomic operations, in a drawn order too (MASKRAY_SCHEDULE: the seed).
//
// What a GPU leaves undefined ends the process with a line: a barrier that only a part of a block reaches, or two parts
// reach at different places, and a vote in which a thread of the mask does not take part. Shared memory begins with
// bytes that are no number. Thread sanitizer knows the fibres as threads, which barriers and nothing else put in order;
// address sanitizer knows their stacks, and where shared memory ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>

namespace cuda_on_cpu {

constexpr int kWarp = 32;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct Shape {
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  void* stream = nullptr;
};

// The CPU has no stream, and no device to guard.
inline std::int32_t get_current_stream(std::int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
struct DeviceGuard {
  explicit DeviceGuard(std::int64_t) {}
};

struct WarpValues {
  unsigned lanes;  // that took part
  std::uint64_t values[kWarp];
};

const dim3& thread_index();
const dim3& block_index();
const dim3& block_size();
const dim3& grid_size();
int lane();
void yield();
void barrier(const char* file, int line);
// What the threads of the mask gave, when all of them have; a mask of 0 is the whole warp.
WarpValues vote(const char* file, int line, unsigned mask, std::uint64_t value);
void* shared_bytes(const char* file, int line, std::size_t bytes);
void* dynamic_shared_bytes();
void run(const Shape& shape, const std::function<void()>& thread);

// The variable `__shared__ T name` of the block; a line of the source declares one.
template <class T>
T& shared(const char* file, int line) {
  return *static_cast<T*>(shared_bytes(file, line, sizeof(T)));
}

template <class... Parameters, class... Arguments>
void launch(const Shape& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const std::tuple<Parameters...> given(std::forward<Arguments>(arguments)...);
  run(shape, [&] { std::apply(kernel, given); });
}

}  // namespace cuda_on_cpu
