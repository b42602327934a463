"""Whether data that were read are what a job wants of them: masks where masks are wanted, and categories that agree."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from maskray.model.coco_categories import is_unused
from maskray.model.config import LabelMap
from maskray.platform.data.formats.problem import Problem, shown
from maskray.platform.data.formats.records import Annotation, CocoDataset, ImageRecord, LazyImages
from maskray.platform.data.manifest import MaskGaps
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS, DataConfig

logger = logging.getLogger(__name__)

DROP_REMEDY = "data.objects_without_masks: drop leaves them out, boxes_only trains them without a mask"
MaskUse = Literal["none", "objects", "all"]  # of which annotations masks are wanted; crowds are not trained on


@dataclass(frozen=True)
class ReadingRules:
    """What may be left out of a source, which of its annotations need a mask, and what a refusal says may be done."""

    max_bad_annotations: float = MAX_BAD_ANNOTATIONS
    masks: MaskUse = "none"
    without_masks: Literal["error", "drop", "boxes_only"] = "error"
    remedy: str = DROP_REMEDY


def split_rules(data: DataConfig, masks: bool, iou_types: Sequence[str]) -> dict[str, ReadingRules]:
    """The rules for train and val: a model with masks trains on those of objects, segm is evaluated on all of val."""
    uses: dict[str, MaskUse] = {
        "train": "objects" if masks else "none",
        "val": "all" if "segm" in iou_types else "none",
    }
    return {
        split: ReadingRules(data.max_bad_annotations, use, data.objects_without_masks) for split, use in uses.items()
    }


def find_mask_gaps(images: Iterable[ImageRecord]) -> MaskGaps:
    """The objects of images that have no segmentation."""
    counts, firsts = [0, 0], ["", ""]
    for image in images:
        for annotation in image.annotations:
            if annotation.segmentation is None:
                crowd = annotation.iscrowd
                counts[crowd] += 1
                firsts[crowd] = firsts[crowd] or f"image {image.image_id}, annotation {annotation.id}"
    return MaskGaps(objects=counts[0], crowds=counts[1], first_object=firsts[0], first_crowd=firsts[1])


def mask_gap_problem(gaps: MaskGaps | None, masks: MaskUse, num_annotations: int, remedy: str) -> str | None:
    """Why data with gaps cannot give the masks that are wanted, as one line; None where they can, or nobody knows."""
    if gaps is None or masks == "none":
        return None
    missing = gaps.objects + (gaps.crowds if masks == "all" else 0)
    if missing == 0:
        return None
    first = gaps.first_object or gaps.first_crowd
    share = f"{missing} of {num_annotations} annotations"
    return f"{first}: no segmentation, and masks are wanted ({share} have none): {remedy}"


def fit_masks(dataset: CocoDataset, name: str, rules: ReadingRules) -> CocoDataset:
    """The dataset as it is where its masks suffice, without annotations that lack one where rules say drop.

    boxes_only keeps them: they train boxes, and evaluation of masks ignores them. ValueError naming one where rules say
    error; name is what messages call the source.
    """
    if rules.masks == "none":
        return dataset
    problem = mask_gap_problem(find_mask_gaps(dataset.images), rules.masks, dataset.num_annotations, rules.remedy)
    if problem is None or rules.without_masks == "boxes_only":
        return dataset
    if rules.without_masks == "error":
        raise ValueError(f"{name}: {problem}")
    dropped = [
        Problem("no_mask", "no segmentation", image.image_id, found.id)
        for image in dataset.images
        for found in image.annotations
        if _lacks_mask(found, rules.masks)
    ]
    digest = hashlib.sha256(f"{dataset.digest} {rules.masks} without masks dropped".encode()).hexdigest()
    return CocoDataset(dataset.labels, _WithMasks(dataset.images, rules.masks), digest, [*dataset.problems, *dropped])


def _lacks_mask(annotation: Annotation, masks: MaskUse) -> bool:
    return annotation.segmentation is None and (masks == "all" or not annotation.iscrowd)


class _WithMasks(LazyImages):
    """Images without the objects that lack a mask."""

    def __init__(self, images: Sequence[ImageRecord], masks: MaskUse) -> None:
        self._images = images
        self._masks = masks

    def __len__(self) -> int:
        return len(self._images)

    def make(self, place: int) -> ImageRecord:
        image = self._images[place]
        return replace(image, annotations=[one for one in image.annotations if not _lacks_mask(one, self._masks)])


def evaluated_labels(model: LabelMap, labels: LabelMap, name: str, other: str) -> LabelMap:
    """The classes that a model is evaluated by on data: its own, but for the ids of COCO that nothing is of.

    Those that the data lack are logged. ValueError where the data have others, name and other as missing_categories.
    """
    used = LabelMap(categories=tuple(one for one in model.categories if not is_unused(one)))
    missing = missing_categories(used, labels, name, other)
    if missing:
        logger.warning("%s lacks %d of the %d categories of the model", name, len(missing), used.num_classes)
    return used


def missing_categories(reference: LabelMap, labels: LabelMap, name: str, other: str) -> tuple[str, ...]:
    """Names of the categories of reference that a label map lacks, whose others have the same id and name.

    Names of keypoints may be missing on either side. ValueError where one is another or is not there: name and other
    are what its line calls the label map and the reference.
    """
    by_id = {category.id: category for category in reference.categories}
    by_name = {category.name: category for category in reference.categories}
    for category in labels.categories:
        known = by_id.get(category.id)
        if known is None and category.name in by_name:
            of_other = by_name[category.name].id
            wrong = f"{shown(category.name)} has id {category.id}, there {of_other}"
        elif known is None:
            wrong = f"{shown(category.name)} (id {category.id}) is not there"
        elif known.name != category.name:
            wrong = f"id {category.id} is {shown(category.name)}, there {shown(known.name)}"
        elif known.keypoints and category.keypoints and known.keypoints != category.keypoints:
            wrong = f"{shown(category.name)} has other keypoints there"
        else:
            continue
        raise ValueError(f"{name}: its categories are not those of {other}: {wrong}")
    ids = set(labels.category_ids)
    return tuple(category.name for category in reference.categories if category.id not in ids)
