// The gradient of RoIAlign's mean on the CPU: a task is a block of channels of one map, so that no two write one cell.
#pragma once

#include "roi_levels.h"

namespace maskray {

template <class T>
class MASKRAY_INTERNAL MeanGradient {
 public:
  MeanGradient(
      const Tensor& grad, const Tensor& boxes, const Tensor* levels, const LevelSettings& settings,
      std::vector<Tensor>& results)
      : grad_(static_cast<const T*>(grad.const_data_ptr())), boxes_(static_cast<const T*>(boxes.const_data_ptr())),
        groups_(
            boxes_, levels == nullptr ? nullptr : static_cast<const int64_t*>(levels->const_data_ptr()), boxes.size(0),
            results.size(), results[0].size(0)),
        settings_(settings), results_(results), taps_(boxes.size(0)), channels_(grad.size(1)),
        bins_(grad.size(2) * grad.size(3)) {}

  void run() {
    const int64_t blocks = (channels_ + kBlock<T> - 1) / kBlock<T>;
    for (size_t level = 0; level < results_.size(); ++level) {
      const std::vector<int64_t> rois = groups_.of_level(level);
      torch::stable::parallel_for(0, rois.size(), 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          taps_[rois[i]].build_merged(
              boxes_ + 5 * rois[i], settings_, level, results_[level].size(2), results_[level].size(3));
        }
      });
      advise_huge_pages(results_[level].mutable_data_ptr(), results_[level].numel() * sizeof(T));
    }
    const int64_t count = groups_.rois.size() * blocks;
    share_tasks(count, [&](const auto& next) {
      MeanScratch<T> scratch;
      for (int64_t i = next(); i < count; i = next()) {
        const int64_t first = i % blocks * kBlock<T>;
        scatter(i / blocks, first, std::min(kBlock<T>, channels_ - first), scratch);
      }
    });
  }

 private:
  // One block of channels of one map: summed with the channels side by side, then turned around where they do not lie
  // so.
  void scatter(int64_t map, int64_t first, int64_t count, MeanScratch<T>& scratch) {
    Tensor& result = results_[map / groups_.num_images];
    const int64_t height = result.size(2), width = result.size(3), cells = height * width;
    T* image = static_cast<T*>(result.mutable_data_ptr()) + map % groups_.num_images * channels_ * cells;
    const bool direct = lies_channels_last(result);
    const int64_t stride = direct ? channels_ : count;
    int64_t top = height, bottom = 0;
    for (const int64_t k : groups_.rois[map]) {
      if (!taps_[k].empty()) {
        top = std::min<int64_t>(top, taps_[k].rows.lowest());
        bottom = std::max<int64_t>(bottom, taps_[k].rows.highest() + 1);
      }
    }
    top = std::min(top, bottom);
    if (direct) {
      for (int64_t cell = 0; cell < cells; ++cell) {
        std::fill_n(image + cell * channels_ + first, count, T(0));
      }
    } else {
      scratch.patch.reserve((bottom - top) * width * count);
      advise_huge_pages(scratch.patch.data(), scratch.patch.capacity() * sizeof(T));
      scratch.patch.assign((bottom - top) * width * count, T(0));
    }
    T* base = direct ? image + first : scratch.patch.data() - top * width * count;
    add_rois(map, first, count, base, stride, width * stride, scratch);
    if (!direct) {
      for (int64_t c = first; c < first + count; ++c) {
        std::fill_n(image + c * cells, top * width, T(0));
        std::fill_n(image + c * cells + bottom * width, (height - bottom) * width, T(0));
      }
      channel_kernels<T>().transpose(
          scratch.patch.data(), count, (bottom - top) * width, count, image + first * cells + top * width, cells);
    }
  }

  void add_rois(
      int64_t map, int64_t first, int64_t count, T* base, int64_t cell_stride, int64_t row_stride,
      MeanScratch<T>& scratch) {
    const auto& kernels = channel_kernels<T>();
    scratch.bins.resize(bins_ * count);
    for (const int64_t k : groups_.rois[map]) {
      const RoiTaps<T>& taps = taps_[k];
      if (!taps.empty()) {
        kernels.transpose(grad_ + (k * channels_ + first) * bins_, bins_, count, bins_, scratch.bins.data(), count);
        kernels.scatter_mean(
            base, row_stride, cell_stride, count, taps.rows.view(), taps.columns.view(), taps.count(),
            scratch.bins.data());
      }
    }
  }

  const T* grad_;
  const T* boxes_;
  RoiGroups groups_;
  const LevelSettings& settings_;
  std::vector<Tensor>& results_;
  std::vector<RoiTaps<T>> taps_;
  int64_t channels_, bins_;
};

}  // namespace maskray
