// Areas and overlaps of masks straight from COCO's compressed run lengths.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "../arguments.h"
#include "../runs.h"
#include "rle_text.h"

namespace maskray {
namespace {

// One batch of masks: text one after the other, where each begins, and height and width of each.
class Masks {
 public:
  Masks(const Tensor& text, const Tensor& offsets, const Tensor& sizes, const char* name)
      : text_(torch::stable::contiguous(text)), offsets_(torch::stable::contiguous(offsets)),
        sizes_(torch::stable::contiguous(sizes)), name_(name) {
    check(text.dim() == 1 && text.scalar_type() == ScalarType::Byte, name_, ": text is not uint8 of one dimension");
    check(
        offsets.dim() == 1 && offsets.size(0) > 0 && offsets.scalar_type() == ScalarType::Long, name_,
        ": offsets are not int64 (N + 1,)");
    check(
        sizes.dim() == 2 && sizes.size(0) == count() && sizes.size(1) == 2 && sizes.scalar_type() == ScalarType::Long,
        name_, ": sizes are not int64 (N, 2)");
    const int64_t* offset = offsets_data();
    check(offset[0] >= 0 && offset[count()] <= text.size(0), name_, ": offsets leave the text");
    for (int64_t i = 0; i < count(); ++i) {
      check(offset[i] <= offset[i + 1], name_, ": offsets descend");
      const int64_t* size = sizes_data() + 2 * i;
      check(
          size[0] >= 0 && size[1] >= 0 && size[0] <= UINT32_MAX && size[1] <= UINT32_MAX &&
              (size[1] == 0 || size[0] <= UINT32_MAX / size[1]),
          name_, ": mask ", i, " has no possible size");
    }
  }

  int64_t count() const { return offsets_.size(0) - 1; }
  bool same_size(int64_t i, const Masks& other, int64_t j) const {
    return std::equal(sizes_data() + 2 * i, sizes_data() + 2 * i + 2, other.sizes_data() + 2 * j);
  }

  template <class Visit>
  void read(int64_t i, const Visit& visit) const {
    const int64_t* offset = offsets_data() + i;
    const int64_t* size = sizes_data() + 2 * i;
    const uint8_t* text = static_cast<const uint8_t*>(text_.const_data_ptr()) + offset[0];
    check(
        read_rle(text, offset[1] - offset[0], size[0] * size[1], visit), name_, ": the counts of mask ", i,
        " are not those of ", size[0], " x ", size[1], " pixels");
  }

  std::vector<Runs> runs() const {
    std::vector<Runs> result(count());
    for (int64_t i = 0; i < count(); ++i) {
      read(i, [&](bool ones, int64_t begin, int64_t end) {
        if (ones) {
          result[i].add(begin, end);
        }
      });
    }
    return result;
  }

 private:
  const int64_t* offsets_data() const { return static_cast<const int64_t*>(offsets_.const_data_ptr()); }
  const int64_t* sizes_data() const { return static_cast<const int64_t*>(sizes_.const_data_ptr()); }

  Tensor text_, offsets_, sizes_;
  const char* name_;
};

Tensor rle_area(Tensor text, Tensor offsets, Tensor sizes) {
  const Masks masks(text, offsets, sizes, "rles");
  Tensor areas = torch::stable::new_zeros(offsets, {masks.count()});
  int64_t* area = static_cast<int64_t*>(areas.mutable_data_ptr());
  for (int64_t i = 0; i < masks.count(); ++i) {
    masks.read(i, [&](bool ones, int64_t begin, int64_t end) { area[i] += ones ? end - begin : 0; });
  }
  return areas;
}

Tensor rle_iou(
    Tensor text, Tensor offsets, Tensor sizes, Tensor gt_text, Tensor gt_offsets, Tensor gt_sizes, Tensor crowd) {
  const Masks detections(text, offsets, sizes, "detections");
  const Masks objects(gt_text, gt_offsets, gt_sizes, "ground_truth");
  check(
      crowd.dim() == 1 && crowd.size(0) == objects.count() && crowd.scalar_type() == ScalarType::Bool,
      "crowd: expected bool, one per object of ground_truth");
  const Tensor flags = torch::stable::contiguous(crowd);
  const bool* is_crowd = static_cast<const bool*>(flags.const_data_ptr());
  const std::vector<Runs> found = detections.runs(), truth = objects.runs();
  Tensor result = torch::stable::new_empty(offsets, {detections.count(), objects.count()}, ScalarType::Double);
  double* iou = static_cast<double*>(result.mutable_data_ptr());
  for (int64_t d = 0; d < detections.count(); ++d) {
    for (int64_t g = 0; g < objects.count(); ++g) {
      const bool same = detections.same_size(d, objects, g);
      check(same, "ground_truth: mask ", g, " is of another size than mask ", d, " of detections");
    }
  }
  torch::stable::parallel_for(0, detections.count(), 8, [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d) {
      for (int64_t g = 0; g < objects.count(); ++g) {
        const int64_t inner = intersection(found[d].runs, truth[g].runs);
        const int64_t outer = is_crowd[g] ? found[d].area : found[d].area + truth[g].area - inner;
        iou[d * objects.count() + g] = inner == 0 ? 0.0 : static_cast<double>(inner) / static_cast<double>(outer);
      }
    }
  });
  return result;
}

// The masks that lie one after the other in `pixels`, row after row, as text.
std::tuple<Tensor, Tensor> rle_encode(Tensor pixels, Tensor sizes) {
  check(pixels.dim() == 1 && pixels.scalar_type() == ScalarType::Byte, "pixels: expected uint8 of one dimension");
  check(
      sizes.dim() == 2 && sizes.size(1) == 2 && sizes.scalar_type() == ScalarType::Long,
      "sizes: expected int64 (N, 2)");
  const Tensor dense = torch::stable::contiguous(pixels), dense_sizes = torch::stable::contiguous(sizes);
  const uint8_t* pixel = static_cast<const uint8_t*>(dense.const_data_ptr());
  const int64_t* size = static_cast<const int64_t*>(dense_sizes.const_data_ptr());
  int64_t left = pixels.size(0);
  Tensor offsets = torch::stable::new_zeros(dense_sizes, {sizes.size(0) + 1});
  int64_t* offset = static_cast<int64_t*>(offsets.mutable_data_ptr());
  std::vector<uint8_t> texts;
  for (int64_t i = 0; i < sizes.size(0); ++i) {
    const int64_t height = size[2 * i], width = size[2 * i + 1];
    const bool fits = height > 0 && width > 0 ? width <= left / height : height >= 0 && width >= 0;
    check(fits, "sizes: mask ", i, " has more pixels than there are");
    RleWriter writer;
    for (int64_t x = 0; height > 0 && x < width; ++x) {
      for (int64_t y = 0; y < height; ++y) {
        if (pixel[y * width + x] != 0) {
          const int64_t place = x * height + y;
          writer.add_ones(place, place + 1);
        }
      }
    }
    const std::vector<uint8_t>& text = writer.finish(height * width);
    texts.insert(texts.end(), text.begin(), text.end());
    offset[i + 1] = static_cast<int64_t>(texts.size());
    pixel += height * width;
    left -= height * width;
  }
  check(left == 0, "sizes: ", left, " pixels are of no mask");
  Tensor text = torch::stable::new_empty(dense, {static_cast<int64_t>(texts.size())});
  std::copy(texts.begin(), texts.end(), static_cast<uint8_t*>(text.mutable_data_ptr()));
  return {text, offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("rle_area", TORCH_BOX(&rle_area));
  m.impl("rle_iou", TORCH_BOX(&rle_iou));
  m.impl("rle_encode", TORCH_BOX(&rle_encode));
}

}  // namespace maskray
