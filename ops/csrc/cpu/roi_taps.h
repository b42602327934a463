// The taps of one axis of one RoI, in a form that the channel kernels take.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../roi_align_geometry.h"
#include "channel_kernels.h"

namespace maskray {

template <class T>
class AxisTaps {
 public:
  RoiAxis<T> axis{};

  // One entry per distinct cell of a bin, the weights of its samples added up: RoIAlign's mean is separable.
  void build_merged(const RoiAxis<T>& new_axis, int64_t pooled, int64_t extent) {
    build(new_axis, pooled, extent, true);
  }

  // Two entries per sample, in the order of the samples.
  void build_samples(const RoiAxis<T>& new_axis, int64_t pooled, int64_t extent) {
    build(new_axis, pooled, extent, false);
  }

  bool empty() const { return cells_.empty(); }
  int32_t lowest() const { return *std::min_element(cells_.begin(), cells_.end()); }
  int32_t highest() const { return *std::max_element(cells_.begin(), cells_.end()); }
  const uint8_t* outside() const { return outside_.data(); }

  TapView<T> view() const {
    return {begin_.data(), cells_.data(), weights_.data(), static_cast<int64_t>(begin_.size()) - 1};
  }

  // Renumber the cells from 0 in ascending order, without gaps; `used` receives what each number stood for.
  void compact(std::vector<int32_t>& used) {
    used = cells_;
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    const int32_t lowest = used.front();
    number_.resize(used.back() - lowest + 1);
    for (size_t i = 0; i < used.size(); ++i) {
      number_[used[i] - lowest] = static_cast<int32_t>(i);
    }
    for (int32_t& cell : cells_) {
      cell = number_[cell - lowest];
    }
  }

  void shift(int32_t amount) {
    for (int32_t& cell : cells_) {
      cell += amount;
    }
  }

 private:
  void build(const RoiAxis<T>& new_axis, int64_t pooled, int64_t extent, bool merge) {
    axis = new_axis;
    begin_.assign(1, 0);
    cells_.clear();
    weights_.clear();
    outside_.assign(pooled, 0);
    for (int64_t p = 0; p < pooled; ++p) {
      T first = T(0);
      int64_t count = 0;
      sample_range(axis, p, extent, first, count);
      int64_t inside = 0;
      for (int64_t i = 0; i < count; ++i) {
        const T position = sample_position(axis, p, first + static_cast<T>(i));
        int64_t low = 0, high = 0;
        T low_weight = T(0), high_weight = T(0);
        if (linear_weights(position, extent, low, high, low_weight, high_weight)) {
          add(low, low_weight, merge);
          add(high, high_weight, merge);
          ++inside;
        }
      }
      outside_[p] = static_cast<T>(inside) < axis.grid;
      begin_.push_back(static_cast<int32_t>(cells_.size()));
    }
  }

  void add(int64_t cell, T weight, bool merge) {
    const size_t size = cells_.size();
    const size_t bin_begin = static_cast<size_t>(begin_.back());
    // Samples ascend, so an equal cell is among the last two entries of the bin.
    for (size_t back = 1; merge && back <= 2 && bin_begin + back <= size; ++back) {
      if (cells_[size - back] == cell) {
        weights_[size - back] += weight;
        return;
      }
    }
    cells_.push_back(static_cast<int32_t>(cell));
    weights_.push_back(weight);
  }

  std::vector<int32_t> begin_, cells_, number_;
  std::vector<T> weights_;
  std::vector<uint8_t> outside_;
};

}  // namespace maskray
