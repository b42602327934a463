// Detections of many images against their objects: every category, area range and threshold in one call.
#include "columns.h"
#include "overlaps.h"

namespace maskray {
namespace {

// What is written of the detections that are kept, image by image, by category, best first.
struct Matches {
  int64_t* counts;    // (N,) of an image
  int64_t* rows;      // of the detection
  uint64_t* matched;  // levels (greedy.h)
  uint64_t* ignored;
  int64_t* gt_counts;   // (N,) categories of an image that have objects
  int32_t* gt_classes;  // those
  int64_t* gt_objects;  // (.., A) their objects that count
};

class ImageMatcher {
 public:
  ImageMatcher(const Arguments& arguments, const Matches& matches)
      : arguments_(arguments), levels_(arguments.levels), matches_(matches), matcher_(levels_), masks_(arguments) {}

  void visit(const Group& group) {
    matcher_.start();
    add_objects(group);
    if (arguments_.kind == kMasks || arguments_.kind == kBoundaries) {
      masks_.start(group);
    }
    const int64_t num_detections = group.detections.size(), num_objects = group.objects.size();
    if (arguments_.kind == kKeypoints) {
      sum_similarities(group);
    }
    for (int64_t d = 0; d < num_detections; ++d) {
      const int64_t row = group.detections[d];
      masks_.start_detection(row);
      auto [matched, ignored] = matcher_.match([&](int64_t g) {
        const bool crowd = arguments_.objects.crowd[group.objects[g]] != 0;
        switch (arguments_.kind) {
          case kBoxes:
            return box_overlap(
                arguments_.detections.boxes + 4 * row, arguments_.objects.boxes + 4 * group.objects[g], crowd);
          case kKeypoints:
            return similarities_[g * num_detections + d];
          default:
            return masks_.overlap(g, crowd, levels_.thresholds[0]);
        }
      });
      const uint64_t harmless =
          levels_.outside(arguments_.detections.measure(row)) | (is_ignored(row) ? ~uint64_t{0} : 0);
      matches_.rows[kept_] = row;
      matches_.matched[kept_] = matched;
      matches_.ignored[kept_] = (ignored | (harmless & ~matched)) & levels_.every();
      ++kept_;
    }
    kept_of_image_ += num_detections;
    if (num_objects > 0) {
      matches_.gt_classes[classes_++] = group.category;
      ++classes_of_image_;
    }
  }

  void finish(int64_t image) {
    matches_.counts[image] = kept_of_image_;
    matches_.gt_counts[image] = classes_of_image_;
    kept_of_image_ = classes_of_image_ = 0;
  }

  int64_t kept() const { return kept_; }
  int64_t classes() const { return classes_; }

 private:
  bool is_ignored(int64_t row) const {
    return arguments_.detections.ignored != nullptr && arguments_.detections.ignored[row] != 0;
  }

  void add_objects(const Group& group) {
    int64_t* counting = matches_.gt_objects + classes_ * levels_.num_areas;
    if (!group.objects.empty()) {
      std::fill(counting, counting + levels_.num_areas, 0);
    }
    for (const int64_t row : group.objects) {
      const bool always = arguments_.objects.ignored[row] != 0;
      const uint64_t ignored = always ? levels_.every() : levels_.outside(arguments_.objects.measure(row));
      matcher_.add_object(ignored, arguments_.objects.crowd[row] != 0);
      for (int64_t a = 0; a < levels_.num_areas; ++a) {
        counting[a] += (ignored & levels_.of_area(a)) == 0 ? 1 : 0;
      }
    }
  }

  // Similarities (objects, detections) from the exponentials of the walk in oks_exponents.
  void sum_similarities(const Group& group) {
    similarities_.clear();
    for (const int64_t object : group.objects) {
      const int64_t count = labelled(object);
      for (size_t d = 0; d < group.detections.size(); ++d, position_ += count) {
        similarities_.push_back(numpy_sum(arguments_.similarities + position_, count) / static_cast<double>(count));
      }
    }
  }

  int64_t labelled(int64_t object) const {
    const double* points = arguments_.objects.keypoints + 3 * arguments_.num_keypoints * object;
    int64_t count = 0;
    for (int64_t k = 0; k < arguments_.num_keypoints; ++k) {
      count += points[3 * k + 2] > 0 ? 1 : 0;
    }
    return count == 0 ? arguments_.num_keypoints : count;
  }

  const Arguments& arguments_;
  const Levels& levels_;
  const Matches& matches_;
  GreedyMatcher matcher_;
  MaskOverlaps masks_;
  std::vector<double> similarities_;
  int64_t kept_ = 0, classes_ = 0, kept_of_image_ = 0, classes_of_image_ = 0, position_ = 0;
};

// The exponents of one object and detection: as pycocotools' computeOks, of labelled keypoints, or of all, as they lie
// beyond the object's doubled box, where none is labelled.
int64_t write_exponents(const Arguments& arguments, int64_t object, int64_t detection, double* target) {
  const int64_t keypoints = arguments.num_keypoints;
  const double* truth = arguments.objects.keypoints + 3 * keypoints * object;
  const double* found = arguments.detections.keypoints + 2 * keypoints * detection;
  const double* box = arguments.objects.boxes + 4 * object;
  const double area = arguments.objects.areas[object] + 2.220446049250313e-16;  // numpy.spacing(1)
  bool has_labels = false;
  for (int64_t k = 0; k < keypoints; ++k) {
    has_labels |= truth[3 * k + 2] > 0;
  }
  int64_t count = 0;
  for (int64_t k = 0; k < keypoints; ++k) {
    if (has_labels && !(truth[3 * k + 2] > 0)) {
      continue;
    }
    double offset[2];
    for (int64_t axis = 0; axis < 2; ++axis) {
      const double at = found[2 * k + axis], low = box[axis] - box[2 + axis], high = box[axis] + box[2 + axis] * 2;
      offset[axis] = has_labels ? at - truth[3 * k + axis] : std::max(0.0, low - at) + std::max(0.0, at - high);
    }
    target[count++] = -((offset[0] * offset[0] + offset[1] * offset[1]) / arguments.variances[k] / area / 2);
  }
  return count;
}

}  // namespace

// Writes the exponents of all keypoint similarities into `target`, which holds `capacity` of them; how many in `count`.
MASKRAY_EXPORT int64_t
maskray_oks_exponents(const Arguments* arguments, double* target, int64_t capacity, int64_t* count, char* message) {
  return guarded(message, [&] {
    *count = 0;
    for_each_group(
        *arguments,
        [&](const Group& group) {
          const int64_t most = group.objects.size() * group.detections.size() * arguments->num_keypoints;
          demand(most <= capacity - *count, "similarities: no room for them");
          for (const int64_t object : group.objects) {
            for (const int64_t detection : group.detections) {
              *count += write_exponents(*arguments, object, detection, target + *count);
            }
          }
        },
        [](int64_t) {});
  });
}

// Matches; how many detections were kept and categories written in `kept`. What `matches` points to has room for every
// row.
MASKRAY_EXPORT int64_t
maskray_match_images(const Arguments* arguments, const Matches* matches, int64_t* kept, char* message) {
  return guarded(message, [&] {
    arguments->levels.check();
    demand(arguments->kind >= kBoxes && arguments->kind <= kBoundaries, "kind: there is none of this number");
    ImageMatcher matcher(*arguments, *matches);
    for_each_group(
        *arguments, [&](const Group& group) { matcher.visit(group); }, [&](int64_t image) { matcher.finish(image); });
    kept[0] = matcher.kept();
    kept[1] = matcher.classes();
  });
}

// The matching alone, of overlaps (D, G) given; ignored (A, G) and crowd (G) of objects, areas (D) of detections.
MASKRAY_EXPORT int64_t maskray_match_overlaps(
    const Levels* levels, int64_t num_detections, int64_t num_objects, const double* overlaps,
    const uint8_t* gt_ignored, const uint8_t* crowd, const double* areas, uint64_t* matched, uint64_t* ignored,
    char* message) {
  return guarded(message, [&] {
    levels->check();
    GreedyMatcher matcher(*levels);
    matcher.start();
    for (int64_t g = 0; g < num_objects; ++g) {
      uint64_t of_object = 0;
      for (int64_t a = 0; a < levels->num_areas; ++a) {
        of_object |= gt_ignored[a * num_objects + g] != 0 ? levels->of_area(a) : 0;
      }
      matcher.add_object(of_object, crowd[g] != 0);
    }
    for (int64_t d = 0; d < num_detections; ++d) {
      const auto [at, with_ignored] = matcher.match([&](int64_t g) { return overlaps[d * num_objects + g]; });
      matched[d] = at;
      ignored[d] = with_ignored | (levels->outside(areas[d]) & ~at);
    }
  });
}

}  // namespace maskray
