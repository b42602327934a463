"""The masks of detections as COCO's compressed run lengths, straight from the small masks: no image is filled."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from maskray.ops.extension import load_extension
from maskray.ops.paste_masks import check_pasting

load_extension()


def paste_masks_to_rle(
    masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> list[dict[str, Any]]:
    """What pycocotools.mask.encode gives of `paste_masks` on the CPU, one {"size": [h, w], "counts": bytes} a mask.

    masks (D, m, m) and boxes (D, 4) as for `paste_masks`; float64 is computed in float64, all else in float32. The
    pixels are the same, bit for bit, and so are the bytes; memory grows with the boundary of the masks alone. Input on
    an accelerator is brought to the CPU, where the text is wanted. Without detections the list is empty. ValueError
    as `paste_masks`, and for an image of 2**32 pixels or more, which COCO cannot count.
    """
    check_pasting(masks, boxes, image_size, threshold)
    height, width = (int(side) for side in image_size)
    if height * width >= 2**32:
        raise ValueError(f"image_size: expected less than 2**32 pixels, got {height} x {width}")
    values = masks.detach().cpu()
    values = values if values.dtype == torch.float64 else values.float()
    places = boxes.detach().cpu().to(values.dtype)
    text, offsets = torch.ops.maskray.paste_masks_to_rle(values, places, height, width, float(threshold))
    data, ends = text.numpy().tobytes(), offsets.tolist()
    return [{"size": [height, width], "counts": data[first:last]} for first, last in pairwise(ends)]


@torch.library.register_fake("maskray::paste_masks_to_rle")
def _fake(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> tuple[Tensor, Tensor]:
    length = torch.library.get_ctx().new_dynamic_size()
    return masks.new_empty((length,), dtype=torch.uint8), masks.new_empty((masks.shape[0] + 1,), dtype=torch.int64)
