// What every thread of RoIAlign's kernels sets up first, the samples of its bin, and how one is read and written.
#pragma once

#include "levels.h"

namespace maskray {

// The two cells of one axis that a sample lies between, and what each weighs.
template <class A>
struct SampleCells {
  int64_t low, high;
  A low_weight, high_weight;

  // False where the sample lies outside the map and is 0.
  __device__ bool find(A position, int64_t extent) {
    return linear_weights(position, extent, low, high, low_weight, high_weight);
  }
};

// The samples of one bin of one RoI, which is pooled from `level`; those beside them lie outside the map.
template <class A>
struct BinSamples {
  A first_row, first_column;
  int64_t num_rows, num_columns;

  __device__ BinSamples(const LevelMap& level, const RoiAxes<A>& axes, int64_t row, int64_t column) {
    sample_range(axes.rows, row, level.height, first_row, num_rows);
    sample_range(axes.columns, column, level.width, first_column, num_columns);
  }
};

// The bin of one RoI that a thread answers for, in one channel.
template <class A>
struct RoiBin {
  const LevelMap& level;
  RoiAxes<A> axes;
  int64_t row, column, offset;  // of the bin among its RoI's; of the channel in the values of the level
  BinSamples<A> samples;

  __device__ RoiBin(const LevelMap& level, const A* box, const OutputIndex& at, const RoiAlignSettings& settings)
      : level(level), axes(roi_axes(box, level.scale, settings)), row(at.row), column(at.column),
        offset(static_cast<int64_t>(box[0]) * level.image + at.channel * level.channel),
        samples(level, axes, at.row, at.column) {}

  __device__ bool find_row(int64_t sample, SampleCells<A>& cells) const {
    return cells.find(sample_position(axes.rows, row, samples.first_row + static_cast<A>(sample)), level.height);
  }

  __device__ bool find_column(int64_t sample, SampleCells<A>& cells) const {
    return cells.find(
        sample_position(axes.columns, column, samples.first_column + static_cast<A>(sample)), level.width);
  }

  // The value of a sample, of features stored as T.
  template <class T>
  __device__ A read(const SampleCells<A>& y, const SampleCells<A>& x) const {
    const T* map = static_cast<const T*>(level.data) + offset;
    const T* top = map + y.low * level.row;
    const T* bottom = map + y.high * level.row;
    const int64_t left = x.low * level.column, right = x.high * level.column;
    return y.low_weight * x.low_weight * static_cast<A>(top[left]) +
        y.low_weight * x.high_weight * static_cast<A>(top[right]) +
        y.high_weight * x.low_weight * static_cast<A>(bottom[left]) +
        y.high_weight * x.high_weight * static_cast<A>(bottom[right]);
  }

  // Adds the gradient of a sample to the cells that it was read from.
  __device__ void add(const SampleCells<A>& y, const SampleCells<A>& x, A value) const {
    A* map = static_cast<A*>(level.data) + offset;
    A* top = map + y.low * level.row;
    A* bottom = map + y.high * level.row;
    const int64_t left = x.low * level.column, right = x.high * level.column;
    atomicAdd(top + left, y.low_weight * x.low_weight * value);
    atomicAdd(top + right, y.low_weight * x.high_weight * value);
    atomicAdd(bottom + left, y.high_weight * x.low_weight * value);
    atomicAdd(bottom + right, y.high_weight * x.high_weight * value);
  }
};

}  // namespace maskray
