"""Which rows of which tensors belong to a class or to a keypoint: all that depends on the label map of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from maskray.model.config import LabelMap, ModelConfig

_BOX, _MASK, _KEYPOINT = "roi_heads.box_head", "roi_heads.mask_head", "roi_heads.keypoint_head"
# Of the classifier and of softmax masks: the last row, which every model has. No category is so named: see `plain`.
_BACKGROUND = " background"
# Tensors that may be per class or keypoint, and the axis along which they then are.
_CLASS_TENSORS = (f"{_BOX}.classifier", f"{_BOX}.deltas", f"{_MASK}.predictor")
_KEYPOINT_TENSOR = f"{_KEYPOINT}.deconv"
PER_CLASS = frozenset(f"{name}.{kind}" for name in (*_CLASS_TENSORS, _KEYPOINT_TENSOR) for kind in ("weight", "bias"))


@dataclass(frozen=True)
class Rows:
    """A tensor as blocks of `size` along `axis`, each of the class or keypoint that stands at its place in `names`."""

    axis: int
    size: int
    names: tuple[str, ...]


def plain(name: str) -> str:
    """A category name as names are compared: case and surrounding space aside."""
    return " ".join(name.casefold().split())


def is_per_class(name: str, config: ModelConfig) -> bool:
    """Whether a tensor of PER_CLASS is by class or keypoint in a model, and not the same for all classes."""
    base = name.rpartition(".")[0]
    if base.endswith("deltas"):
        return not config.box_head.class_agnostic
    return not base.endswith("predictor") or config.mask_head.output != "class_agnostic"


def class_rows(name: str, config: ModelConfig, labels: LabelMap) -> Rows | None:
    """How a tensor of PER_CLASS divides in a model; None where it is the same for all classes."""
    if not is_per_class(name, config):
        return None
    classes = tuple(plain(category) for category in labels.names)
    base, _, kind = name.rpartition(".")
    if base == _KEYPOINT_TENSOR:
        return Rows(1 if kind == "weight" else 0, 1, keypoint_names(labels))
    if base.endswith("classifier"):
        return Rows(0, 1, (*classes, _BACKGROUND))
    if base.endswith("deltas"):
        return Rows(0, 4, classes)
    size = 1
    if config.mask_head.name == "mlp":
        side = config.box_head.pool_size // config.box_head.res5_stride if config.box_head.name == "res5" else None
        size = (2 * (side or config.mask_head.pool_size)) ** 2
    return Rows(0, size, (*classes, _BACKGROUND) if config.mask_head.output == "softmax" else classes)


def keypoint_names(labels: LabelMap) -> tuple[str, ...]:
    """Names of the keypoints, those of the first category that has any."""
    return tuple(plain(name) for name in next((c.keypoints for c in labels.categories if c.keypoints), ()))


def copy_rows(own: Tensor, own_rows: Rows, other: Tensor, other_rows: Rows, match: Mapping[str, str]) -> Tensor:
    """A copy of `own` in which each block whose name is in `match` is the block of that name in `other`.

    The background, where both have one, is matched with itself. Raises ValueError where sizes other than that of the
    axis differ.
    """
    result = own.clone()
    match = {**match, _BACKGROUND: _BACKGROUND}
    for index, name in enumerate(own_rows.names):
        wanted = match.get(name)
        if wanted is None or wanted not in other_rows.names:
            continue
        block = _block(other, other_rows, other_rows.names.index(wanted))
        place = _block(result, own_rows, index)
        if place.shape != block.shape:
            raise ValueError(f"blocks of {tuple(place.shape)} and {tuple(block.shape)}")
        place.copy_(block)
    return result


def fits(own: Sequence[int], own_rows: Rows, other: Sequence[int], other_rows: Rows) -> bool:
    """Whether tensors of two shapes divide as their rows say, and into blocks of one shape."""
    for shape, rows in ((own, own_rows), (other, other_rows)):
        if len(shape) <= rows.axis or shape[rows.axis] != rows.size * len(rows.names):
            return False
    rest = [tuple(size for axis, size in enumerate(shape) if axis != own_rows.axis) for shape in (own, other)]
    return own_rows.size == other_rows.size and rest[0] == rest[1]


def _block(tensor: Tensor, rows: Rows, index: int) -> Tensor:
    return tensor.narrow(rows.axis, index * rows.size, rows.size)
