// Soft non-maximum suppression (Bodla et al. 2017, figure 2) on the CPU: neighbours lose score and not their place.
// Groups in parallel: boxes of different groups do not touch each other's scores, so each is decided by itself.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "../arguments.h"
#include "../box_iou.h"

namespace maskray {
namespace {

template <class T>
struct ScoredBox {
  Box<T> box;
  T score;
  int64_t index;
};

struct Decay {
  double iou_threshold, sigma;
  bool gaussian;

  template <class T>
  T factor(T iou) const {
    if (gaussian) {
      return iou > T(0) ? std::exp(-(iou * iou) / static_cast<T>(sigma)) : T(1);
    }
    return static_cast<double>(iou) > iou_threshold ? T(1) - iou : T(1);
  }
};

// Decides on the boxes of one group, given in the order of their indices: of equal scores the first is taken.
template <class T>
std::vector<ScoredBox<T>> suppress(std::vector<ScoredBox<T>> live, const Decay& decay, double score_threshold) {
  std::vector<ScoredBox<T>> kept;
  while (!live.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < live.size(); ++i) {
      best = live[i].score > live[best].score ? i : best;
    }
    const ScoredBox<T> winner = live[best];
    kept.push_back(winner);
    size_t stay = 0;
    for (size_t i = 0; i < live.size(); ++i) {
      ScoredBox<T> other = live[i];
      other.score *= decay.factor(box_iou(winner.box, other.box));
      if (i != best && static_cast<double>(other.score) > score_threshold) {
        live[stay++] = other;
      }
    }
    live.resize(stay);
  }
  return kept;
}

template <class T>
void suppress_groups(
    const T* boxes, const T* scores, const int64_t* groups, int64_t count, const Decay& decay, double score_threshold,
    int64_t* order, T* new_scores) {
  std::map<int64_t, std::vector<ScoredBox<T>>> members;
  for (int64_t i = 0; i < count; ++i) {
    if (static_cast<double>(scores[i]) > score_threshold) {
      members[groups[i]].push_back({to_box(boxes + 4 * i), scores[i], i});
    }
    order[i] = -1;
    new_scores[i] = T(0);
  }
  std::vector<std::vector<ScoredBox<T>>> parts;
  parts.reserve(members.size());
  for (auto& [group, part] : members) {
    parts.push_back(std::move(part));
  }
  torch::stable::parallel_for(0, parts.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      parts[i] = suppress(std::move(parts[i]), decay, score_threshold);
    }
  });
  std::vector<ScoredBox<T>> kept;
  for (const auto& part : parts) {
    kept.insert(kept.end(), part.begin(), part.end());
  }
  std::sort(kept.begin(), kept.end(), [](const ScoredBox<T>& a, const ScoredBox<T>& b) {
    return a.score > b.score || (a.score == b.score && a.index < b.index);
  });
  for (size_t i = 0; i < kept.size(); ++i) {
    order[i] = kept[i].index;
    new_scores[i] = kept[i].score;
  }
}

std::tuple<Tensor, Tensor> soft_nms(
    Tensor boxes, Tensor scores, Tensor group_ids, double iou_threshold, double sigma, bool gaussian,
    double score_threshold) {
  check_nms_arguments(boxes, group_ids);
  check(scores.dim() == 1 && scores.size(0) == boxes.size(0), "scores: expected (N,)");
  check(scores.scalar_type() == boxes.scalar_type(), "scores: expected the dtype of boxes");
  check(sigma > 0, "sigma: expected a positive number");
  const int64_t count = boxes.size(0);
  const Tensor box_data = torch::stable::contiguous(boxes), score_data = torch::stable::contiguous(scores);
  const Tensor groups = torch::stable::contiguous(group_ids);
  Tensor order = torch::stable::new_empty(boxes, {count}, ScalarType::Long);
  Tensor new_scores = torch::stable::new_empty(boxes, {count});
  const auto run = [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    suppress_groups(
        static_cast<const T*>(box_data.const_data_ptr()), static_cast<const T*>(score_data.const_data_ptr()),
        static_cast<const int64_t*>(groups.const_data_ptr()), count, Decay{iou_threshold, sigma, gaussian},
        score_threshold, static_cast<int64_t*>(order.mutable_data_ptr()),
        static_cast<T*>(new_scores.mutable_data_ptr()));
  };
  boxes.scalar_type() == ScalarType::Double ? run(static_cast<double*>(nullptr)) : run(static_cast<float*>(nullptr));
  return {order, new_scores};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("soft_nms", TORCH_BOX(&soft_nms)); }

}  // namespace maskray
