// The gradient of RoIAlign without atomics: a block owns a tile of cells and adds up the boxes in their order, so that
// the same input gives the same bits. What torch.use_deterministic_algorithms asks for.
#pragma once

#include <cmath>

#include "roi_bin.h"

namespace maskray {

constexpr int kTileRows = 4;
constexpr int kTileColumns = 8;
constexpr int kTileCells = kTileRows * kTileColumns;
constexpr int kTileThreads = 256;
constexpr int kSideChannels = kTileThreads / kTileCells;  // channels that a block works on side by side
constexpr int kChannelsEach = 8;                          // channels of one thread, summed in registers
constexpr int kTileChannels = kSideChannels * kChannelsEach;

template <class T, class A>
struct GatherArguments {
  const T* grad;
  const int32_t* argmax;  // null: the mean
  const A* boxes;
  int64_t num_boxes, channels, level;
  RoiAlignSettings settings;
  LevelTable table;
};

// What the samples of one bin weigh at a cell.
template <class A>
__device__ A bin_weight(const RoiAxis<A>& axis, int64_t bin, int64_t extent, int64_t cell) {
  A first = A(0), sum = A(0);
  int64_t count = 0;
  sample_range(axis, bin, extent, first, count);
  for (int64_t i = 0; i < count; ++i) {
    int64_t low, high;
    A low_weight, high_weight;
    const A position = sample_position(axis, bin, first + static_cast<A>(i));
    if (linear_weights(position, extent, low, high, low_weight, high_weight)) {
      sum += (low == cell ? low_weight : A(0)) + (high == cell ? high_weight : A(0));
    }
  }
  return sum;
}

// What one sample weighs at a cell.
template <class A>
__device__ A sample_weight(const RoiAxis<A>& axis, int64_t bin, A sample, int64_t extent, int64_t cell) {
  int64_t low, high;
  A low_weight, high_weight;
  if (!linear_weights(sample_position(axis, bin, sample), extent, low, high, low_weight, high_weight)) {
    return A(0);
  }
  return (low == cell ? low_weight : A(0)) + (high == cell ? high_weight : A(0));
}

// Whether any sample of an axis may reach cells first .. last. Two cells wider than need be: rounding cannot hide one.
template <class A>
__device__ bool may_reach(const RoiAxis<A>& axis, int64_t pooled, int64_t extent, int64_t first, int64_t last) {
  if (axis.grid == A(0)) {
    return false;
  }
  const A limit = static_cast<A>(extent - 1);
  const A low = axis.start - A(2), high = axis.start + axis.bin * static_cast<A>(pooled) + A(2);
  const A lowest = low < A(0) ? A(0) : (low < limit ? low : limit);
  const A highest = high < A(0) ? A(0) : (high < limit ? high : limit);
  return lowest <= static_cast<A>(last) && highest >= static_cast<A>(first);
}

// The gradient of pooled value `i` (bin p, q) as it arrives at cell (y, x).
template <class T, class A>
__device__ A value_at_cell(
    const GatherArguments<T, A>& given, int64_t i, const RoiAxes<A>& axes, int64_t p, int64_t q, int64_t y, int64_t x,
    A bin_weights) {
  if (given.argmax == nullptr) {
    return bin_weights * (static_cast<A>(given.grad[i]) / sample_count(axes));
  }
  const LevelMap& map = given.table.maps[given.level];
  const BinSamples<A> samples(map, axes, p, q);
  const int64_t sample = given.argmax[i];
  if (sample < 0 || sample >= samples.num_rows * samples.num_columns) {
    return A(0);
  }
  const A row_weight =
      sample_weight(axes.rows, p, samples.first_row + static_cast<A>(sample / samples.num_columns), map.height, y);
  const A column_weight =
      sample_weight(axes.columns, q, samples.first_column + static_cast<A>(sample % samples.num_columns), map.width, x);
  return row_weight * column_weight * static_cast<A>(given.grad[i]);
}

// Adds one box to the sums of one thread: of cell (y, x), channels first_channel + j * kSideChannels.
template <class T, class A>
__device__ void add_box(
    const GatherArguments<T, A>& given, int64_t box, const RoiAxes<A>& axes, const A* row_weights,
    const A* column_weights, int64_t y, int64_t x, int64_t first_channel, A* sums) {
  const int64_t height = given.settings.pooled_height, width = given.settings.pooled_width;
  for (int64_t p = 0; p < height; ++p) {
    const A row_weight = row_weights[p * kTileRows];
    if (row_weight == A(0)) {
      continue;
    }
    for (int64_t q = 0; q < width; ++q) {
      const A weight = row_weight * column_weights[q * kTileColumns];
      if (weight == A(0)) {
        continue;
      }
#pragma unroll
      for (int j = 0; j < kChannelsEach; ++j) {
        const int64_t channel = first_channel + j * kSideChannels;
        if (channel < given.channels) {
          const int64_t i = ((box * given.channels + channel) * height + p) * width + q;
          sums[j] += value_at_cell(given, i, axes, p, q, y, x, weight);
        }
      }
    }
  }
}

// Which tile of which image and channels a block owns.
struct Tile {
  int64_t image, first_channel, top, left;

  __device__ Tile(int64_t block, int64_t channels, int64_t height, int64_t width) {
    const int64_t across = (width + kTileColumns - 1) / kTileColumns, down = (height + kTileRows - 1) / kTileRows;
    const int64_t groups = (channels + kTileChannels - 1) / kTileChannels;
    left = block % across * kTileColumns;
    top = block / across % down * kTileRows;
    first_channel = block / across / down % groups * kTileChannels;
    image = block / across / down / groups;
  }
};

template <class T, class A>
__global__ void gather_kernel(GatherArguments<T, A> given) {
  extern __shared__ double shared[];
  __shared__ bool reached[kTileThreads];
  const LevelMap& map = given.table.maps[given.level];
  const RoiAlignSettings& settings = given.settings;
  A* row_weights = reinterpret_cast<A*>(shared);
  A* column_weights = row_weights + settings.pooled_height * kTileRows;
  const Tile tile(blockIdx.x, given.channels, map.height, map.width);
  const int thread = threadIdx.x, row = thread / kTileColumns % kTileRows, column = thread % kTileColumns;
  const int64_t y = tile.top + row, x = tile.left + column;
  const int64_t first_channel = tile.first_channel + thread / kTileCells;
  A sums[kChannelsEach] = {};
  for (int64_t chunk = 0; chunk < given.num_boxes; chunk += kTileThreads) {
    const int64_t mine = chunk + thread;
    bool hit = false;
    if (mine < given.num_boxes && given.table.find(given.boxes, mine) == given.level) {
      const A* box = given.boxes + 5 * mine;
      const RoiAxes<A> axes = roi_axes(box, map.scale, settings);
      hit = static_cast<int64_t>(box[0]) == tile.image &&
          may_reach(axes.columns, settings.pooled_width, map.width, tile.left, tile.left + kTileColumns - 1) &&
          may_reach(axes.rows, settings.pooled_height, map.height, tile.top, tile.top + kTileRows - 1);
    }
    reached[thread] = hit;
    __syncthreads();
    for (int i = 0; i < kTileThreads; ++i) {
      if (!reached[i]) {
        continue;  // the same for all threads of the block
      }
      const RoiAxes<A> axes = roi_axes(given.boxes + 5 * (chunk + i), map.scale, settings);
      for (int64_t w = thread; w < settings.pooled_height * kTileRows; w += kTileThreads) {
        row_weights[w] = bin_weight(axes.rows, w / kTileRows, map.height, tile.top + w % kTileRows);
      }
      for (int64_t w = thread; w < settings.pooled_width * kTileColumns; w += kTileThreads) {
        column_weights[w] = bin_weight(axes.columns, w / kTileColumns, map.width, tile.left + w % kTileColumns);
      }
      __syncthreads();
      add_box(given, chunk + i, axes, row_weights + row, column_weights + column, y, x, first_channel, sums);
      __syncthreads();
    }
    __syncthreads();
  }
  if (y < map.height && x < map.width) {
    A* out = static_cast<A*>(map.data) + tile.image * map.image + y * map.row + x * map.column;
    for (int j = 0; j < kChannelsEach; ++j) {
      const int64_t channel = first_channel + j * kSideChannels;
      if (channel < given.channels) {
        out[channel * map.channel] = sums[j];
      }
    }
  }
}

// Writes every cell of every level of `table`.
template <class T, class A>
void gather_levels(GatherArguments<T, A> given, cudaStream_t stream) {
  const int64_t entries = given.settings.pooled_height * kTileRows + given.settings.pooled_width * kTileColumns;
  check(
      entries * static_cast<int64_t>(sizeof(A)) <= 40960,
      "output_size: too large for the deterministic gradient on CUDA");
  for (given.level = 0; given.level < given.table.count; ++given.level) {
    const LevelMap& map = given.table.maps[given.level];
    const int64_t across = (map.width + kTileColumns - 1) / kTileColumns;
    const int64_t down = (map.height + kTileRows - 1) / kTileRows;
    const int64_t groups = (given.channels + kTileChannels - 1) / kTileChannels;
    const int64_t blocks = across * down * groups * given.table.num_images;
    check(blocks < (int64_t(1) << 31), "features: too large for the deterministic gradient on CUDA");
    if (blocks > 0) {
      gather_kernel<T, A><<<static_cast<unsigned int>(blocks), kTileThreads, entries * sizeof(A), stream>>>(given);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    }
  }
}

}  // namespace maskray
