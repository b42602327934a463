// What the CUDA kernels of ops/csrc/cuda use of CUDA, for a C++ compiler: see fibres.h. Found before the toolkit's own.
#pragma once

#include <atomic>
#include <cstring>
#include <limits>

#include "fibres.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define threadIdx (cuda_on_cpu::thread_index())
#define blockIdx (cuda_on_cpu::block_index())
#define blockDim (cuda_on_cpu::block_size())
#define gridDim (cuda_on_cpu::grid_size())
#define __syncthreads() cuda_on_cpu::barrier(__FILE__, __LINE__)
#define __syncwarp(...) static_cast<void>(cuda_on_cpu::vote(__FILE__, __LINE__, 0, 0))

using cudaStream_t = void*;
using cuda_on_cpu::dim3;
constexpr int warpSize = cuda_on_cpu::kWarp;

// Atomic operations in the order of relaxed atomics, each of them a place where another thread may go on.
template <class T>
T atomicAdd(T* address, T value) {
  cuda_on_cpu::yield();
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

template <class T>
T atomicMax(T* address, T value) {
  cuda_on_cpu::yield();
  std::atomic_ref<T> held(*address);
  T before = held.load(std::memory_order_relaxed);
  while (before < value && !held.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
  }
  return before;
}

template <class T>
T atomicOr(T* address, T value) {
  cuda_on_cpu::yield();
  return std::atomic_ref<T>(*address).fetch_or(value, std::memory_order_relaxed);
}

inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }

inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline long long __double_as_longlong(double value) {
  long long bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Votes and shuffles of a whole warp: who is not in the mask must not take part, and who is must.
inline unsigned __ballot_sync(unsigned mask, bool holds) {
  const cuda_on_cpu::WarpValues all = cuda_on_cpu::vote("__ballot_sync", 0, mask, holds);
  unsigned bits = 0;
  for (int lane = 0; lane < warpSize; ++lane) {
    bits |= (all.values[lane] != 0 && (all.lanes >> lane & 1)) ? 1u << lane : 0u;
  }
  return bits;
}
inline bool __any_sync(unsigned mask, bool holds) { return __ballot_sync(mask, holds) != 0; }
inline bool __all_sync(unsigned mask, bool holds) { return __ballot_sync(mask, !holds) == 0; }

template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const cuda_on_cpu::WarpValues all = cuda_on_cpu::vote("__shfl_sync", 0, mask, bits);
  std::memcpy(&value, &all.values[source & (warpSize - 1)], sizeof(T));
  return value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  const int lane = cuda_on_cpu::lane(), source = lane + static_cast<int>(delta);
  return __shfl_sync(mask, value, source < warpSize ? source : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return __shfl_sync(mask, value, cuda_on_cpu::lane() ^ lanes);
}
