// Small kernels, one of them sound and each of the others with a mistake, to see that it is found.
#include "launch.h"

namespace maskray {
namespace {

constexpr int kPlantedThreads = 64;

// Each value becomes that of its neighbour in the block, and then the sum over its warp of what lies there.
__global__ void sound_kernel(const float* values, float* output) {
  extern __shared__ double bytes[];
  __shared__ float held[kPlantedThreads];
  float* copies = reinterpret_cast<float*>(bytes);
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  held[threadIdx.x] = values[i];
  __syncthreads();
  copies[threadIdx.x] = held[(threadIdx.x + 1) % blockDim.x];
  __syncthreads();
  float sum = copies[threadIdx.x];
  for (int lanes = warpSize / 2; lanes > 0; lanes /= 2) {
    sum += __shfl_xor_sync(~0u, sum, lanes);
  }
  const unsigned above = __ballot_sync(~0u, copies[threadIdx.x] > 0);
  output[i] = (above >> (threadIdx.x % warpSize) & 1) != 0 ? sum : 0.0f;
}

// All threads of all blocks write one place, none of them in order with another.
__global__ void race_kernel(const float* values, float* output) { output[0] += values[threadIdx.x]; }

// The last thread writes one behind the end of shared memory.
__global__ void bounds_kernel(const float* values, float* output) {
  __shared__ float held[kPlantedThreads];
  held[threadIdx.x + 1] = values[threadIdx.x];
  output[threadIdx.x] = held[threadIdx.x];
}

// Each thread reads what its neighbour has written, with no barrier between.
__global__ void no_barrier_kernel(const float* values, float* output) {
  __shared__ float held[kPlantedThreads];
  held[threadIdx.x] = values[threadIdx.x];
  output[threadIdx.x] = held[(threadIdx.x + 1) % blockDim.x];
}

// Half of the threads never come to the barrier.
__global__ void half_barrier_kernel(const float* values, float* output) {
  if (threadIdx.x < blockDim.x / 2) {
    __syncthreads();
  }
  output[threadIdx.x] = values[threadIdx.x];
}

// A thread of the mask does not vote.
__global__ void half_vote_kernel(const float* values, float* output) {
  const int i = threadIdx.x;
  output[i] = i % 2 == 0 && __any_sync(~0u, values[i] > 0) ? 1.0f : 0.0f;
}

Tensor run(Tensor values, int64_t which) {
  using Kernel = void (*)(const float*, float*);
  constexpr Kernel kKernels[] = {sound_kernel,      race_kernel,         bounds_kernel,
                                 no_barrier_kernel, half_barrier_kernel, half_vote_kernel};
  Tensor output = torch::stable::new_zeros(values, values.sizes());
  const Kernel kernel = kKernels[which];
  const unsigned int blocks = which <= 1 ? static_cast<unsigned int>(values.numel() / kPlantedThreads) : 1;
  kernel<<<blocks, kPlantedThreads, kPlantedThreads * sizeof(float), current_stream(values)>>>(
      static_cast<const float*>(values.const_data_ptr()), static_cast<float*>(output.mutable_data_ptr()));
  return output;
}

}  // namespace

STABLE_TORCH_LIBRARY(planted, m) { m.def("run(Tensor values, int which) -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(planted, CUDA, m) { m.impl("run", TORCH_BOX(&run)); }

}  // namespace maskray
