"""The model's own operators in ONNX's standard ones (opset 18), for torch.onnx.export.

Letters: K boxes or keypoints, L levels, G groups, Q boxes per group, D detections, m side of a heat map.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import TensorProto, helper
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op

import maskray.model.graph  # noqa: F401 (defines the operators)

OPSET = 18
ALL_BOXES = 2**31 - 1
LOWEST_SCORE = -3.0e38  # only minus infinity lies below
CUBIC = -0.75


def multi_level_roi_align(
    features: Sequence[Any],
    boxes: Any,
    levels: Any,
    height: int,
    width: int,
    scales: Sequence[float],
    ratio: int,
    aligned: bool,
) -> Any:
    """RoiAlign of each level's boxes, and the results in the order of the boxes (K, 5)."""
    mode = "half_pixel" if aligned else "output_half_pixel"
    corners, image = _columns(boxes, 1, 5), op.Cast(op.Squeeze(_columns(boxes, 0, 1), _ints(1)), to=TensorProto.INT64)
    rows, parts = [], []
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        row = op.Squeeze(op.NonZero(op.Equal(levels, op.Constant(value_int=level))), _ints(0))
        pooled = op.RoiAlign(
            feature,
            op.Gather(corners, row),
            op.Gather(image, row),
            coordinate_transformation_mode=mode,
            output_height=height,
            output_width=width,
            sampling_ratio=ratio,
            spatial_scale=float(scale),
        )
        rows.append(row)
        parts.append(pooled)
    if len(parts) == 1:
        return parts[0]
    count = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(levels)), op.Constant(value_int=1))
    position = op.ScatterElements(count, op.Concat(*rows, axis=0), count, axis=0)
    return op.Gather(op.Concat(*parts, axis=0), position, axis=0)


def nms_of_groups(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """NonMaxSuppression with one batch entry per group, so that groups need not be moved apart; a mask (G, Q)."""
    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, _ints(1)),
        op.Constant(value_int=ALL_BOXES),
        op.Constant(value_float=float(iou_threshold)),
        op.Constant(value_float=LOWEST_SCORE),
    )
    index = op.Gather(chosen, _ints(0, 2), axis=1)
    ones = op.Expand(op.Constant(value_int=1), op.Shape(index, start=0, end=1))
    zeros = op.ConstantOfShape(op.Shape(scores), value=helper.make_tensor("zero", TensorProto.INT64, [1], [0]))
    return op.Cast(op.ScatterND(zeros, index, ones), to=TensorProto.BOOL)


@script(default_opset=op)
def peaks_of_maps(logits: FLOAT, whole: INT64) -> FLOAT:
    """Column, row and value (D, K, 3) of the peaks of maps (D, K, m, m), resized one detection at a time."""
    side = op.Shape(logits, start=2, end=3)
    num_keypoints = op.Shape(logits, start=1, end=2)
    # What resizes the columns of an identity is the matrix that resizes anything.
    identity = op.Unsqueeze(op.EyeLike(op.ConstantOfShape(op.Concat(side, side, axis=0)), dtype=1), [0, 1])
    peaks = op.ConstantOfShape(op.Concat([0], num_keypoints, [3], axis=0))
    count = op.Squeeze(op.Shape(logits, start=0, end=1))
    for index in range(count):
        size = op.Gather(whole, index, axis=0)
        width = op.Slice(size, [0], [1])
        height = op.Slice(size, [1], [2])
        to_height = op.Concat([1, 1], height, side, axis=0)
        to_width = op.Concat([1, 1], width, side, axis=0)
        down = op.Resize(identity, None, None, to_height, mode="cubic", cubic_coeff_a=CUBIC)
        across = op.Resize(identity, None, None, to_width, mode="cubic", cubic_coeff_a=CUBIC)
        maps = op.Unsqueeze(op.Gather(logits, index, axis=0), [0])
        resized = op.MatMul(op.MatMul(down, maps), op.Transpose(across, perm=[0, 1, 3, 2]))
        values = op.Reshape(resized, op.Concat(num_keypoints, [-1], axis=0))
        place = op.ArgMax(values, axis=1, keepdims=1)
        column = op.Cast(op.Mod(place, width), to=1)
        row = op.Cast(op.Div(place, width), to=1)
        highest = op.ReduceMax(values, [1], keepdims=1)
        peaks = op.Concat(peaks, op.Unsqueeze(op.Concat(column, row, highest, axis=1), [0]), axis=0)
    return peaks


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What stands for each operator of maskray that a DetectionGraph may hold."""
    return {
        torch.ops.maskray.multi_level_roi_align.default: multi_level_roi_align,
        torch.ops.maskray_graph.nms_of_groups.default: nms_of_groups,
        torch.ops.maskray_graph.peaks_of_maps.default: peaks_of_maps,
    }


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _columns(values: Any, start: int, end: int) -> Any:
    return op.Slice(values, _ints(start), _ints(end), _ints(1))
