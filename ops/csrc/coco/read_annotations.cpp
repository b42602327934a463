// COCO annotation files to columns.
#include <memory>
#include <string_view>

#include "exports.h"
#include "json_regions.h"

namespace maskray {
namespace {

constexpr double kLargestArea = 1e15;  // as formats/coco_annotation.py has it

class AnnotationsReader {
 public:
  AnnotationsReader(bool with_masks, int64_t num_keypoints) : with_masks_(with_masks), num_keypoints_(num_keypoints) {}

  Column<int64_t> image_ids, image_sizes;  // sizes (N, 2) height and width
  Column<int64_t> ids, image_of, category_ids, iscrowd, labelled;
  Column<double> areas, boxes, keypoints;
  MaskColumns masks;
  int64_t categories[2] = {0, 0};  // where their list begins and ends in the text

  void read(const uint8_t* text, int64_t length) {
    JsonCursor json(text, text + length);
    OnceEach once;
    read_object(json, [&](std::string_view key) {
      if (key == "images") {
        once(1);
        read_list(json, [&] { read_image(json); });
      } else if (key == "annotations") {
        once(2);
        read_list(json, [&] { read_annotation(json); });
      } else if (key == "categories") {
        once(4);
        json.peek();
        categories[0] = json.place() - text;
        json.skip();
        categories[1] = json.place() - text;
      } else {
        json.skip();
      }
    });
    JsonCursor::insist(once.all(7) && json.only_space_left());
  }

 private:
  void read_image(JsonCursor& json) {
    int64_t values[3] = {0, 0, 0};
    OnceEach once;
    read_object(json, [&](std::string_view key) {
      const int64_t which = key == "id" ? 0 : key == "height" ? 1 : key == "width" ? 2 : -1;
      if (which < 0) {
        json.skip();
        return;
      }
      once(uint64_t{1} << which);
      values[which] = json.whole();
    });
    JsonCursor::insist(once.all(7) && values[1] > 0 && values[2] > 0 && values[2] <= kMostPixels / values[1]);
    image_ids.push(values[0]);
    image_sizes.push(values[1]);
    image_sizes.push(values[2]);
  }

  void read_annotation(JsonCursor& json) {
    int64_t id = 0, image_id = 0, category_id = 0, crowd = 0, stated = -1;
    double area = 0;
    OnceEach once;
    const int64_t points_before = keypoints.size();
    read_object(json, [&](std::string_view key) {
      if (key == "id") {
        once(1);
        id = json.whole();
      } else if (key == "image_id") {
        once(2);
        image_id = json.whole();
      } else if (key == "category_id") {
        once(4);
        category_id = json.whole();
      } else if (key == "bbox") {
        once(8);
        read_pixels(json, 4, boxes);
      } else if (key == "area") {
        once(16);
        area = json.number();
        JsonCursor::insist(area >= 0 && area < kLargestArea);
      } else if (key == "iscrowd") {
        once(32);
        crowd = json.whole();
        JsonCursor::insist(crowd == 0 || crowd == 1);
      } else if (key == "segmentation") {
        once(64);
        masks.read(json, true);  // read in any case: a mask that is not sound leaves its object out
      } else if (key == "keypoints") {
        once(128);
        read_keypoints(json);
      } else if (key == "num_keypoints") {
        once(256);
        stated = json.whole();
        JsonCursor::insist(stated >= 0 && static_cast<double>(stated) <= kLargestArea);
      } else {
        json.skip();
      }
    });
    JsonCursor::insist(once.all(31));
    if (!once.all(64)) {
      masks.add_none();
    }
    JsonCursor::insist(!with_masks_ || masks.lengths.back() >= -1);
    finish_keypoints(points_before, stated);
    ids.push(id);
    image_of.push(image_id);
    category_ids.push(category_id);
    iscrowd.push(crowd);
    areas.push(area);
  }

  // None, or as many as every object must have.
  void read_keypoints(JsonCursor& json) {
    if (json.take_null()) {
      return;
    }
    const int64_t before = keypoints.size();
    read_list(json, [&] { keypoints.push(read_pixel(json)); });
    const int64_t count = keypoints.size() - before;
    JsonCursor::insist(count == 0 || count == 3 * num_keypoints_);
  }

  // How many are labelled: as stated, or counted; -1 without keypoints, for which nothing may be stated.
  void finish_keypoints(int64_t before, int64_t stated) {
    if (keypoints.size() == before) {
      JsonCursor::insist(stated <= 0);
      labelled.push(-1);
      return;
    }
    int64_t counted = 0;
    for (int64_t i = before + 2; i < keypoints.size(); i += 3) {
      counted += keypoints.data()[i] > 0 ? 1 : 0;
    }
    labelled.push(stated < 0 ? counted : stated);
  }

  bool with_masks_;
  int64_t num_keypoints_;
};

}  // namespace

// The columns of an annotation file in one piece, or null where it is not plain.
MASKRAY_EXPORT void* maskray_annotations_read(
    const uint8_t* text, int64_t length, int64_t with_masks, int64_t num_keypoints) {
  try {
    auto reader = std::make_unique<AnnotationsReader>(with_masks != 0, num_keypoints);
    reader->read(text, length);
    return reader.release();
  } catch (const std::exception&) {
    return nullptr;
  }
}

MASKRAY_EXPORT void maskray_annotations_free(void* reader) { delete static_cast<AnnotationsReader*>(reader); }

// Address and number of values of each column; the columns live as long as the reader.
MASKRAY_EXPORT void maskray_annotations_columns(void* reader, const void** addresses, int64_t* sizes) {
  AnnotationsReader& from = *static_cast<AnnotationsReader*>(reader);
  ColumnList columns(addresses, sizes);
  columns.put(from.image_ids);
  columns.put(from.image_sizes);
  columns.put(from.ids);
  columns.put(from.image_of);
  columns.put(from.category_ids);
  columns.put(from.iscrowd);
  columns.put(from.labelled);
  columns.put(from.areas);
  columns.put(from.boxes);
  columns.put(from.keypoints);
  from.masks.list(columns);
  columns.put(from.masks.coordinates);
  columns.put(from.masks.polygons);
  columns.put(from.masks.objects);
  columns.put(from.categories, 2);
}

}  // namespace maskray
