// The schema of every operator of maskray; the kernels are registered by the files in cpu/ and cuda/.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(maskray, m) {
  m.def(
      "roi_align(Tensor features, Tensor boxes, int pooled_height, int pooled_width, float spatial_scale, "
      "int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor boxes, SymInt num_images, SymInt height, SymInt width, "
      "float spatial_scale, int sampling_ratio, bool aligned, bool channels_last, bool deterministic) -> Tensor");
  m.def(
      "roi_align_max(Tensor features, Tensor boxes, int pooled_height, int pooled_width, float spatial_scale, "
      "int sampling_ratio, bool aligned) -> (Tensor, Tensor)");
  m.def(
      "roi_align_max_backward(Tensor grad, Tensor argmax, Tensor boxes, SymInt num_images, SymInt height, "
      "SymInt width, float spatial_scale, int sampling_ratio, bool aligned, bool deterministic) -> Tensor");
  m.def(
      "multi_level_roi_align(Tensor[] features, Tensor boxes, Tensor levels, int pooled_height, int pooled_width, "
      "float[] spatial_scales, int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "multi_level_roi_align_backward(Tensor grad, Tensor boxes, Tensor levels, SymInt num_images, SymInt[] heights, "
      "SymInt[] widths, float[] spatial_scales, int sampling_ratio, bool aligned, bool channels_last, "
      "bool deterministic) -> Tensor[]");
  m.def(
      "multi_level_roi_align_max(Tensor[] features, Tensor boxes, Tensor levels, int pooled_height, int pooled_width, "
      "float[] spatial_scales, int sampling_ratio, bool aligned) -> (Tensor, Tensor)");
  m.def(
      "multi_level_roi_align_max_backward(Tensor grad, Tensor argmax, Tensor boxes, Tensor levels, SymInt num_images, "
      "SymInt[] heights, SymInt[] widths, float[] spatial_scales, int sampling_ratio, bool aligned, "
      "bool deterministic) -> Tensor[]");
  m.def(
      "roi_pool(Tensor features, Tensor boxes, int pooled_height, int pooled_width, float spatial_scale) "
      "-> (Tensor, Tensor)");
  m.def(
      "roi_pool_backward(Tensor grad, Tensor argmax, Tensor boxes, SymInt num_images, SymInt height, SymInt width) "
      "-> Tensor");
  m.def("nms_keep(Tensor boxes, Tensor class_ids, float iou_threshold) -> Tensor");
  m.def(
      "match_boxes(Tensor references, Tensor gt_boxes, Tensor gt_valid, float positive_iou, float negative_iou, "
      "bool force_best) -> (Tensor, Tensor, Tensor)");
  m.def(
      "soft_nms(Tensor boxes, Tensor scores, Tensor group_ids, float iou_threshold, float sigma, bool gaussian, "
      "float score_threshold) -> (Tensor, Tensor)");
  m.def("paste_masks(Tensor masks, Tensor boxes, int height, int width, float threshold) -> Tensor");
  m.def(
      "paste_masks_to_rle(Tensor masks, Tensor boxes, int height, int width, float threshold) "
      "-> (Tensor, Tensor)");
  m.def("rle_area(Tensor text, Tensor offsets, Tensor sizes) -> Tensor");
  m.def(
      "rle_iou(Tensor text, Tensor offsets, Tensor sizes, Tensor gt_text, Tensor gt_offsets, Tensor gt_sizes, "
      "Tensor crowd) -> Tensor");
  m.def("rle_encode(Tensor pixels, Tensor sizes) -> (Tensor, Tensor)");
  m.def(
      "rasterize_polygons(Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor boxes, "
      "int mask_size) -> Tensor");
  m.def(
      "crop_outlines(Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor text, "
      "Tensor text_offsets, Tensor placements, Tensor index, Tensor boxes, int height, int width, int mask_size, "
      "bool aligned, bool binary) -> Tensor");
  m.def(
      "draw_outlines(Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor text, "
      "Tensor text_offsets, Tensor placements, Tensor index, Tensor windows) -> Tensor");
}
