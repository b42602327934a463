// What became of every detection and object of an image, whatever its class: right, or wrong in which way.
// Source: tidecv 1.0.1 (Bolya et al. 2020, "TIDE", sections 2 and 3), quantify.py; equal to it where scores differ.
#include "columns.h"
#include "overlaps.h"

namespace maskray {
namespace {

enum Verdict : uint8_t { kRight = 0, kClass = 1, kPlace = 2, kBoth = 3, kDuplicate = 4, kBackground = 5 };
enum Fate : uint8_t { kFound = 0, kFixable = 1, kMissed = 2 };
enum Flag : uint8_t { kInCrowd = 1, kFixes = 2 };

struct Limits {
  double enough;  // overlap of a detection that is right
  double little;  // overlap at most which it is of the background
  int64_t most;   // detections of an image
};

// Detections image by image, best first; objects that count in their order.
struct Diagnosis {
  int64_t* counts;     // (N,) of an image
  int64_t* rows;       // of the detection
  uint8_t* verdicts;   // Verdict
  uint8_t* flags;      // Flag
  int64_t* objects;    // row of the object that the verdict is about, -1 without
  int64_t* pairs;      // row of the object that it is paired with whatever the classes, -1 without
  double* overlaps;    // with the object it overlaps most
  int64_t* gt_counts;  // (N,)
  int64_t* gt_rows;
  uint8_t* fates;       // Fate
  double* gt_overlaps;  // with the detection it overlaps most
};

class Diagnoser {
 public:
  Diagnoser(const Arguments& arguments, const Limits& limits, const Diagnosis& out)
      : in_(arguments), limits_(limits), out_(out), masks_(arguments) {}

  void run(int64_t image) {
    gather(image);
    measure(image);
    match();
    for (int64_t d = 0; d < num_detections(); ++d) {
      judge(d);
      pair(d);
    }
    write(image);
  }
  int64_t kept() const { return kept_; }
  int64_t kept_objects() const { return kept_objects_; }

 private:
  int64_t num_detections() const { return static_cast<int64_t>(detections_.size()); }
  bool same(int64_t d, int64_t g) const {
    return in_.detections.classes[detections_[d]] == in_.objects.classes[objects_[g]];
  }
  double overlap(int64_t d, int64_t g) const { return overlaps_[d * objects_.size() + g]; }

  // Objects that count, and behind them those that do not; detections by score, of equal ones the first first.
  void gather(int64_t image) {
    objects_.clear();
    detections_.clear();
    for (const bool ignored : {false, true}) {
      for (int64_t i = in_.objects.offsets[image]; i < in_.objects.offsets[image + 1]; ++i) {
        const int64_t row = row_of(in_.objects, i);
        if (in_.objects.classes[row] >= 0 && (in_.objects.ignored[row] != 0) == ignored) {
          objects_.push_back(row);
        }
      }
      counting_ = ignored ? counting_ : static_cast<int64_t>(objects_.size());
    }
    for (int64_t i = in_.detections.offsets[image]; i < in_.detections.offsets[image + 1]; ++i) {
      const int64_t row = row_of(in_.detections, i);
      if (in_.detections.classes[row] >= 0) {
        detections_.push_back(row);
      }
    }
    std::stable_sort(detections_.begin(), detections_.end(), [&](int64_t a, int64_t b) {
      return in_.detections.scores[a] > in_.detections.scores[b];
    });
    detections_.resize(std::min<int64_t>(num_detections(), limits_.most));
  }

  static int64_t row_of(const Columns& columns, int64_t i) {
    const int64_t row = columns.rows[i];
    demand(row >= 0 && row < columns.num_rows, "rows: row ", row, " is not there");
    return row;
  }

  void measure(int64_t image) {
    const Group group{image, 0, objects_, detections_};
    const int64_t num_objects = objects_.size();
    overlaps_.assign(num_detections() * num_objects, 0.0);
    masks_.start(group);
    for (int64_t d = 0; d < num_detections(); ++d) {
      masks_.start_detection(detections_[d]);
      for (int64_t g = 0; g < num_objects; ++g) {
        const bool crowd = g >= counting_;
        overlaps_[d * num_objects + g] = in_.kind == kBoxes
            ? box_overlap(in_.detections.boxes + 4 * detections_[d], in_.objects.boxes + 4 * objects_[g], crowd)
            : masks_.overlap(g, crowd, limits_.little);
      }
    }
  }

  // The allowed object that a detection overlaps most, of equal ones the first; -1 where it overlaps none.
  template <class Allowed>
  int64_t best(int64_t d, const Allowed& allowed) const {
    int64_t found = -1;
    double most = 0;
    for (int64_t g = 0; g < counting_; ++g) {
      if (overlap(d, g) > most && allowed(g)) {
        found = g;
        most = overlap(d, g);
      }
    }
    return found;
  }
  double overlap_or_none(int64_t d, int64_t g) const { return g < 0 ? 0.0 : overlap(d, g); }

  void match() {
    used_.assign(counting_, 0);
    paired_.assign(counting_, 0);
    fixed_by_.assign(counting_, -1);
    matched_.assign(num_detections(), -1);
    in_crowd_.assign(num_detections(), 0);
    for (int64_t d = 0; d < num_detections(); ++d) {
      const int64_t g = best(d, [&](int64_t at) { return used_[at] == 0 && same(d, at); });
      if (overlap_or_none(d, g) >= limits_.enough) {
        matched_[d] = g;
        used_[g] = 1;
        continue;
      }
      for (int64_t c = counting_; c < static_cast<int64_t>(objects_.size()); ++c) {
        in_crowd_[d] |= overlap(d, c) > limits_.enough && same(d, c) ? 1 : 0;
      }
    }
  }

  void judge(int64_t d) {
    int64_t about = matched_[d];
    const Verdict verdict = about >= 0 ? kRight : error_of(d, about);
    if ((verdict == kClass || verdict == kPlace) && used_[about] == 0 && fixed_by_[about] < 0) {
      fixed_by_[about] = kept_ + d;
    }
    const int64_t at = kept_ + d;
    out_.rows[at] = detections_[d];
    out_.verdicts[at] = verdict;
    out_.flags[at] = in_crowd_[d] != 0 ? kInCrowd : 0;
    out_.objects[at] = about < 0 ? -1 : objects_[about];
    out_.overlaps[at] = overlap_or_none(d, best(d, [](int64_t) { return true; }));
  }

  Verdict error_of(int64_t d, int64_t& about) const {
    const double enough = limits_.enough, little = limits_.little;
    about = best(d, [&](int64_t g) { return same(d, g); });
    const double of_class = overlap_or_none(d, about);
    if (about >= 0 && little <= of_class && of_class <= enough) {
      return kPlace;
    }
    about = best(d, [&](int64_t g) { return !same(d, g); });
    if (overlap_or_none(d, about) >= enough) {
      return kClass;
    }
    about = best(d, [&](int64_t g) { return used_[g] != 0 && same(d, g); });
    if (overlap_or_none(d, about) >= enough) {
      return kDuplicate;
    }
    about = best(d, [](int64_t) { return true; });
    if (overlap_or_none(d, about) <= little) {
      about = -1;
      return kBackground;
    }
    return kBoth;
  }

  // Of all classes: for the confusion of one with another.
  void pair(int64_t d) {
    const int64_t g = best(d, [&](int64_t at) { return paired_[at] == 0; });
    const bool reached = overlap_or_none(d, g) >= limits_.enough;
    out_.pairs[kept_ + d] = reached ? objects_[g] : -1;
    if (reached) {
      paired_[g] = 1;
    }
  }

  void write(int64_t image) {
    for (int64_t g = 0; g < counting_; ++g, ++kept_objects_) {
      out_.gt_rows[kept_objects_] = objects_[g];
      out_.fates[kept_objects_] = used_[g] != 0 ? kFound : fixed_by_[g] >= 0 ? kFixable : kMissed;
      double most = 0;
      for (int64_t d = 0; d < num_detections(); ++d) {
        most = std::max(most, overlap(d, g));
      }
      out_.gt_overlaps[kept_objects_] = most;
      if (fixed_by_[g] >= 0) {
        out_.flags[fixed_by_[g]] |= kFixes;
      }
    }
    out_.counts[image] = num_detections();
    out_.gt_counts[image] = counting_;
    kept_ += num_detections();
  }

  const Arguments& in_;
  const Limits& limits_;
  const Diagnosis& out_;
  MaskOverlaps masks_;
  int64_t counting_ = 0, kept_ = 0, kept_objects_ = 0;
  std::vector<int64_t> objects_, detections_, fixed_by_, matched_;
  std::vector<char> used_, paired_, in_crowd_;
  std::vector<double> overlaps_;
};

}  // namespace

// Judges; how many detections and objects were written in `kept`. What `out` points to has room for every row.
MASKRAY_EXPORT int64_t
maskray_diagnose(const Arguments* arguments, const Limits* limits, const Diagnosis* out, int64_t* kept, char* message) {
  return guarded(message, [&] {
    demand(
        arguments->kind == kBoxes || arguments->kind == kMasks || arguments->kind == kBoundaries,
        "kind: expected boxes or masks");
    demand(
        limits->most >= 0 && limits->little > 0 && limits->enough > limits->little,
        "limits: expected 0 < little < enough");
    Diagnoser diagnoser(*arguments, *limits, *out);
    for (int64_t image = 0; image < arguments->num_images; ++image) {
      diagnoser.run(image);
    }
    kept[0] = diagnoser.kept();
    kept[1] = diagnoser.kept_objects();
  });
}

}  // namespace maskray
