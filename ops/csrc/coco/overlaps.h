// How much detections overlap objects of their category: boxes, masks, boundaries of masks, keypoints.
#pragma once

#include <cmath>
#include <vector>

#include "boundary.h"
#include "columns.h"

namespace maskray {

// IoU of two boxes x y width height; with a crowd the share of the first inside it. As pycocotools' bbIou.
inline double box_overlap(const double* d, const double* g, bool crowd) {
  const double width = std::fmin(d[2] + d[0], g[2] + g[0]) - std::fmax(d[0], g[0]);
  if (width <= 0) {
    return 0;
  }
  const double height = std::fmin(d[3] + d[1], g[3] + g[1]) - std::fmax(d[1], g[1]);
  if (height <= 0) {
    return 0;
  }
  const double inner = width * height, area = d[2] * d[3];
  return inner / (crowd ? area : area + g[2] * g[3] - inner);
}

// Sum in the order of NumPy's add.reduce over a row in one piece (its pairwise sum, for at most 128 values).
inline double numpy_sum(const double* values, int64_t count) {
  if (count < 8) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      sum += values[i];
    }
    return sum;
  }
  double part[8];
  std::copy(values, values + 8, part);
  int64_t i = 8;
  for (; i + 8 <= count; i += 8) {
    for (int64_t k = 0; k < 8; ++k) {
      part[k] += values[i + k];
    }
  }
  double sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
  for (; i < count; ++i) {
    sum += values[i];
  }
  return sum;
}

// Masks of one group: those of detections once, those of objects when the first detection comes near.
class MaskOverlaps {
 public:
  explicit MaskOverlaps(const Arguments& arguments)
      : arguments_(arguments), objects_(arguments.objects.masks, "ground_truth"),
        detections_(arguments.detections.masks, "detections") {}

  void start(const Group& group) {
    group_ = &group;
    height_ = arguments_.sizes[2 * group.image];
    width_ = arguments_.sizes[2 * group.image + 1];
    if (known_.size() < group.objects.size()) {
      known_.resize(group.objects.size());
      truth_.resize(group.objects.size());
      edges_.resize(group.objects.size());
    }
    std::fill(known_.begin(), known_.end(), 0);
  }
  void start_detection(int64_t row) {
    row_ = row;
    is_read_ = false;
  }

  // IoU as pycocotools' rleIou; what cannot reach `least` is 0. Sound: quotients of whole numbers round the same way.
  double overlap(int64_t g, bool crowd, double least) {
    const double area = arguments_.detections.areas[row_];
    double most = shared_by_boxes(group_->objects[g], area);
    if (most <= 0 || most / area < least) {
      return 0;
    }
    if (known_[g] == 0) {
      objects_.read(group_->objects[g], height_, width_, truth_[g]);
      known_[g] = 1;
    }
    const double truth_area = static_cast<double>(truth_[g].area);
    most = std::fmin(most, truth_area);
    if (most / (crowd ? area : area + truth_area - most) < least) {
      return 0;
    }
    if (!is_read_) {
      detections_.read(row_, height_, width_, found_);
      is_read_ = true;
      has_edge_ = false;
    }
    const double masks = share(found_, truth_[g], crowd);
    return arguments_.kind == kBoundaries && masks >= least ? std::fmin(masks, edge_overlap(g, crowd)) : masks;
  }

 private:
  static double share(const Runs& found, const Runs& truth, bool crowd) {
    const int64_t inner = intersection(found.runs, truth.runs);
    const int64_t outer = crowd ? found.area : found.area + truth.area - inner;
    return inner == 0 ? 0.0 : static_cast<double>(inner) / static_cast<double>(outer);
  }

  // The most pixels that a detection of this area can share with an object, by their boxes.
  double shared_by_boxes(int64_t object, double area) const {
    const double* d = arguments_.detections.extents + 4 * row_;
    const double* g = arguments_.objects.extents + 4 * object;
    const double width = std::fmin(d[2], g[2]) - std::fmax(d[0], g[0]) + 1;
    const double height = std::fmin(d[3], g[3]) - std::fmax(d[1], g[1]) + 1;
    return width > 0 && height > 0 ? std::fmin(width * height, area) : 0;
  }

  double edge_overlap(int64_t g, bool crowd) {
    const int64_t distance = boundary_distance(height_, width_, arguments_.boundary_ratio);
    if (!has_edge_) {
      found_edge_ = boundary_.of(found_, height_, distance);
      has_edge_ = true;
    }
    if (known_[g] == 1) {
      edges_[g] = boundary_.of(truth_[g], height_, distance);
      known_[g] = 2;
    }
    return share(found_edge_, edges_[g], crowd);
  }

  const Arguments& arguments_;
  MaskReader objects_, detections_;
  const Group* group_ = nullptr;
  int64_t height_ = 0, width_ = 0, row_ = 0;
  bool is_read_ = false, has_edge_ = false;
  Runs found_, found_edge_;
  std::vector<char> known_;  // 1: the mask of an object is read; 2: its boundary too
  std::vector<Runs> truth_, edges_;
  Boundary boundary_;
};

}  // namespace maskray
