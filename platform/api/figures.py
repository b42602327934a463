"""Evaluation in Python: how well a model, or what it has found, agrees with a data set, and two models compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.api.data import Data
from maskray.platform.api.model import Model
from maskray.platform.api.objects import Objects

if TYPE_CHECKING:
    from maskray.model.config import LabelMap
    from maskray.platform.evaluation.comparison import Change
    from maskray.platform.evaluation.matching import MatchColumns
    from maskray.platform.evaluation.rules import IouType

AT_ONCE = 16  # images whose detections are made before they are let go of


class Figures(dict[str, float]):
    """COCO's figures by name, "bbox/AP", "segm/AP50" and so on, as fractions; -1 where they are undefined.

    `per_class` has some of them of each class by its name, nan where the data have no object of it.
    """

    def __init__(
        self,
        metrics: Mapping[str, float],
        per_class: Mapping[str, Mapping[str, float]],
        matches: Sequence[MatchColumns] = (),
    ) -> None:
        """Of metrics, and of the matches that they were made of, by which models are compared."""
        super().__init__(metrics)
        self.per_class = {name: dict(values) for name, values in per_class.items()}
        self.matches = tuple(matches)

    def _repr_html_(self) -> str:
        """A table in percent, a row for each kind."""
        kinds = dict.fromkeys(name.partition("/")[0] for name in self)
        names = dict.fromkeys(name.partition("/")[2] for name in self)
        rows = [["", *names]]
        rows += [[kind, *(_percent(self.get(f"{kind}/{name}", -1.0)) for name in names)] for kind in kinds]
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def evaluate(
    found: Model | Iterable[Objects], data: Data | Sequence[Objects], iou_types: Sequence[IouType] | None = None
) -> Figures:
    """COCO's figures of a model on a data set, or of what predict has found in each of its images.

    data is what read_data gives, or a part of its images, such as data.images[:20]. iou_types of bbox, segm and
    keypoints say what is compared; None takes all that the model finds. The figures are those of `maskray evaluate`,
    computed in this process; that command also writes a report. ValueError where there is no image, where what was
    found is not of each image once, and where classes or masks of model and data do not fit together.
    """
    truths = list(data.images if isinstance(data, Data) else data)
    if not truths:
        raise ValueError("data: no image to evaluate on")
    name = data.name if isinstance(data, Data) else "data"
    pairs = _predict(found, truths) if isinstance(found, Model) else _pair(found, truths)
    return _figures(pairs, name, iou_types)


def compare(first: Figures, second: Figures) -> dict[str, Change]:
    """How the figures of two models on the same images differ: the first, the second, and an interval of 95 %.

    By name ("segm/AP"), as `maskray compare`: each has first, second, difference (the second less the first), low and
    high (nan where less than five images have such objects), and is_sure, whether the interval leaves out 0.
    ValueError unless both were evaluated on the same images and have a kind of figures in common.
    """
    from maskray.platform.evaluation.comparison import compare_matches

    others = {part.iou_type: part for part in second.matches}
    changes: dict[str, Change] = {}
    for part in first.matches:
        if part.iou_type in others:
            found = compare_matches(part, others[part.iou_type])
            changes |= {f"{part.iou_type}/{name}": change for name, change in found.metrics.items()}
    if not changes:
        raise ValueError("nothing to compare: the figures are not of the same IoU types, or not from evaluate")
    return changes


Pair = tuple[Objects, Objects]  # what was found in an image, and what is in it


def _predict(model: Model, truths: Sequence[Objects]) -> list[Pair]:
    from maskray.platform.machine.progress_bar import track

    parts = [truths[start : start + AT_ONCE] for start in range(0, len(truths), AT_ONCE)]
    return [
        pair for part in track(parts, len(parts), "evaluation") for pair in zip(model.predict(part), part, strict=True)
    ]


def _pair(found: Iterable[Objects], truths: Sequence[Objects]) -> list[Pair]:
    """Each truth with what was found in the same file."""
    by_path: dict[Path, Objects] = {}
    for one in found:
        if any("score" not in entry for entry in one.to_coco()):
            raise ValueError(f"{one!r}: is annotated, and what a model has found comes first")
        if one.path is None:
            raise ValueError(f"{one!r}: came as an array; predict data.images to evaluate what was found")
        if one.path.resolve() in by_path:
            raise ValueError(f"{one.path}: was predicted twice")
        by_path[one.path.resolve()] = one
    pairs = []
    for truth in truths:
        assert truth.path is not None, "images of data have files"
        if truth.path.resolve() not in by_path:
            raise ValueError(f"{truth.path}: an image of the data, and nothing says what was found in it")
        pairs.append((by_path.pop(truth.path.resolve()), truth))
    if by_path:
        raise ValueError(f"{next(iter(by_path))}: was predicted, and is no image of the data")
    return pairs


def _figures(pairs: Sequence[Pair], name: str, iou_types: Sequence[IouType] | None) -> Figures:
    from maskray.platform.evaluation.coco_ap import merge_columns
    from maskray.platform.evaluation.matching import match_entries

    labels = _labels(pairs, name)
    entries = [(truth.image_id, truth.size, truth.to_coco(), found.to_coco()) for found, truth in pairs]
    metrics: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {category: {} for category in labels.names}
    names = dict(zip(labels.category_ids, labels.names, strict=True))
    matches = []
    for kind in _kinds(pairs, name, iou_types):
        matches.append(match_entries(entries, labels.category_ids, kind))
        of_kind = merge_columns(matches[-1:], labels.category_ids, kind)
        metrics |= of_kind.metrics
        for category, values in of_kind.per_category().items():
            per_class[names[category]] |= {f"{kind}/{metric}": value for metric, value in values.items()}
    return Figures(metrics, per_class, matches)


def _labels(pairs: Sequence[Pair], name: str) -> LabelMap:
    """The classes of all, checked."""
    from maskray.platform.data.suitability import evaluated_labels

    found, truth = pairs[0]
    if any(pair[0].labels != found.labels for pair in pairs):
        raise ValueError("what was found is of models with different classes")
    return evaluated_labels(found.labels, truth.labels, name, "the model")


def _kinds(pairs: Sequence[Pair], name: str, iou_types: Sequence[IouType] | None) -> Sequence[IouType]:
    """What is compared; ValueError where the model does not find it, or the data have no masks for it."""
    from maskray.platform.evaluation.rules import IOU_TYPES

    made = pairs[0][0]
    has = {"bbox": True, "segm": made.has_masks, "keypoints": made.num_keypoints > 0}
    kinds = [kind for kind in IOU_TYPES if has[kind]] if iou_types is None else list(iou_types)
    for kind in kinds:
        if not has.get(kind):
            made_kinds = ", ".join(name for name, is_made in has.items() if is_made)
            raise ValueError(f"iou_types: {kind!r} is none of what the model finds: {made_kinds}")
    if "segm" in kinds:
        for _, truth in pairs:
            lacking = next((one for one in truth.to_coco() if not one["segmentation"]), None)
            if lacking is not None:
                where = f"{name}: image {truth.image_id}, annotation {lacking['id']}"
                raise ValueError(f"{where}: no segmentation; iou_types=['bbox'] compares boxes alone")
    return kinds


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}" if value > -1 else "-"
