// Areas and extents of masks.
#include "masks.h"

namespace maskray {

// areas (N,) in pixels and extents (N, 4) left top right bottom, both ends included, of masks of images of these sizes
// (N, 2) height and width.
MASKRAY_EXPORT int64_t maskray_measure_masks(
    const Masks* masks, int64_t count, const int64_t* sizes, double* areas, double* extents, char* message) {
  return guarded(message, [&] {
    MaskReader reader(*masks, "masks");
    Runs runs;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t height = sizes[2 * i], width = sizes[2 * i + 1];
      demand(height > 0 && width > 0 && width <= INT32_MAX / height, "masks: mask ", i, " has no possible size");
      reader.read(i, height, width, runs);
      ExtentBuilder extent(height);
      for (const Run& run : runs.runs) {
        extent.add(run.begin, run.end);
      }
      areas[i] = static_cast<double>(runs.area);
      const Extent& found = extent.extent();
      const int64_t sides[4] = {found.left, found.top, found.right, found.bottom};
      std::copy(sides, sides + 4, extents + 4 * i);
    }
  });
}

}  // namespace maskray
