// Boxes, masks and keypoints of COCO's JSON as columns.
#pragma once

#include <algorithm>
#include <cmath>

#include "../cpu/rle_text.h"
#include "../runs.h"
#include "column.h"
#include "json_lists.h"

namespace maskray {

constexpr double kFarthestPixel = 1e6;  // as formats/json_values.py has it
constexpr int64_t kMostPixels = INT32_MAX;

// A column of bytes that JsonCursor::copy_string writes to.
class TextColumn : public Column<uint8_t> {
 public:
  void append(const uint8_t* first, const uint8_t* last) {
    reserve(last - first);
    std::copy(first, last, data() + size());
    cut(size() + (last - first));
  }
};

inline double read_pixel(JsonCursor& json) {
  const double value = json.number();
  JsonCursor::insist(std::fabs(value) <= kFarthestPixel);
  return value;
}

// Exactly `count` numbers, or at least one for count -1.
inline void read_pixels(JsonCursor& json, int64_t count, Column<double>& target) {
  const int64_t before = target.size();
  read_list(json, [&] { target.push(read_pixel(json)); });
  JsonCursor::insist(count < 0 ? target.size() > before : target.size() == before + count);
}

// Masks of many entries: text, or polygons. What they cover is measured as they are read.
class MaskColumns {
 public:
  Column<int64_t> starts, lengths;  // (N,) of the text; -1 for polygons, -2 without a mask
  Column<int64_t> sizes;            // (N, 2) that a text states; 0 0 for others
  Column<double> areas;             // (N,) pixels of a text
  Column<double> extents;           // (N, 4) left top right bottom
  TextColumn text;
  Column<double> coordinates;
  Column<int64_t> polygons, objects;  // ends: (P,) of polygons in coordinates, (N,) of entries in polygons

  void read(JsonCursor& json, bool with_polygons) {
    const uint8_t c = json.peek();
    if (c == '{') {
      read_text(json);
    } else {
      JsonCursor::insist(with_polygons);
      if (c == '[') {
        read_polygons(json);
      } else {
        JsonCursor::insist(json.take_null());
        add(text.size(), -2, 0, 0, 0, Extent());
      }
    }
  }
  // Those of every file, without polygons.
  void list(ColumnList& columns) const {
    columns.put(starts);
    columns.put(lengths);
    columns.put(sizes);
    columns.put(areas);
    columns.put(extents);
    columns.put(text);
  }
  void add_none() { add(text.size(), -2, 0, 0, 0, Extent()); }

  // Forgets entries that were begun, from number `count` on.
  void cut(int64_t count) {
    if (starts.size() > count) {
      text.cut(starts.data()[count]);
      starts.cut(count);
      lengths.cut(count);
      sizes.cut(2 * count);
      areas.cut(count);
      extents.cut(4 * count);
      objects.cut(count);
    } else if (count == 0) {
      text.cut(0);
    } else if (lengths.back() >= 0) {
      text.cut(starts.back() + lengths.back());
    } else {
      text.cut(starts.back());
    }
    polygons.cut(count == 0 ? 0 : objects.back());
    coordinates.cut(polygons.size() == 0 ? 0 : polygons.back());
  }

 private:
  void add(int64_t start, int64_t length, int64_t height, int64_t width, double area, const Extent& extent) {
    starts.push(start);
    lengths.push(length);
    sizes.push(height);
    sizes.push(width);
    areas.push(area);
    for (const int64_t side : {extent.left, extent.top, extent.right, extent.bottom}) {
      extents.push(static_cast<double>(side));
    }
    objects.push(polygons.size());
  }

  void read_text(JsonCursor& json) {
    const int64_t start = text.size();
    int64_t size[2] = {0, 0}, num_sides = 0;
    bool has_counts = false, is_list = false;
    numbers_.cut(0);
    read_object(json, [&](std::string_view key) {
      if (key == "size") {
        JsonCursor::insist(num_sides == 0);
        read_list(json, [&] {
          JsonCursor::insist(num_sides < 2);
          size[num_sides++] = json.whole();
        });
      } else if (key == "counts") {
        JsonCursor::insist(!has_counts);
        has_counts = true;
        is_list = json.peek() == '[';
        if (is_list) {
          read_list(json, [&] { numbers_.push(json.whole()); });
        } else {
          json.copy_string(text);
        }
      } else {
        json.skip();
      }
    });
    const auto [height, width] = size;
    JsonCursor::insist(has_counts && num_sides == 2 && height > 0 && width > 0 && width <= kMostPixels / height);
    if (is_list) {
      write_counts(height * width);
    }
    measure(start, height, width);
  }

  // A list of run lengths as text.
  void write_counts(int64_t num_pixels) {
    JsonCursor::insist(numbers_.size() <= 2 * (num_pixels + 1));
    RleWriter writer;
    int64_t position = 0;
    for (int64_t i = 0; i < numbers_.size(); ++i) {
      const int64_t count = numbers_.data()[i];
      JsonCursor::insist(count >= 0 && count <= num_pixels - position);
      if (i % 2 == 1) {
        writer.add_ones(position, position + count);
      }
      position += count;
    }
    JsonCursor::insist(position == num_pixels);
    const auto& written = writer.finish(num_pixels);
    text.append(written.data(), written.data() + written.size());
  }

  void measure(int64_t start, int64_t height, int64_t width) {
    ExtentBuilder extent(height);
    int64_t area = 0;
    const int64_t length = text.size() - start;
    JsonCursor::insist(length <= 14 * (height * width + 1));  // as formats/segmentation.py has it
    const bool sound =
        read_rle(text.data() + start, length, height * width, [&](bool ones, int64_t begin, int64_t end) {
          if (ones && end > begin) {
            area += end - begin;
            extent.add(begin, end);
          }
        });
    JsonCursor::insist(sound);
    add(start, length, height, width, static_cast<double>(area), extent.extent());
  }

  // [], [[]], or polygons of at least three corners.
  void read_polygons(JsonCursor& json) {
    const int64_t first = coordinates.size();
    bool has_empty = false;
    int64_t count = 0;
    read_list(json, [&] {
      const int64_t before = coordinates.size();
      read_list(json, [&] { coordinates.push(read_pixel(json)); });
      const int64_t length = coordinates.size() - before;
      has_empty |= length == 0;
      JsonCursor::insist(length == 0 || (length >= 6 && length % 2 == 0));
      ++count;
      if (length > 0) {
        polygons.push(coordinates.size());
      }
    });
    JsonCursor::insist(!has_empty || count == 1);
    if (count == 0 || has_empty) {
      add_none();
      return;
    }
    double low[2] = {kFarthestPixel, kFarthestPixel}, high[2] = {-kFarthestPixel, -kFarthestPixel};
    for (int64_t i = first; i < coordinates.size(); ++i) {
      low[(i - first) % 2] = std::min(low[(i - first) % 2], coordinates.data()[i]);
      high[(i - first) % 2] = std::max(high[(i - first) % 2], coordinates.data()[i]);
    }
    // Pixels that polygons fill lie within one of their corners.
    Extent extent;
    extent.left = static_cast<int64_t>(std::floor(low[0])) - 1;
    extent.top = static_cast<int64_t>(std::floor(low[1])) - 1;
    extent.right = static_cast<int64_t>(std::ceil(high[0])) + 1;
    extent.bottom = static_cast<int64_t>(std::ceil(high[1])) + 1;
    add(text.size(), -1, 0, 0, 0, extent);
  }

  Column<int64_t> numbers_;
};

}  // namespace maskray
