// RoIAlign's mean on the CPU: the RoIs of all levels as tasks that threads share.
#pragma once

#include "roi_levels.h"

namespace maskray {

// RoIs first .. last - 1 of a map; all channels of each, or the channels from first_channel on.
struct MeanTask {
  int64_t map, first, last, first_channel, num_channels;
};

template <class T>
std::vector<MeanTask> make_mean_tasks(const RoiGroups& groups, const std::vector<RoiSource<T>>& sources) {
  constexpr int64_t batch = 4;
  std::vector<MeanTask> tasks;
  for (int64_t map = 0; map < static_cast<int64_t>(groups.rois.size()); ++map) {
    const RoiSource<T>& source = sources[map / groups.num_images];
    const int64_t count = groups.rois[map].size(), channels = source.channels();
    if (source.busy()) {
      for (int64_t c = 0; count > 0 && c < channels; c += kBlock<T>) {
        tasks.push_back({map, 0, count, c, std::min(kBlock<T>, channels - c)});
      }
    } else {
      for (int64_t first = 0; first < count; first += batch) {
        tasks.push_back({map, first, std::min(first + batch, count), 0, channels});
      }
    }
  }
  return tasks;
}

template <class T>
class MASKRAY_INTERNAL MeanPooling {
 public:
  MeanPooling(
      const std::vector<Tensor>& features, const Tensor& boxes, const Tensor* levels, const LevelSettings& settings,
      Tensor& output)
      : boxes_(static_cast<const T*>(boxes.const_data_ptr())),
        groups_(
            boxes_, levels == nullptr ? nullptr : static_cast<const int64_t*>(levels->const_data_ptr()), boxes.size(0),
            features.size(), features[0].size(0)),
        sources_(to_sources(features, boxes_, groups_, settings)), settings_(settings),
        tasks_(make_mean_tasks(groups_, sources_)), taps_(boxes.size(0)), channels_(features[0].size(1)),
        bins_(settings.common.pooled_height * settings.common.pooled_width),
        output_(static_cast<T*>(output.mutable_data_ptr())) {}

  void run() {
    build_taps();
    const int64_t count = tasks_.size();
    share_tasks(count, [&](const auto& next) {
      MeanScratch<T> scratch;
      for (int64_t i = next(); i < count; i = next()) {
        pool(tasks_[i], scratch);
      }
    });
  }

 private:
  void build_taps() {
    const int64_t maps = groups_.rois.size();
    for (int64_t map = 0; map < maps; ++map) {
      const int64_t level = map / groups_.num_images;
      const auto& rois = groups_.rois[map];
      const RoiSource<T>& source = sources_[level];
      torch::stable::parallel_for(0, rois.size(), 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          taps_[rois[i]].build_merged(boxes_ + 5 * rois[i], settings_, level, source.height(), source.width());
        }
      });
    }
  }

  void pool(const MeanTask& task, MeanScratch<T>& scratch) {
    const RoiSource<T>& source = sources_[task.map / groups_.num_images];
    const int64_t image = task.map % groups_.num_images, count = task.num_channels;
    const auto& kernels = channel_kernels<T>();
    if (source.busy()) {
      scratch.patch.reserve(source.height() * source.width() * count);
      advise_huge_pages(scratch.patch.data(), scratch.patch.capacity() * sizeof(T));
      scratch.patch.resize(source.height() * source.width() * count);
      source.turn_channels(image, task.first_channel, count, scratch.patch.data());
    }
    scratch.bins.resize(bins_ * count);
    for (int64_t i = task.first; i < task.last; ++i) {
      const int64_t k = groups_.rois[task.map][i];
      RoiTaps<T>& taps = taps_[k];
      T* out = output_ + (k * channels_ + task.first_channel) * bins_;
      if (taps.empty()) {
        std::fill_n(out, count * bins_, T(0));
        continue;
      }
      int64_t row_stride = source.width() * count;
      const T* base = source.busy()
          ? scratch.patch.data()
          : source.locate(image, taps.rows, taps.columns, scratch.used_rows, scratch.patch, row_stride);
      kernels.pool_mean(
          base, row_stride, count, taps.rows.view(), taps.columns.view(), taps.count(), scratch.bins.data());
      kernels.transpose(scratch.bins.data(), count, bins_, count, out, bins_);
    }
  }

  const T* boxes_;
  RoiGroups groups_;
  std::vector<RoiSource<T>> sources_;
  const LevelSettings& settings_;
  std::vector<MeanTask> tasks_;
  std::vector<RoiTaps<T>> taps_;
  int64_t channels_, bins_;
  T* output_;
};

}  // namespace maskray
