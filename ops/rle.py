"""Area and overlap of masks straight from COCO's compressed run lengths.

Letters: N masks, D detections, G ground-truth objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maskray.ops.extension import load_extension, refusals

load_extension()


def rle_area(rles: Sequence[Mapping[str, Any]]) -> Tensor:
    """Pixels of each mask {"size": [h, w], "counts": bytes or str}, (N,) int64, as pycocotools.mask.area.

    ValueError where the counts are cut, are no compressed RLE or do not sum up to h * w pixels.
    """
    packed = _pack(rles, "rles")
    with refusals("rles"):
        return torch.ops.maskray.rle_area(*packed)


def rle_iou(
    detections: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]], crowd: Sequence[bool]
) -> Tensor:
    """IoU of every pair, (D, G) float64, with the values of pycocotools.mask.iou; 0 without common pixels.

    With an object that `crowd` (G flags) marks, the share of the detection inside it. ValueError where an RLE is
    malformed (see `rle_area`), the sizes differ or there is not one flag per object.
    """
    if len(crowd) != len(ground_truth):
        raise ValueError(f"crowd: expected {len(ground_truth)} flags, got {len(crowd)}")
    flags = torch.tensor([bool(flag) for flag in crowd], dtype=torch.bool)
    packed = *_pack(detections, "detections"), *_pack(ground_truth, "ground_truth")
    with refusals("detections", "ground_truth"):
        return torch.ops.maskray.rle_iou(*packed, flags)


def _pack(rles: Sequence[Mapping[str, Any]], name: str) -> tuple[Tensor, Tensor, Tensor]:
    """All counts as uint8, where each begins (N + 1), and the sizes (N, 2)."""
    texts, sizes, offsets = [], [], [0]
    for index, rle in enumerate(rles):
        counts = rle["counts"]
        if isinstance(counts, str):
            counts = counts.encode("utf-8")
        if not isinstance(counts, bytes):
            raise TypeError(f"{name}: the counts of mask {index} are not compressed, but {type(counts).__name__}")
        if len(rle["size"]) != 2 or not all(0 <= side < 2**32 for side in rle["size"]):
            raise ValueError(f"{name}: mask {index} has size {rle['size']}, not height and width")
        texts.append(counts)
        sizes.append([int(side) for side in rle["size"]])
        offsets.append(offsets[-1] + len(counts))
    joined = bytearray(b"".join(texts))
    text = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0, dtype=torch.uint8)
    return text, torch.tensor(offsets), torch.tensor(sizes, dtype=torch.int64).reshape(-1, 2)


@torch.library.register_fake("maskray::rle_area")
def _fake_area(text: Tensor, offsets: Tensor, sizes: Tensor) -> Tensor:
    return offsets.new_empty((offsets.shape[0] - 1,))


@torch.library.register_fake("maskray::rle_iou")
def _fake_iou(
    text: Tensor, offsets: Tensor, sizes: Tensor, gt_text: Tensor, gt_offsets: Tensor, gt_sizes: Tensor, crowd: Tensor
) -> Tensor:
    return offsets.new_empty((offsets.shape[0] - 1, gt_offsets.shape[0] - 1), dtype=torch.float64)
