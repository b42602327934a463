// Matching of reference boxes with ground truth on CUDA: one thread per reference, in memory that grows with the boxes.
#include "launch.h"

#include "../box_iou.h"
#include "../match_arguments.h"

namespace maskray {
namespace {

// Numbers from 0 up have the order of their bits as integers: so the greatest IoU is kept without a lock.
__device__ void keep_greatest(float* greatest, float iou) {
  if (iou > *static_cast<volatile float*>(greatest)) {
    atomicMax(reinterpret_cast<int*>(greatest), __float_as_int(iou));
  }
}

__device__ void keep_greatest(double* greatest, double iou) {
  if (iou > *static_cast<volatile double*>(greatest)) {
    atomicMax(reinterpret_cast<long long*>(greatest), __double_as_longlong(iou));
  }
}

template <class T>
struct MatchArguments {
  const T* references;
  int64_t image_stride;  // between the references of two images; 0 when they share them
  int64_t num_references, num_boxes, total;
  const T* gt_boxes;
  const bool* gt_valid;
  T positive_iou, negative_iou;
  T* best_of_box;  // (N, M), null where no best match is forced

  __device__ Box<T> reference(int64_t i) const {
    return to_box(references + i / num_references * image_stride + 4 * (i % num_references));
  }
};

// Every reference takes its best box; every box learns its greatest IoU.
template <class T>
__global__ void match_kernel(MatchArguments<T> given, int8_t* labels, int64_t* gt_index, T* iou) {
  MASKRAY_GRID_LOOP(i, given.total) {
    const Box<T> reference = given.reference(i);
    const int64_t first = i / given.num_references * given.num_boxes;
    T best = T(0);
    int64_t best_index = 0;
    for (int64_t g = 0; g < given.num_boxes; ++g) {
      if (!given.gt_valid[first + g]) {
        continue;
      }
      const T overlap = box_iou(reference, to_box(given.gt_boxes + 4 * (first + g)));
      if (overlap > best) {
        best = overlap;
        best_index = g;
      }
      if (overlap > T(0) && given.best_of_box != nullptr) {
        keep_greatest(given.best_of_box + first + g, overlap);
      }
    }
    labels[i] = best >= given.positive_iou ? kPositive : best < given.negative_iou ? kNegative : kIgnored;
    gt_index[i] = best_index;
    iou[i] = best;
  }
}

// References that reach the greatest IoU of a box become positive.
template <class T>
__global__ void force_kernel(MatchArguments<T> given, int8_t* labels) {
  MASKRAY_GRID_LOOP(i, given.total) {
    const Box<T> reference = given.reference(i);
    const int64_t first = i / given.num_references * given.num_boxes;
    for (int64_t g = 0; g < given.num_boxes; ++g) {
      const T greatest = given.best_of_box[first + g];
      if (greatest > T(0) && box_iou(reference, to_box(given.gt_boxes + 4 * (first + g))) == greatest) {
        labels[i] = kPositive;
        break;
      }
    }
  }
}

template <class T>
void match(
    const Tensor& references, const Tensor& gt_boxes, const Tensor& gt_valid, double positive_iou, double negative_iou,
    bool force_best, Tensor& labels, Tensor& gt_index, Tensor& iou) {
  const cudaStream_t stream = current_stream(references);
  const int64_t num_references = references.size(references.dim() - 2);
  Tensor best = torch::stable::new_zeros(gt_boxes, {gt_boxes.size(0), gt_boxes.size(1)});
  const MatchArguments<T> given{
      static_cast<const T*>(references.const_data_ptr()),
      references.dim() == 3 ? 4 * num_references : 0,
      num_references,
      gt_boxes.size(1),
      labels.numel(),
      static_cast<const T*>(gt_boxes.const_data_ptr()),
      static_cast<const bool*>(gt_valid.const_data_ptr()),
      static_cast<T>(positive_iou),
      static_cast<T>(negative_iou),
      force_best ? static_cast<T*>(best.mutable_data_ptr()) : nullptr};
  match_kernel<T><<<num_blocks(given.total), kThreads, 0, stream>>>(
      given, static_cast<int8_t*>(labels.mutable_data_ptr()), static_cast<int64_t*>(gt_index.mutable_data_ptr()),
      static_cast<T*>(iou.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  if (force_best) {
    force_kernel<T>
        <<<num_blocks(given.total), kThreads, 0, stream>>>(given, static_cast<int8_t*>(labels.mutable_data_ptr()));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

std::tuple<Tensor, Tensor, Tensor> match_boxes(
    Tensor references, Tensor gt_boxes, Tensor gt_valid, double positive_iou, double negative_iou, bool force_best) {
  check_match_arguments(references, gt_boxes, gt_valid);
  check_same_device(references, gt_boxes, "gt_boxes");
  check_same_device(references, gt_valid, "gt_valid");
  const torch::stable::accelerator::DeviceGuard guard(references.get_device_index());
  const int64_t num_images = gt_boxes.size(0), num_references = references.size(references.dim() - 2);
  Tensor labels = torch::stable::new_empty(references, {num_images, num_references}, ScalarType::Char);
  Tensor gt_index = torch::stable::new_empty(references, {num_images, num_references}, ScalarType::Long);
  Tensor iou = torch::stable::new_empty(references, {num_images, num_references});
  if (labels.numel() > 0) {
    const auto run = references.scalar_type() == ScalarType::Double ? match<double> : match<float>;
    run(torch::stable::contiguous(references), torch::stable::contiguous(gt_boxes), torch::stable::contiguous(gt_valid),
        positive_iou, negative_iou, force_best, labels, gt_index, iou);
  }
  return {labels, gt_index, iou};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) { m.impl("match_boxes", TORCH_BOX(&match_boxes)); }

}  // namespace maskray
