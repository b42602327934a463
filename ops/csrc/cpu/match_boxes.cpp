// Matching of reference boxes with ground truth on the CPU, in memory that grows with the boxes and not with the pairs.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "../match_arguments.h"
#include "isa.h"
#include "match_kernels.h"

namespace maskray {
namespace {

template <class T>
MatchKernels<T> match_kernels();
template <>
MatchKernels<float> match_kernels<float>() {
  return MASKRAY_CHOOSE_ISA(float_match_kernels);
}
template <>
MatchKernels<double> match_kernels<double>() {
  return MASKRAY_CHOOSE_ISA(double_match_kernels);
}

// Greatest IoU of a ground-truth box, and the first and last block of references that have it (none when it is 0).
template <class T>
struct Reach {
  T iou = T(0);
  int64_t first = 0, last = -1;

  void add(const Reach& other) {
    if (other.iou > iou) {
      *this = other;
    } else if (other.iou == iou && iou > T(0)) {
      first = std::min(first, other.first);
      last = std::max(last, other.last);
    }
  }
};

template <class T>
struct GroundTruth {
  std::vector<Box<T>> boxes;      // the valid ones of all images
  std::vector<IndexOf<T>> index;  // of each in its image
  std::vector<size_t> begin;      // of each image in both, and the end

  GroundTruth(const T* data, const bool* valid, int64_t num_images, int64_t num_boxes) : begin{0} {
    for (int64_t image = 0; image < num_images; ++image) {
      for (int64_t i = 0; i < num_boxes; ++i) {
        if (valid[image * num_boxes + i]) {
          boxes.push_back(to_box(data + 4 * (image * num_boxes + i)));
          index.push_back(static_cast<IndexOf<T>>(i));
        }
      }
      begin.push_back(boxes.size());
    }
  }
};

// A block of references with the rectangle around them.
template <class T>
struct LoadedBlock {
  MatchBlock<T> columns;
  T left, top, right, bottom;
  int64_t count;

  void load(const T* references, int64_t number) {
    constexpr T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    count = number;
    left = top = infinity;
    right = bottom = -infinity;
    for (int64_t i = 0; i < kMatchBlock; ++i) {
      const Box<T> box = i < count ? to_box(references + 4 * i) : Box<T>{nan, nan, nan, nan, nan};
      columns.x0[i] = box.x0;
      columns.y0[i] = box.y0;
      columns.x1[i] = box.x1;
      columns.y1[i] = box.y1;
      columns.area[i] = box.area;
      left = box.x0 < left ? box.x0 : left;
      top = box.y0 < top ? box.y0 : top;
      right = box.x1 > right ? box.x1 : right;
      bottom = box.y1 > bottom ? box.y1 : bottom;
    }
    std::fill_n(columns.best, kMatchBlock, T(0));
    std::fill_n(columns.index, kMatchBlock, 0);
    std::fill_n(columns.reaches, kMatchBlock, 0);
  }

  // False only where every overlap with the box is 0.
  bool meets(const Box<T>& box) const { return box.x0 < right && box.x1 > left && box.y0 < bottom && box.y1 > top; }
};

template <class T>
struct Matching {
  const T* references;
  int64_t image_stride;  // between the references of two images; 0 when they share them
  int64_t num_images, num_references;
  GroundTruth<T> gt;
  T positive_iou, negative_iou;
  int8_t* labels;
  int64_t* gt_index;
  T* iou;
  const MatchKernels<T> kernels = match_kernels<T>();

  int64_t num_blocks() const { return (num_references + kMatchBlock - 1) / kMatchBlock; }

  void load(LoadedBlock<T>& block, int64_t image, int64_t number) const {
    const int64_t first = number * kMatchBlock;
    block.load(references + image * image_stride + 4 * first, std::min<int64_t>(kMatchBlock, num_references - first));
  }

  // Every reference of block `number` takes its best box; `reach` learns what each box has in this block.
  void match_block(LoadedBlock<T>& block, int64_t image, int64_t number, std::vector<Reach<T>>& reach) const {
    load(block, image, number);
    for (size_t g = gt.begin[image]; g < gt.begin[image + 1]; ++g) {
      if (block.meets(gt.boxes[g])) {
        const T greatest = kernels.update(block.columns, gt.boxes[g], gt.index[g]);
        reach[g].add({greatest, number, number});
      }
    }
    const int64_t out = image * num_references + number * kMatchBlock;
    for (int64_t i = 0; i < block.count; ++i) {
      const T best = block.columns.best[i];
      labels[out + i] = best >= positive_iou ? kPositive : best < negative_iou ? kNegative : kIgnored;
      gt_index[out + i] = block.columns.index[i];
      iou[out + i] = best;
    }
  }

  // References of block `number` that reach the greatest IoU of a box become positive.
  void force_block(LoadedBlock<T>& block, int64_t image, int64_t number, const std::vector<Reach<T>>& reach) const {
    bool loaded = false;
    for (size_t g = gt.begin[image]; g < gt.begin[image + 1]; ++g) {
      if (number < reach[g].first || number > reach[g].last) {
        continue;
      }
      if (!loaded) {
        load(block, image, number);
        loaded = true;
      }
      if (block.meets(gt.boxes[g])) {
        kernels.mark(block.columns, gt.boxes[g], reach[g].iou);
      }
    }
    int8_t* out = labels + image * num_references + number * kMatchBlock;
    for (int64_t i = 0; loaded && i < block.count; ++i) {
      out[i] = block.columns.reaches[i] != 0 ? kPositive : out[i];
    }
  }

  void run(bool force_best) const {
    std::vector<Reach<T>> reach(gt.boxes.size());
    std::mutex mutex;
    const int64_t blocks = num_blocks();
    torch::stable::parallel_for(0, num_images * blocks, 8, [&](int64_t begin, int64_t end) {
      const auto block = std::make_unique<LoadedBlock<T>>();
      std::vector<Reach<T>> own(reach.size());
      for (int64_t task = begin; task < end; ++task) {
        match_block(*block, task / blocks, task % blocks, own);
      }
      const std::scoped_lock lock(mutex);
      for (size_t g = 0; g < own.size(); ++g) {
        reach[g].add(own[g]);
      }
    });
    if (!force_best) {
      return;
    }
    torch::stable::parallel_for(0, num_images * blocks, 8, [&](int64_t begin, int64_t end) {
      const auto block = std::make_unique<LoadedBlock<T>>();
      for (int64_t task = begin; task < end; ++task) {
        force_block(*block, task / blocks, task % blocks, reach);
      }
    });
  }
};

template <class T>
void match(
    const Tensor& references, const Tensor& gt_boxes, const Tensor& gt_valid, double positive_iou, double negative_iou,
    bool force_best, const Tensor& labels, const Tensor& gt_index, const Tensor& iou) {
  const int64_t num_images = gt_boxes.size(0), num_references = references.size(references.dim() - 2);
  const Matching<T> matching{
      static_cast<const T*>(references.const_data_ptr()),
      references.dim() == 3 ? 4 * num_references : 0,
      num_images,
      num_references,
      GroundTruth<T>(
          static_cast<const T*>(gt_boxes.const_data_ptr()), static_cast<const bool*>(gt_valid.const_data_ptr()),
          num_images, gt_boxes.size(1)),
      static_cast<T>(positive_iou),
      static_cast<T>(negative_iou),
      static_cast<int8_t*>(labels.mutable_data_ptr()),
      static_cast<int64_t*>(gt_index.mutable_data_ptr()),
      static_cast<T*>(iou.mutable_data_ptr())};
  matching.run(force_best);
}

std::tuple<Tensor, Tensor, Tensor> match_boxes(
    Tensor references, Tensor gt_boxes, Tensor gt_valid, double positive_iou, double negative_iou, bool force_best) {
  check_match_arguments(references, gt_boxes, gt_valid);
  const int64_t num_images = gt_boxes.size(0), num_references = references.size(references.dim() - 2);
  Tensor labels = torch::stable::new_empty(references, {num_images, num_references}, ScalarType::Char);
  Tensor gt_index = torch::stable::new_empty(references, {num_images, num_references}, ScalarType::Long);
  Tensor iou = torch::stable::new_empty(references, {num_images, num_references});
  if (num_images > 0 && num_references > 0) {
    const auto run = references.scalar_type() == ScalarType::Double ? match<double> : match<float>;
    run(torch::stable::contiguous(references), torch::stable::contiguous(gt_boxes), torch::stable::contiguous(gt_valid),
        positive_iou, negative_iou, force_best, labels, gt_index, iou);
  }
  return {labels, gt_index, iou};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("match_boxes", TORCH_BOX(&match_boxes)); }

}  // namespace maskray
