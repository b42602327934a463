"""How far two ways of computing a model find the same objects, where nobody knows which of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maskray.model.boxes.coding import box_iou

SURE_SCORE = 0.5
SAME_IOU = 0.5

Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Agreement:
    """Objects of a score of 0.5 and more: found by the first, by the second, by both, and the sum of IoUs of those."""

    first: int = 0
    second: int = 0
    both: int = 0
    iou: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.first + other.first, self.second + other.second, self.both + other.both, self.iou + other.iou
        )

    @property
    def mean_iou(self) -> float:
        """Of the boxes that both found; nan without any."""
        return self.iou / self.both if self.both else float("nan")


def compare_results(first: Results, second: Results) -> Agreement:
    """Pair the COCO results of one image: of one category, IoU of boxes 0.5 and more, the best pairs first."""
    ours, theirs = (_sure(results) for results in (first, second))
    if not ours or not theirs:
        return Agreement(len(ours), len(theirs))
    overlaps = box_iou(_boxes(ours), _boxes(theirs))
    categories = [torch.tensor([result["category_id"] for result in results]) for results in (ours, theirs)]
    overlaps = torch.where(categories[0][:, None] == categories[1], overlaps, 0.0)
    total, both = 0.0, 0
    while float(best := overlaps.max()) >= SAME_IOU:
        row, column = divmod(int(overlaps.argmax()), len(theirs))
        overlaps[row], overlaps[:, column] = 0.0, 0.0
        total, both = total + float(best), both + 1
    return Agreement(len(ours), len(theirs), both, total)


def _sure(results: Results) -> Results:
    return [result for result in results if result["score"] >= SURE_SCORE]


def _boxes(results: Results) -> torch.Tensor:
    boxes = torch.tensor([result["bbox"] for result in results])
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
