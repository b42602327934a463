"""Labels of anchors by hand, forced matches, padding, and independence of the chunk size."""

import pytest
import torch

from maskray.model.boxes.coding import box_iou
from maskray.model.boxes.matching import match_boxes

GT = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 0, 0]]])
VALID = torch.tensor([[True, True, False]])


def test_labels_by_hand() -> None:
    references = torch.tensor(
        [
            [0.0, 0, 10, 8],  # IoU 0.8 with the first: positive
            [0, 0, 10, 5],  # 0.5: between the thresholds
            [0, 0, 10, 2],  # 0.2: negative
            [20, 0, 30, 4],  # 0.4 with the second, its best: forced
            [50, 50, 60, 60],  # 0
        ]
    )
    plain = match_boxes(references, GT, VALID, positive_iou=0.7, negative_iou=0.3, force_best=False)
    assert plain.labels.tolist() == [[1, -1, 0, -1, 0]]
    assert plain.gt_index.tolist() == [[0, 0, 0, 1, 0]]
    forced = match_boxes(references, GT, VALID, positive_iou=0.7, negative_iou=0.3, force_best=True)
    assert forced.labels.tolist() == [[1, -1, 0, 1, 0]]


def test_thresholds_are_inclusive_for_positives() -> None:
    references = torch.tensor([[0.0, 0, 10, 5]])
    half = match_boxes(references, GT, VALID, positive_iou=0.5, negative_iou=0.5, force_best=False)
    assert half.labels.tolist() == [[1]]


def test_all_equal_best_references_are_forced() -> None:
    references = torch.tensor([[0.0, 0, 10, 2], [0, 8, 10, 10], [0, 0, 10, 1]])
    match = match_boxes(references, GT, VALID, positive_iou=0.7, negative_iou=0.3, force_best=True)
    assert match.labels.tolist() == [[1, 1, 0]]


def test_a_forced_reference_answers_for_its_own_best_box() -> None:
    gt = torch.tensor([[[0.0, 0, 10, 10], [0, 8, 10, 30]]])
    references = torch.tensor([[0.0, 4, 10, 12]])  # best of both boxes, and nearer to the first
    match = match_boxes(
        references, gt, torch.ones(1, 2, dtype=torch.bool), positive_iou=0.7, negative_iou=0.3, force_best=True
    )
    assert match.labels.tolist() == [[1]]
    assert match.gt_index.tolist() == [[0]]


def test_a_box_that_nothing_overlaps_forces_nothing() -> None:
    references = torch.tensor([[100.0, 100, 110, 110], [200, 200, 210, 210]])
    match = match_boxes(references, GT, VALID, positive_iou=0.7, negative_iou=0.3, force_best=True)
    assert match.labels.tolist() == [[0, 0]]


def test_without_objects_everything_is_negative() -> None:
    none = torch.zeros_like(VALID)
    references = torch.tensor([[0.0, 0, 0, 0], [0, 0, 10, 10]])
    match = match_boxes(references, GT, none, positive_iou=0.7, negative_iou=0.3, force_best=True)
    assert match.labels.tolist() == [[0, 0]]


@pytest.mark.parametrize("max_overlaps", [1, 60, 100, 1000])
@pytest.mark.parametrize("per_image", [False, True])
def test_chunks_do_not_matter_and_equal_the_plain_definition(max_overlaps: int, per_image: bool) -> None:
    torch.manual_seed(1)
    gt = torch.rand(2, 5, 4) * 40
    gt[..., 2:] += gt[..., :2] + 4
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    references = torch.rand(2, 101, 4) * 40 if per_image else torch.rand(101, 4) * 40
    references[..., 2:] += references[..., :2] + 4
    match = match_boxes(
        references, gt, valid, positive_iou=0.5, negative_iou=0.4, force_best=True, max_overlaps=max_overlaps
    )
    for image in range(2):
        iou = box_iou(references[image] if per_image else references, gt[image][valid[image]])
        best, index = iou.max(dim=1)
        labels = torch.where(best >= 0.5, 1, torch.where(best < 0.4, 0, -1))
        labels[(iou == iou.amax(dim=0)).any(dim=1)] = 1
        assert match.labels[image].tolist() == labels.tolist()
        overlapping = best > 0
        assert match.gt_index[image][overlapping].tolist() == index[overlapping].tolist()
