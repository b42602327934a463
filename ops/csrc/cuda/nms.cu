// Greedy non-maximum suppression on CUDA: overlaps of all pairs as bits, then one block walks through them in order.
#include "launch.h"

#include "../overlap_limit.h"

namespace maskray {
namespace {

constexpr int kTile = 64;  // boxes per word of bits
using Bits = unsigned long long;

// bits[i][t] bit j: box t * 64 + j comes after box i, is of its class and overlaps it by more than the limit.
template <class T>
__global__ void overlap_kernel(
    const T* boxes, const int64_t* class_ids, int64_t count, int64_t tiles, T limit, Bits* bits) {
  const int64_t column_tile = blockIdx.x;
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kTile + threadIdx.x;
  if (column_tile < blockIdx.y) {
    return;
  }
  __shared__ T others[kTile][4];
  __shared__ int64_t other_classes[kTile];
  const int64_t first = column_tile * kTile;
  const int in_tile = static_cast<int>(count - first < kTile ? count - first : kTile);
  if (static_cast<int>(threadIdx.x) < in_tile) {
    for (int side = 0; side < 4; ++side) {
      others[threadIdx.x][side] = boxes[4 * (first + threadIdx.x) + side];
    }
    other_classes[threadIdx.x] = class_ids[first + threadIdx.x];
  }
  __syncthreads();
  if (row >= count) {
    return;
  }
  const T left = boxes[4 * row], top = boxes[4 * row + 1], right = boxes[4 * row + 2], bottom = boxes[4 * row + 3];
  const T area = (right - left) * (bottom - top);
  Bits found = 0;
  for (int j = 0; j < in_tile; ++j) {
    if (first + j <= row || other_classes[j] != class_ids[row]) {
      continue;
    }
    const T* other = others[j];
    const T width = (other[2] < right ? other[2] : right) - (left < other[0] ? other[0] : left);
    const T height = (other[3] < bottom ? other[3] : bottom) - (top < other[1] ? other[1] : top);
    const T inner = (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
    const T other_area = (other[2] - other[0]) * (other[3] - other[1]);
    if (inner / (area + other_area - inner) > limit) {
      found |= Bits(1) << j;
    }
  }
  bits[row * tiles + column_tile] = found;
}

// One block: each tile is decided by one thread, then all threads strike out what its survivors overlap.
__global__ void keep_kernel(const Bits* bits, int64_t count, int64_t tiles, Bits* removed, bool* keep) {
  __shared__ Bits survivors;
  __shared__ Bits own[kTile];
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t first = tile * kTile;
    const int in_tile = static_cast<int>(count - first < kTile ? count - first : kTile);
    if (static_cast<int>(threadIdx.x) < in_tile) {
      own[threadIdx.x] = bits[(first + threadIdx.x) * tiles + tile];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      Bits gone = removed[tile];
      Bits kept = 0;
      for (int j = 0; j < in_tile; ++j) {
        if ((gone >> j & 1) == 0) {
          kept |= Bits(1) << j;
          gone |= own[j];
        }
      }
      survivors = kept;
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < in_tile) {
      keep[first + threadIdx.x] = survivors >> threadIdx.x & 1;
    }
    for (int64_t later = tile + 1 + threadIdx.x; later < tiles; later += blockDim.x) {
      Bits gone = removed[later];
      for (int j = 0; j < in_tile; ++j) {
        if (survivors >> j & 1) {
          gone |= bits[(first + j) * tiles + later];
        }
      }
      removed[later] = gone;
    }
    __syncthreads();
  }
}

template <class T>
void suppress(const Tensor& boxes, const Tensor& class_ids, double iou_threshold, Tensor& keep) {
  const int64_t count = boxes.size(0);
  const int64_t tiles = (count + kTile - 1) / kTile;
  const cudaStream_t stream = current_stream(boxes);
  const Tensor bits = torch::stable::new_empty(boxes, {count, tiles}, ScalarType::Long);
  const Tensor removed = torch::stable::new_zeros(boxes, {tiles}, ScalarType::Long);
  Bits* bit_data = static_cast<Bits*>(bits.mutable_data_ptr());
  const dim3 grid(static_cast<unsigned int>(tiles), static_cast<unsigned int>(tiles));
  overlap_kernel<T><<<grid, kTile, 0, stream>>>(
      static_cast<const T*>(boxes.const_data_ptr()), static_cast<const int64_t*>(class_ids.const_data_ptr()), count,
      tiles, overlap_limit<T>(iou_threshold), bit_data);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  keep_kernel<<<1, kThreads, 0, stream>>>(
      bit_data, count, tiles, static_cast<Bits*>(removed.mutable_data_ptr()),
      static_cast<bool*>(keep.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor nms_keep(Tensor boxes, Tensor class_ids, double iou_threshold) {
  check_nms_arguments(boxes, class_ids);
  check_same_device(boxes, class_ids, "class_ids");
  check(boxes.size(0) <= int64_t(65535) * kTile, "boxes: more than 4 194 240");
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  Tensor keep = torch::stable::new_empty(boxes, {boxes.size(0)}, ScalarType::Bool);
  if (boxes.size(0) > 0) {
    const Tensor dense = torch::stable::contiguous(boxes);
    const Tensor classes = torch::stable::contiguous(class_ids);
    boxes.scalar_type() == ScalarType::Double ? suppress<double>(dense, classes, iou_threshold, keep)
                                              : suppress<float>(dense, classes, iou_threshold, keep);
  }
  return keep;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) {
  m.impl("nms_keep", TORCH_BOX(&nms_keep));
}

}  // namespace maskray
