// Precision and recall of every category, area range, threshold and limit, from the matches of all images.
// Source: pycocotools 2.0.11, cocoeval.py (COCOeval.accumulate); equal to it to the last bit.
#include <algorithm>
#include <vector>

#include "greedy.h"

namespace maskray {
namespace {

// Detections of all images in the order of the images, of one by category, best first. Letters as in the outputs:
// precision and score (T, R, K, A, M), recall (T, K, A, M); gt_counts (K, A).
struct Detections {
  int64_t num_images;
  const int64_t* counts;  // detections of an image
  const int32_t* classes;
  const double* scores;
  const uint64_t* matched;
  const uint64_t* ignored;
  int64_t num_classes;
  const int64_t* gt_counts;
  int64_t num_levels;
  const double* recall_levels;  // ascending
  int64_t num_limits;
  const int64_t* limits;  // ascending
};

struct Curves {
  double* precision;
  double* recall;
  double* score;
};

struct Ranked {
  double score;
  uint64_t matched, ignored;
  int64_t rank;  // within its image
};

// A detection that is right: how many were until here, wrong ones too, and its place.
struct Hit {
  int64_t right, wrong, place;
};

class Accumulator {
 public:
  Accumulator(const Levels& levels, const Detections& detections, const Curves& curves)
      : levels_(levels), in_(detections), out_(curves), hits_(levels.num_thresholds) {}

  void run() {
    sort_by_class();
    for (int64_t k = 0; k < in_.num_classes; ++k) {
      auto& ranked = by_class_[k];
      // Stable: equal scores stay in the order of the images.
      std::stable_sort(
          ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) { return a.score > b.score; });
      for (int64_t a = 0; a < levels_.num_areas; ++a) {
        if (in_.gt_counts[k * levels_.num_areas + a] > 0) {
          for (int64_t m = 0; m < in_.num_limits; ++m) {
            count(ranked, a, in_.limits[m]);
            write(k, a, m);
          }
        }
      }
      std::vector<Ranked>().swap(ranked);
    }
  }

 private:
  void sort_by_class() {
    by_class_.resize(in_.num_classes);
    int64_t i = 0;
    for (int64_t image = 0; image < in_.num_images; ++image) {
      int64_t rank = 0;
      for (int64_t last = i + in_.counts[image], first = i; i < last; ++i) {
        rank = i > first && in_.classes[i] == in_.classes[i - 1] ? rank + 1 : 0;
        demand(in_.classes[i] >= 0 && in_.classes[i] < in_.num_classes, "classes: there is no ", in_.classes[i]);
        by_class_[in_.classes[i]].push_back({in_.scores[i], in_.matched[i], in_.ignored[i], rank});
      }
    }
  }

  // The hits of every threshold in one area range, of detections within a limit.
  void count(const std::vector<Ranked>& ranked, int64_t a, int64_t limit) {
    const int64_t shift = a * levels_.num_thresholds;
    const uint64_t every = levels_.of_area(a) >> shift;
    std::vector<int64_t> right(levels_.num_thresholds, 0), wrong(levels_.num_thresholds, 0);
    int64_t wrong_at_all = 0;  // thresholds
    for (std::vector<Hit>& hits : hits_) {
      hits.clear();
    }
    kept_.clear();
    for (const Ranked& detection : ranked) {
      if (detection.rank >= limit) {
        continue;
      }
      const uint64_t matched = (detection.matched >> shift) & every, ignored = (detection.ignored >> shift) & every;
      const int64_t place = static_cast<int64_t>(kept_.size());
      kept_.push_back(detection.score);
      if (matched == 0 && (ignored == 0 || ignored == every)) {  // as most are
        wrong_at_all += ignored == 0 ? 1 : 0;
        continue;
      }
      for (int64_t t = 0; t < levels_.num_thresholds; ++t) {
        const uint64_t bit = uint64_t{1} << t;
        if ((ignored & bit) != 0) {
          continue;
        }
        if ((matched & bit) != 0) {
          hits_[t].push_back({++right[t], wrong[t] + wrong_at_all, place});
        } else {
          ++wrong[t];
        }
      }
    }
  }

  void write(int64_t k, int64_t a, int64_t m) {
    const double objects = static_cast<double>(in_.gt_counts[k * levels_.num_areas + a]);
    const int64_t step = in_.num_classes * levels_.num_areas * in_.num_limits;
    const int64_t of_case = (k * levels_.num_areas + a) * in_.num_limits + m;
    for (int64_t t = 0; t < levels_.num_thresholds; ++t) {
      const std::vector<Hit>& hits = hits_[t];
      const int64_t count = hits.size();
      // The precision at a hit is the best of it and of those behind; between hits precision only falls.
      envelope_.assign(count + 1, 0.0);
      for (int64_t i = count - 1; i >= 0; --i) {
        const double right = static_cast<double>(hits[i].right), wrong = static_cast<double>(hits[i].wrong);
        envelope_[i] = std::max(envelope_[i + 1], right / (wrong + right + 2.220446049250313e-16));  // spacing(1)
      }
      out_.recall[t * step + of_case] = static_cast<double>(count) / objects;
      int64_t i = 0;
      for (int64_t r = 0; r < in_.num_levels; ++r) {
        const double level = in_.recall_levels[r];
        while (level > 0 && i < count && static_cast<double>(hits[i].right) / objects < level) {
          ++i;
        }
        // Without recall the first detection of all is there already.
        const bool reached = level > 0 ? i < count : !kept_.empty();
        const int64_t at = (t * in_.num_levels + r) * step + of_case;
        out_.precision[at] = reached ? envelope_[i] : 0.0;
        out_.score[at] = reached ? kept_[level > 0 ? hits[i].place : 0] : 0.0;
      }
    }
  }

  const Levels& levels_;
  const Detections& in_;
  const Curves& out_;
  std::vector<std::vector<Ranked>> by_class_;
  std::vector<std::vector<Hit>> hits_;
  std::vector<double> kept_, envelope_;
};

}  // namespace

// Writes the curves of categories that have objects; the others stay as they are.
MASKRAY_EXPORT int64_t
maskray_accumulate(const Levels* levels, const Detections* detections, const Curves* curves, char* message) {
  return guarded(message, [&] {
    levels->check();
    Accumulator(*levels, *detections, *curves).run();
  });
}

}  // namespace maskray
