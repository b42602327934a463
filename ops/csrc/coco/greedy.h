// The greedy matching of COCO: detections, best first, take the free object that they overlap most.
// Source: pycocotools 2.0.11, cocoeval.py (COCOeval.evaluateImg).
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "exports.h"

namespace maskray {

// A bit stands for an area range and a threshold: bit a * num_thresholds + t. Thresholds ascend.
struct Levels {
  int64_t num_areas;
  const double* areas;  // (A, 2), both ends included
  int64_t num_thresholds;
  const double* thresholds;

  void check() const {
    demand(
        num_areas > 0 && num_thresholds > 0 && num_areas * num_thresholds <= 64 &&
            std::is_sorted(thresholds, thresholds + num_thresholds),
        "thresholds: expected ascending ones, at most 64 with every area range");
  }
  uint64_t every() const { return lowest(num_areas * num_thresholds); }
  uint64_t of_area(int64_t a) const { return lowest(num_thresholds) << (a * num_thresholds); }
  bool outside(int64_t a, double area) const { return area < areas[2 * a] || area > areas[2 * a + 1]; }
  // The levels whose area range an area is out of.
  uint64_t outside(double area) const {
    uint64_t levels = 0;
    for (int64_t a = 0; a < num_areas; ++a) {
      levels |= outside(a, area) ? of_area(a) : 0;
    }
    return levels;
  }
  // The levels whose threshold an overlap reaches.
  uint64_t reached(double overlap) const {
    int64_t count = 0;
    while (count < num_thresholds && overlap >= thresholds[count]) {
      ++count;
    }
    uint64_t levels = 0;
    for (int64_t a = 0; a < num_areas; ++a) {
      levels |= lowest(count) << (a * num_thresholds);
    }
    return levels;
  }

 private:
  static uint64_t lowest(int64_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }
};

// The objects of one category in one image.
class GreedyMatcher {
 public:
  explicit GreedyMatcher(const Levels& levels) : levels_(levels) {}

  void start() {
    ignored_.clear();
    free_.clear();
    crowd_.clear();
  }
  // The levels at which an object neither counts nor harms. A crowd is never used up.
  void add_object(uint64_t ignored, bool crowd) {
    ignored_.push_back(ignored);
    free_.push_back(levels_.every());
    crowd_.push_back(crowd);
  }

  // Matches the next detection; overlap(g) is that with object g. Levels at which it is matched, and with an object
  // that is ignored.
  template <class Overlap>
  std::pair<uint64_t, uint64_t> match(const Overlap& overlap) {
    candidates_.clear();
    for (int64_t g = 0; g < static_cast<int64_t>(ignored_.size()); ++g) {
      const double value = overlap(g);
      if (value >= levels_.thresholds[0]) {
        candidates_.push_back({value, g});
      }
    }
    if (candidates_.empty()) {
      return {0, 0};
    }
    if (candidates_.size() > 1) {  // of equal overlaps the later object goes first
      std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return a.overlap > b.overlap || (a.overlap == b.overlap && a.object > b.object);
      });
    }
    uint64_t open = levels_.every();
    const uint64_t counting = take(open, [&](int64_t g) { return ~ignored_[g]; });
    const uint64_t ignoring = take(open, [&](int64_t g) { return ignored_[g]; });
    return {counting | ignoring, ignoring};
  }

 private:
  struct Candidate {
    double overlap;
    int64_t object;
  };

  // Takes objects where they are allowed, for the levels that are still open.
  template <class Allowed>
  uint64_t take(uint64_t& open, const Allowed& allowed) {
    uint64_t result = 0;
    for (const Candidate& candidate : candidates_) {
      const int64_t g = candidate.object;
      const uint64_t taken = open & free_[g] & allowed(g) & levels_.reached(candidate.overlap);
      open &= ~taken;
      result |= taken;
      free_[g] &= crowd_[g] ? ~uint64_t{0} : ~taken;
    }
    return result;
  }

  const Levels& levels_;
  std::vector<uint64_t> ignored_, free_;
  std::vector<char> crowd_;
  std::vector<Candidate> candidates_;
};

}  // namespace maskray
