// Greedy non-maximum suppression on CUDA: in each group a box that stays strikes out those after it that it overlaps.
//
// Ids ascend, so a group is a run of equal ids. A block walks a group in tiles of 64 boxes: overlaps within the tile as
// bits of two warp votes a box, one thread that decides which of the 64 stay, then all threads against the rest of the
// group. Four barriers for 64 boxes, no memory but a flag a box. Where groups are larger than kWalked and than 1/64 of
// all boxes, so that they are few, one multiprocessor for each would leave the others idle: overlaps of all pairs of
// such a group, from the diagonal on, go to a matrix of bits (all multiprocessors), and a block for each group reads it
// tile by tile. The matrix has at most kMatrixWords; larger inputs are taken in chunks of rows. The host knows none of
// the groups and waits for nothing.
//
// On paper, not measured yet (132 multiprocessors with 128 lanes at 1.8 GHz, some 20 instructions a pair, all boxes
// staying): 80 groups of 2,000 boxes are 160 million pairs on 80 multiprocessors, 0.18 ms; 1,280 such groups are 2.6
// billion pairs on all, 1.7 ms; one group of 10,000 boxes is 50 million pairs on all, 0.03 ms, then 157 tiles in one
// block, some 2 microseconds each, and a matrix of 12.6 MB.
#include "launch.h"

#include <limits>

#include "../overlap_limit.h"
#include "nms_tile.h"

// Tests on the CPU set smaller ones, so that few boxes take every way.
#ifndef MASKRAY_NMS_WALKED
#define MASKRAY_NMS_WALKED 2048
#endif
#ifndef MASKRAY_NMS_MATRIX_WORDS
#define MASKRAY_NMS_MATRIX_WORDS (int64_t(1) << 24)
#endif

namespace maskray {
namespace {

constexpr int kGroupThreads = 512;
constexpr int kStripes = 32;                                // blocks that share the matrix of a row of tiles
constexpr int64_t kWalked = MASKRAY_NMS_WALKED;             // boxes of a group that a block always walks
constexpr int64_t kMatrixWords = MASKRAY_NMS_MATRIX_WORDS;  // 128 MB
constexpr int64_t kRowWords = 4097;                         // of a box, which are in shared memory once a group
constexpr int64_t kMostRows = (kRowWords - 1) * kTile;      // 262,144 boxes; a larger group is walked

__device__ bool is_walked(int64_t size, int64_t most_walked) { return size <= most_walked || size > kMostRows; }

// Walks through boxes [start, end), a group; all threads of the block come here together.
template <class T>
__device__ void walk(const T* boxes, int64_t start, int64_t end, T limit, bool* keep) {
  __shared__ Box<T> tile[kTile];
  __shared__ uint64_t overlapping[kTile];
  __shared__ uint64_t kept;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / warpSize;
  for (int64_t base = start; base < end; base += kTile) {
    const int size = static_cast<int>(least(kTile, end - base));
    __syncthreads();  // keep holds what came before, and nobody needs the last tile any more
    if (thread < size) {
      tile[thread] = to_box(boxes + 4 * (base + thread));
    }
    __syncthreads();
    for (int row = warp; row < size; row += kGroupThreads / warpSize) {
      const uint64_t bits = vote_on_tile(
          [&](int column) { return column > row && column < size && overlap(tile[row], tile[column], limit); });
      if (thread % warpSize == 0) {
        overlapping[row] = bits;
      }
    }
    __syncthreads();
    if (warp == 0) {
      const uint64_t there = vote_on_tile([&](int i) { return i < size && keep[base + i]; });
      if (thread == 0) {
        kept = decide_tile(overlapping, there);
      }
    }
    __syncthreads();
    if (thread < size) {
      keep[base + thread] = kept >> thread & 1;
    }
    for (int64_t j = base + kTile + thread; j < end; j += kGroupThreads) {
      if (!keep[j]) {
        continue;
      }
      const Box<T> box = to_box(boxes + 4 * j);
      for (uint64_t left = kept; left != 0; left &= left - 1) {
        if (overlap(tile[lowest_bit(left)], box, limit)) {
          keep[j] = false;
          break;
        }
      }
    }
  }
}

// A block takes the groups that begin in a tile of boxes.
template <class T>
__global__ void walk_kernel(
    const T* boxes, const int64_t* ids, int64_t count, int64_t most_walked, T limit, bool* keep) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile, beyond = least(first + kTile, count);
  for (int64_t start = first; start < beyond; ++start) {
    if (begins_group(ids, start)) {
      const int64_t end = find_id(ids, start, start, count, true);
      if (is_walked(end - start, most_walked)) {
        walk(boxes, start, end, limit, keep);
      }
    }
  }
}

// Where the group of a box ends, or 0 where that group is walked.
__global__ void ends_kernel(const int64_t* ids, int64_t count, int64_t most_walked, int32_t* ends) {
  MASKRAY_GRID_LOOP(i, count) {
    const int64_t end = find_id(ids, i, i, count, true);
    const int64_t size = end - find_id(ids, i, 0, i, false);
    ends[i] = is_walked(size, most_walked) ? 0 : static_cast<int32_t>(end);
  }
}

// Rows [first, first + rows) of the matrix, in tiles of 64 boxes: bit k of word w of a box is whether it strikes out
// box 64 w + k, counted from the begin of its tile. Words of what is struck out already, or walked, are not written.
struct Matrix {
  uint64_t* bits;
  int64_t words, first, rows;

  __device__ uint64_t* row(int64_t box) const { return bits + (box - first) * words; }
};

// A thread takes a box of a row of tiles (y), a block every kStripes-th tile of that row (x).
template <class T>
__global__ void matrix_kernel(
    const T* boxes, const int32_t* ends, int64_t count, Matrix matrix, T limit, const bool* keep) {
  __shared__ Box<T> columns[kTile];
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t base = matrix.first + static_cast<int64_t>(blockIdx.y) * kTile, box_index = base + thread;
  int64_t farthest = 0;  // of the last box that is not walked: ends ascend
  for (int64_t i = least(base + kTile, count) - 1; i >= base && farthest == 0; --i) {
    farthest = ends[i];
  }
  const int64_t end = box_index < count && keep[box_index] ? ends[box_index] : 0;
  const Box<T> box = to_box(boxes + 4 * least(box_index, count - 1));
  for (int64_t word = blockIdx.x; base + word * kTile < farthest; word += gridDim.x) {
    const int64_t column = base + word * kTile;
    __syncthreads();  // nobody needs the last columns any more
    if (column + thread < count) {
      columns[thread] = to_box(boxes + 4 * (column + thread));
    }
    __syncthreads();
    if (column < end) {
      uint64_t bits = 0;
      const int num_columns = static_cast<int>(least(kTile, end - column));
      for (int k = word == 0 ? thread + 1 : 0; k < num_columns; ++k) {
        bits |= static_cast<uint64_t>(overlap(box, columns[k], limit)) << k;
      }
      matrix.row(box_index)[word] = bits;
    }
  }
}

// Decides on boxes [start, end) of a group as far as the matrix has them; all threads of the block come here together.
__device__ void strike(const Matrix& matrix, int64_t start, int64_t end, bool* keep) {
  __shared__ uint64_t gone[kRowWords];  // boxes that are struck out or of other groups, from the tile of `start` on
  __shared__ uint64_t overlapping[kTile];
  __shared__ uint64_t kept;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first_base = start / kTile * kTile, num_tiles = (end - first_base + kTile - 1) / kTile;
  const int64_t decided = least(end, matrix.first + matrix.rows);
  __syncthreads();  // nobody needs what another group left here
  for (int64_t t = thread; t < num_tiles; t += kGroupThreads) {
    uint64_t bits = 0;
    for (int k = 0; k < kTile; ++k) {
      const int64_t i = first_base + t * kTile + k;
      bits |= static_cast<uint64_t>(i < start || i >= end || !keep[i]) << k;
    }
    gone[t] = bits;
  }
  for (int64_t t = 0; first_base + t * kTile < decided; ++t) {
    const int64_t base = first_base + t * kTile;
    __syncthreads();
    if (thread < kTile) {
      overlapping[thread] = gone[t] >> thread & 1 ? 0 : matrix.row(base + thread)[0];
    }
    __syncthreads();
    if (thread == 0) {
      kept = decide_tile(overlapping, ~gone[t]);
    }
    __syncthreads();
    if (thread < kTile && base + thread >= start && base + thread < end) {
      keep[base + thread] = kept >> thread & 1;
    }
    for (int64_t w = 1 + thread; t + w < num_tiles; w += kGroupThreads) {
      uint64_t bits = gone[t + w];
      for (uint64_t left = kept; left != 0; left &= left - 1) {
        bits |= matrix.row(base + lowest_bit(left))[w];
      }
      gone[t + w] = bits;
    }
  }
  __syncthreads();
  for (int64_t i = decided + thread; i < end; i += kGroupThreads) {  // for the next rows
    keep[i] = !(gone[(i - first_base) / kTile] >> (i - first_base) % kTile & 1);
  }
}

// A block takes the groups that begin in a tile of the rows of the matrix, and the one that goes on at their begin.
__global__ void strike_kernel(const int64_t* ids, const int32_t* ends, int64_t count, Matrix matrix, bool* keep) {
  const int64_t base = matrix.first + static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t beyond = least(base + kTile, count);
  for (int64_t i = base; i < beyond; ++i) {
    if (ends[i] > 0 && (i == matrix.first || begins_group(ids, i))) {
      strike(matrix, i, ends[i], keep);
    }
  }
}

unsigned int tiles_of(int64_t boxes) { return static_cast<unsigned int>((boxes + kTile - 1) / kTile); }

template <class T>
void suppress(const Tensor& boxes, const Tensor& class_ids, double iou_threshold, Tensor& keep) {
  const int64_t count = boxes.size(0), most_walked = std::max(kWalked, count / kTile);
  const cudaStream_t stream = current_stream(boxes);
  const T* corners = static_cast<const T*>(boxes.const_data_ptr());
  const int64_t* ids = static_cast<const int64_t*>(class_ids.const_data_ptr());
  const T limit = overlap_limit<T>(iou_threshold);
  bool* stays = static_cast<bool*>(keep.mutable_data_ptr());
  walk_kernel<T><<<tiles_of(count), kGroupThreads, 0, stream>>>(corners, ids, count, most_walked, limit, stays);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  if (count <= most_walked) {
    return;
  }
  const int64_t words = least(tiles_of(count) + 1, kRowWords);
  const int64_t rows = least(tiles_of(count), std::max<int64_t>(kMatrixWords / words / kTile, 1)) * kTile;
  Tensor ends = torch::stable::new_empty(boxes, {count}, ScalarType::Int);
  Tensor bits = torch::stable::new_empty(boxes, {rows * words}, ScalarType::Long);
  int32_t* group_ends = static_cast<int32_t*>(ends.mutable_data_ptr());
  ends_kernel<<<num_blocks(count), kThreads, 0, stream>>>(ids, count, most_walked, group_ends);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  for (int64_t first = 0; first < count; first += rows) {
    const Matrix matrix{static_cast<uint64_t*>(bits.mutable_data_ptr()), words, first, rows};
    const dim3 stripes(kStripes, tiles_of(least(rows, count - first)));
    matrix_kernel<T><<<stripes, kTile, 0, stream>>>(corners, group_ends, count, matrix, limit, stays);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    strike_kernel<<<stripes.y, kGroupThreads, 0, stream>>>(ids, group_ends, count, matrix, stays);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

Tensor nms_keep(Tensor boxes, Tensor class_ids, double iou_threshold) {
  check_nms_arguments(boxes, class_ids);
  check_same_device(boxes, class_ids, "class_ids");
  check(boxes.size(0) <= std::numeric_limits<int32_t>::max(), "boxes: more than 2 147 483 647");
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  Tensor keep = torch::stable::new_empty(boxes, {boxes.size(0)}, ScalarType::Bool);
  if (boxes.size(0) > 0) {
    torch::stable::fill_(keep, 1.0);
    const Tensor dense = torch::stable::contiguous(boxes);
    const Tensor classes = torch::stable::contiguous(class_ids);
    boxes.scalar_type() == ScalarType::Double ? suppress<double>(dense, classes, iou_threshold, keep)
                                              : suppress<float>(dense, classes, iou_threshold, keep);
  }
  return keep;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) { m.impl("nms_keep", TORCH_BOX(&nms_keep)); }

}  // namespace maskray
