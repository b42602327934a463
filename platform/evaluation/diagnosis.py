"""What became of the detections and objects of images, as columns that merge in any order.

Letters: N images, D detections, at most 100 of an image, G objects that count, S attributes and R ranges of slices.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.diagnose_images import ImageDiagnoses, diagnose_images
from maskray.ops.match_images import RegionColumns
from maskray.platform.evaluation.columns import Entries
from maskray.platform.evaluation.matching import (
    MatchColumns,
    concatenate,
    gather_images,
    in_image_order,
    match_columns,
    moved_rows,
)
from maskray.platform.evaluation.protocols import COCO, Protocol
from maskray.platform.evaluation.rules import IouType
from maskray.platform.evaluation.slices import SliceMatches, match_slices


@dataclass(frozen=True)
class Diagnosis:
    """Detections (D,) and objects (G,) of N images, some 60 bytes a detection; of boxes or masks.

    By detection, best first in each image: classes, scores, verdicts and flags of ops/diagnose_images.py, about and
    pairs, the class of the object that the verdict is about and of the one it is paired with (-1: none), overlaps with
    the object it overlaps most. By object: gt_classes, fates, gt_overlaps. counts and gt_counts (N,) are theirs; slices
    and matches are of the same images.
    """

    matches: MatchColumns
    slices: SliceMatches
    counts: NDArray[np.int64]
    classes: NDArray[np.int32]
    scores: NDArray[np.float64]
    verdicts: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    about: NDArray[np.int32]
    pairs: NDArray[np.int32]
    overlaps: NDArray[np.float32]
    gt_counts: NDArray[np.int64]
    gt_classes: NDArray[np.int32]
    fates: NDArray[np.uint8]
    gt_overlaps: NDArray[np.float32]

    @property
    def num_classes(self) -> int:
        """How many categories there are."""
        return len(self.matches.category_ids)


BY_DETECTION = ("classes", "scores", "verdicts", "flags", "about", "pairs", "overlaps")
BY_OBJECT = ("gt_classes", "fates", "gt_overlaps")


def diagnose_entries(
    images: Sequence[tuple[int, tuple[int, int], Entries, Entries]], category_ids: Sequence[int], iou_type: IouType
) -> Diagnosis:
    """Diagnose images given as (image id, (height, width), ground truth, detections), for bbox or segm."""
    return diagnose_columns(*gather_images(images, category_ids, iou_type), iou_type)


def diagnose_columns(
    image_ids: NDArray[np.int64],
    sizes: NDArray[np.int64],
    objects: RegionColumns,
    detections: RegionColumns,
    category_ids: NDArray[np.int64],
    iou_type: IouType,
    protocol: Protocol = COCO,
) -> Diagnosis:
    """Match N images and diagnose them; arguments as match_columns, boxes or masks."""
    found = diagnose_images(protocol.kind(iou_type), sizes, objects, detections)
    matches = match_columns(image_ids, sizes, objects, detections, category_ids, iou_type, protocol)
    slices = match_slices(sizes, objects, detections, iou_type, protocol)
    return _join(found, matches, slices, objects, detections)


def _join(
    found: ImageDiagnoses,
    matches: MatchColumns,
    slices: SliceMatches,
    objects: RegionColumns,
    detections: RegionColumns,
) -> Diagnosis:
    assert detections.scores is not None
    classes = np.append(objects.classes, np.int32(-1))  # of row -1: no object
    return Diagnosis(
        matches=matches,
        slices=slices,
        counts=found.counts,
        classes=detections.classes[found.rows],
        scores=detections.scores[found.rows],
        verdicts=found.verdicts,
        flags=found.flags,
        about=classes[found.objects],
        pairs=classes[found.pairs],
        overlaps=found.overlaps.astype(np.float32),
        gt_counts=found.gt_counts,
        gt_classes=objects.classes[found.gt_rows],
        fates=found.fates,
        gt_overlaps=found.gt_overlaps.astype(np.float32),
    )


def merge_diagnoses(parts: Sequence[Diagnosis]) -> Diagnosis:
    """Parts of one IoU type and the same categories, at least one, as one by ascending image id."""
    return diagnosis_in_image_order(concatenate_diagnoses(parts))


def concatenate_diagnoses(parts: Sequence[Diagnosis]) -> Diagnosis:
    """The same, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in fields(Diagnosis) if field.name not in ("matches", "slices")]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    slices = SliceMatches(*(np.concatenate(of) for of in zip(*(vars(part.slices).values() for part in parts))))
    return Diagnosis(matches=concatenate([part.matches for part in parts]), slices=slices, **joined)


def diagnosis_in_image_order(diagnosis: Diagnosis) -> Diagnosis:
    """The same images by ascending id."""
    matches = diagnosis.matches
    if not (np.diff(matches.image_ids) < 0).any():
        return diagnosis
    order = np.argsort(matches.image_ids, kind="stable")
    of_matches, of_classes = moved_rows(matches.counts, order), moved_rows(matches.gt_counts, order)
    slices = diagnosis.slices
    slices = SliceMatches(slices.matched[of_matches], slices.ignored[of_matches], slices.objects[of_classes])
    rows, gt_rows = moved_rows(diagnosis.counts, order), moved_rows(diagnosis.gt_counts, order)
    moved = (
        {"counts": order, "gt_counts": order} | dict.fromkeys(BY_DETECTION, rows) | dict.fromkeys(BY_OBJECT, gt_rows)
    )
    columns: dict[str, Any] = {name: getattr(diagnosis, name)[chosen] for name, chosen in moved.items()}
    return replace(diagnosis, matches=in_image_order(matches), slices=slices, **columns)
