// Objects and detections of many images as columns, and the walk over them image by image, category by category.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "greedy.h"
#include "masks.h"

namespace maskray {

enum Kind : int64_t { kBoxes = 0, kMasks = 1, kKeypoints = 2, kBoundaries = 3 };

// Rows rows[offsets[n]] .. rows[offsets[n + 1] - 1] are of image n, in their order; the columns are by row.
struct Columns {
  int64_t num_rows;
  const int64_t* offsets;
  const int64_t* rows;
  const int32_t* classes;  // -1: of no class that is asked for
  const double* boxes;     // (num_rows, 4) x y width height
  const double* areas;
  const double* scores;     // of detections
  const uint8_t* crowd;     // of objects
  const uint8_t* ignored;   // of objects: at every level; of detections: where they are not matched
  const double* keypoints;  // of objects x y and visibility of each by turns, of detections x y
  Masks masks;
  const double* extents;   // (num_rows, 4) left top right bottom of masks, both ends included
  const double* measures;  // what the area ranges are of; null: areas

  double measure(int64_t row) const { return measures == nullptr ? areas[row] : measures[row]; }
};

struct Arguments {
  int64_t kind;
  int64_t num_images;
  const int64_t* sizes;  // (N, 2) height and width
  Columns objects, detections;
  Levels levels;
  int64_t limit;  // most detections of a category in an image
  int64_t num_keypoints;
  const double* variances;     // of keypoints, (num_keypoints,)
  const double* similarities;  // exp of what oks_exponents wrote
  double boundary_ratio;       // of the image's diagonal, for kBoundaries
};

// One category in one image: rows of objects in their order, of detections by descending score.
struct Group {
  int64_t image;
  int32_t category;
  const std::vector<int64_t>& objects;
  const std::vector<int64_t>& detections;
};

namespace columns {

struct Entry {
  int32_t category;
  double score;
  int64_t row;
};

inline void gather(const Columns& columns, int64_t image, std::vector<Entry>& entries) {
  entries.clear();
  const int64_t first = columns.offsets[image], last = columns.offsets[image + 1];
  for (int64_t i = first; i < last; ++i) {
    const int64_t row = columns.rows[i];
    demand(row >= 0 && row < columns.num_rows, "rows: row ", row, " is not there");
    if (columns.classes[row] >= 0) {
      entries.push_back({columns.classes[row], columns.scores == nullptr ? 0.0 : columns.scores[row], row});
    }
  }
  // Stable: of equal scores the first stays first.
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.category < b.category || (a.category == b.category && a.score > b.score);
  });
}

// Takes the rows of one category off the front; no more than `limit`.
inline void split(
    const std::vector<Entry>& entries, size_t& next, int32_t category, int64_t limit, std::vector<int64_t>& rows) {
  rows.clear();
  for (; next < entries.size() && entries[next].category == category; ++next) {
    if (static_cast<int64_t>(rows.size()) < limit) {
      rows.push_back(entries[next].row);
    }
  }
}

}  // namespace columns

// Calls visit(group) for every category that an image has objects or detections of, ascending, and
// done(image) after each image.
template <class Visit, class Done>
void for_each_group(const Arguments& arguments, const Visit& visit, const Done& done) {
  std::vector<columns::Entry> objects, detections;
  std::vector<int64_t> object_rows, detection_rows;
  for (int64_t image = 0; image < arguments.num_images; ++image) {
    columns::gather(arguments.objects, image, objects);
    columns::gather(arguments.detections, image, detections);
    size_t g = 0, d = 0;
    while (g < objects.size() || d < detections.size()) {
      int32_t category = g < objects.size() ? objects[g].category : detections[d].category;
      if (d < detections.size()) {
        category = std::min(category, detections[d].category);
      }
      columns::split(objects, g, category, INT64_MAX, object_rows);
      columns::split(detections, d, category, arguments.limit, detection_rows);
      visit(Group{image, category, object_rows, detection_rows});
    }
    done(image);
  }
}

}  // namespace maskray
