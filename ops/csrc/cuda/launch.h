// What every CUDA kernel needs around it: device and stream of a tensor, the grid, dispatch over the stored types.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "../arguments.h"

namespace maskray {

constexpr int kThreads = 256;

inline cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Blocks for a loop that strides over the grid.
inline unsigned int num_blocks(int64_t threads) {
  return static_cast<unsigned int>(std::min<int64_t>((threads + kThreads - 1) / kThreads, 1 << 20));
}

inline void check_same_device(const Tensor& tensor, const Tensor& other, const char* name) {
  const bool same = other.is_cuda() && other.get_device_index() == tensor.get_device_index();
  check(same, name, ": on another device");
}

// The i of a loop that strides over the grid, in 64 bits: large maps have more than 2**31 values.
#define MASKRAY_GRID_LOOP(i, total)                                                          \
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < (total); \
       i += static_cast<int64_t>(gridDim.x) * blockDim.x)

// Calls function(stored, computed) with a null pointer to each type: float is computed with for half types.
template <class Function>
void dispatch_floating(ScalarType type, const Function& function) {
  switch (type) {
    case ScalarType::Double:
      return function(static_cast<double*>(nullptr), static_cast<double*>(nullptr));
    case ScalarType::Float:
      return function(static_cast<float*>(nullptr), static_cast<float*>(nullptr));
    case ScalarType::Half:
      return function(static_cast<torch::headeronly::Half*>(nullptr), static_cast<float*>(nullptr));
    case ScalarType::BFloat16:
      return function(static_cast<torch::headeronly::BFloat16*>(nullptr), static_cast<float*>(nullptr));
    default:
      check(false, "features: expected float32, float64, float16 or bfloat16");
  }
}

// Where the values of a (N, C, H, W) tensor lie.
struct Layout {
  int64_t image, channel, row, column;

  explicit Layout(const Tensor& tensor)
      : image(tensor.stride(0)), channel(tensor.stride(1)), row(tensor.stride(2)), column(tensor.stride(3)) {}
};

// Value `i` of an output (K, C, h, w) in memory order, or with the channels fastest where the features lie so.
struct OutputIndex {
  int64_t box, channel, row, column, offset;

  __device__ OutputIndex(int64_t i, int64_t channels, int64_t height, int64_t width, bool channels_fastest) {
    if (channels_fastest) {
      channel = i % channels;
      i /= channels;
      column = i % width;
      row = i / width % height;
      box = i / width / height;
      offset = ((box * channels + channel) * height + row) * width + column;
    } else {
      offset = i;
      column = i % width;
      row = i / width % height;
      channel = i / width / height % channels;
      box = i / width / height / channels;
    }
  }
};

template <class T>
__device__ bool names_image(T image, int64_t num_images) {
  return image >= T(0) && image < static_cast<T>(num_images);
}

}  // namespace maskray
