// The RoIs of a pyramid, grouped by the map that each is pooled from, and the tasks that threads share.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "../arguments.h"
#include "../roi_align_geometry.h"

namespace maskray {

// Rows of the boxes by map; map = level * num_images + image. The order within a map is that of the boxes.
struct RoiGroups {
  int64_t num_images;
  std::vector<std::vector<int64_t>> rois;

  // `levels` may be null: all boxes are pooled from level 0.
  template <class T>
  RoiGroups(const T* boxes, const int64_t* levels, int64_t num_boxes, int64_t num_levels, int64_t images)
      : num_images(images), rois(num_levels * images) {
    check_image_indices(boxes, num_boxes, images);
    for (int64_t k = 0; k < num_boxes; ++k) {
      const int64_t level = levels == nullptr ? 0 : levels[k];
      const bool exists = level >= 0 && level < num_levels;
      check(exists, "levels: row ", k, " names level ", level, ", features hold ", num_levels);
      rois[level * images + static_cast<int64_t>(boxes[5 * k])].push_back(k);
    }
  }

  std::vector<int64_t> of_level(int64_t level) const {
    std::vector<int64_t> result;
    for (int64_t image = 0; image < num_images; ++image) {
      const auto& part = rois[level * num_images + image];
      result.insert(result.end(), part.begin(), part.end());
    }
    return result;
  }
};

// Calls worker(next) on each thread; next() gives the task to do, `count` or more when none is left. Tasks differ much
// in size, so threads take them one by one; each writes its own part of the result, whoever does it.
template <class Worker>
void share_tasks(int64_t count, const Worker& worker) {
  std::atomic<int64_t> taken{0};
  torch::stable::parallel_for(0, count, 1, [&](int64_t, int64_t) { worker([&] { return taken.fetch_add(1); }); });
}

}  // namespace maskray
