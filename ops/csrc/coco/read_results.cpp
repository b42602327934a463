// COCO results files to columns, block by block.
#include <cstring>
#include <string_view>

#include "exports.h"
#include "json_regions.h"

namespace maskray {
namespace {

enum ResultKind : int64_t { kOfBoxes = 0, kOfMasks = 1, kOfKeypoints = 2 };

class ResultsReader {
 public:
  // Of a file of so many bytes, 0 where that is not known.
  ResultsReader(int64_t kind, int64_t num_keypoints, int64_t bytes) : kind_(kind), num_keypoints_(num_keypoints) {
    if (kind == kOfKeypoints) {
      keypoints.expect(bytes / static_cast<int64_t>(sizeof(double)));
    } else if (kind == kOfMasks) {
      masks.text.expect(bytes);
    }
  }

  Column<int64_t> image_ids, category_ids;
  Column<double> scores, boxes, keypoints;
  MaskColumns masks;

  // Reads the entries that are whole in this text; how many bytes are done with. NotPlain where it is none of ours.
  int64_t read(const uint8_t* text, int64_t length, bool is_last) {
    JsonCursor json(text, text + length);
    const uint8_t* done = text;
    try {
      while (state_ != kDone) {
        step(json);
        done = json.place();
      }
    } catch (const CutShort&) {
      JsonCursor::insist(!is_last);
      cut(image_count_);
    }
    if (state_ == kDone) {
      JsonCursor::insist(json.only_space_left());
      done = text + length;
    }
    JsonCursor::insist(!is_last || state_ == kDone);
    return done - text;
  }

 private:
  enum State { kStart, kFirst, kNext, kEntry, kDone };

  void step(JsonCursor& json) {
    switch (state_) {
      case kStart:
        json.expect('[');
        state_ = kFirst;
        break;
      case kFirst:
        state_ = json.take(']') ? kDone : kEntry;
        break;
      case kNext:
        if (json.take(',')) {
          state_ = kEntry;
        } else {
          json.expect(']');
          state_ = kDone;
        }
        break;
      default:
        read_entry(json);
        image_count_ = image_ids.size();
        state_ = kNext;
    }
  }

  void read_entry(JsonCursor& json) {
    int64_t image_id = 0, category_id = 0;
    double score = 0;
    OnceEach once;
    read_object(json, [&](std::string_view key) {
      if (key == "image_id") {
        once(1);
        image_id = json.whole();
      } else if (key == "category_id") {
        once(2);
        category_id = json.whole();
      } else if (key == "score") {
        once(4);
        score = json.number();
      } else if (key == "bbox" && kind_ != kOfMasks) {
        once(8);
        read_pixels(json, 4, boxes);
      } else if (key == "segmentation" && kind_ == kOfMasks) {
        once(16);
        masks.read(json, false);
      } else if (key == "keypoints" && kind_ == kOfKeypoints) {
        once(32);
        read_keypoints(json);
      } else {
        json.skip();
      }
    });
    const uint64_t needed[] = {1 | 2 | 4 | 8, 1 | 2 | 4 | 16, 1 | 2 | 4 | 32};
    JsonCursor::insist(once.all(needed[kind_]));
    if (kind_ == kOfKeypoints && !once.all(8)) {
      add_box_of_keypoints();
    }
    image_ids.push(image_id);
    category_ids.push(category_id);
    scores.push(score);
  }

  // Of x, y and score of each the first two.
  void read_keypoints(JsonCursor& json) {
    keypoints.reserve(3 * num_keypoints_);
    int64_t count = 0;
    read_list(json, [&] {
      const double value = read_pixel(json);
      JsonCursor::insist(count < 3 * num_keypoints_);
      if (count++ % 3 != 2) {
        keypoints.push(value);
      }
    });
    JsonCursor::insist(count == 3 * num_keypoints_);
  }

  // The extent of the keypoints of a detection without a box.
  void add_box_of_keypoints() {
    const double* points = keypoints.data() + keypoints.size() - 2 * num_keypoints_;
    double low[2] = {points[0], points[1]}, high[2] = {points[0], points[1]};
    for (int64_t k = 1; k < num_keypoints_; ++k) {
      for (int64_t axis = 0; axis < 2; ++axis) {
        low[axis] = std::min(low[axis], points[2 * k + axis]);
        high[axis] = std::max(high[axis], points[2 * k + axis]);
      }
    }
    for (const double value : {low[0], low[1], high[0] - low[0], high[1] - low[1]}) {
      boxes.push(value);
    }
  }

  // Back to so many whole entries.
  void cut(int64_t count) {
    if (kind_ != kOfMasks) {
      boxes.cut(4 * count);
    } else {
      masks.cut(count);
    }
    if (kind_ == kOfKeypoints) {
      keypoints.cut(2 * num_keypoints_ * count);
    }
  }

  int64_t kind_, num_keypoints_;
  int64_t image_count_ = 0;
  State state_ = kStart;
};

}  // namespace

MASKRAY_EXPORT void* maskray_results_new(int64_t kind, int64_t num_keypoints, int64_t bytes) {
  const bool known = kind >= 0 && kind <= 2 && num_keypoints > 0;
  return known ? new (std::nothrow) ResultsReader(kind, num_keypoints, bytes) : nullptr;
}

MASKRAY_EXPORT void maskray_results_free(void* reader) { delete static_cast<ResultsReader*>(reader); }

// Bytes that are done with, or -1 where the text is not plain; the reader is then of no further use.
MASKRAY_EXPORT int64_t maskray_results_read(void* reader, const uint8_t* text, int64_t length, int64_t is_last) {
  try {
    return static_cast<ResultsReader*>(reader)->read(text, length, is_last != 0);
  } catch (const std::exception&) {
    return -1;
  }
}

// Address and number of values of each column; the columns live as long as the reader.
MASKRAY_EXPORT void maskray_results_columns(void* reader, const void** addresses, int64_t* sizes) {
  ResultsReader& from = *static_cast<ResultsReader*>(reader);
  ColumnList columns(addresses, sizes);
  columns.put(from.image_ids);
  columns.put(from.category_ids);
  columns.put(from.scores);
  columns.put(from.boxes);
  columns.put(from.keypoints);
  from.masks.list(columns);
}

}  // namespace maskray
