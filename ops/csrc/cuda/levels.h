// The levels of one call as the CUDA kernels get them: by value, so that no table is copied to the device before.
#pragma once

#include <vector>

#include "../roi_align_geometry.h"
#include "launch.h"

namespace maskray {

constexpr int64_t kMaxLevels = 16;

// One level (N, C, H, W): where its values lie, and cells per pixel.
struct LevelMap {
  void* data;
  int64_t height, width, image, channel, row, column;
  double scale;
};

struct LevelTable {
  int64_t count, num_images;
  const int64_t* levels;  // of each box; null where all are pooled from level 0
  LevelMap maps[kMaxLevels];

  LevelTable(std::vector<Tensor>& tensors, const Tensor* level_of_box, const std::vector<double>& scales)
      : count(tensors.size()), num_images(tensors[0].size(0)),
        levels(level_of_box == nullptr ? nullptr : static_cast<const int64_t*>(level_of_box->const_data_ptr())),
        maps{} {
    check(count <= kMaxLevels, "features: at most 16 levels on CUDA");
    for (int64_t i = 0; i < count; ++i) {
      const Tensor& level = tensors[i];
      maps[i] = {
          level.const_data_ptr() == nullptr ? nullptr : const_cast<void*>(level.const_data_ptr()),
          level.size(2),
          level.size(3),
          level.stride(0),
          level.stride(1),
          level.stride(2),
          level.stride(3),
          scales[i]};
    }
  }

  // The level that row `box` of the boxes is pooled from; -1 where it names none, or no image, or an empty map.
  template <class A>
  __device__ int64_t find(const A* boxes, int64_t box) const {
    const int64_t level = levels == nullptr ? 0 : levels[box];
    const bool exists = level >= 0 && level < count && names_image(boxes[5 * box], num_images);
    return exists ? level : -1;
  }
};

inline bool lies_channels_last(const Tensor& tensor) { return tensor.size(1) > 1 && tensor.stride(1) == 1; }

}  // namespace maskray
