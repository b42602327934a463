"""Weights of one model as the start of another: every part whole or not at all, what is per class by category name.

Classes are never taken by position, also where their numbers agree. What a source without label map has per class is
left, as nobody knows what it means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskray.model.backbone.timm_network import rename_timm
from maskray.model.class_rows import (
    PER_CLASS,
    Rows,
    class_rows,
    copy_rows,
    fits,
    is_per_class,
    keypoint_names,
    plain,
)
from maskray.model.config import InputConfig, LabelMap, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.parts import TENSOR_PARTS, part_of
from maskray.model.weights import STEP_COUNTER

SAME_STATISTICS = 0.01  # of pixel values: what others round of 0.485 x 255


@dataclass(frozen=True)
class Source:
    """Tensors under the names of maskray (on the meta device where only shapes are known), and what they are of.

    model, input and labels are None where nothing tells them: an ImageNet network, a bare state dict.
    """

    name: str
    tensors: Mapping[str, Tensor]
    model: ModelConfig | None = None
    input: InputConfig | None = None
    labels: LabelMap | None = None


@dataclass(frozen=True)
class PartReport:
    """Of one part: tensors taken, begun anew, and left in the source; `note` says why where it is not all."""

    part: str
    taken: int
    anew: int
    left: int
    note: str = ""


@dataclass(frozen=True)
class Transfer:
    """What becomes of a source: the table of parts, and for each class of the model the one it begins as, or None.

    `classes` is empty where the label map of either is not known. `whole` are the names taken as they are.
    """

    source: str
    parts: list[PartReport]
    classes: dict[str, str | None]
    whole: list[str]
    rows: list[str]
    left_classes: int = 0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        parts = {row.part: {"taken": row.taken, "anew": row.anew, "left": row.left, "note": row.note}
                 for row in self.parts}  # fmt: skip
        return {"source": self.source, "parts": parts, "classes": self.classes, "notes": self.notes}

    def lines(self) -> list[tuple[str, str]]:
        """Rows of a table for people: part and what became of it, then the classes."""
        rows = []
        for row in self.parts:
            words = ((row.taken, "taken"), (row.anew, "begin anew"), (row.left, "left in the source"))
            counts = [f"{count} {word}" for count, word in words if count]
            rows.append((row.part, ", ".join(counts) + (f" ({row.note})" if row.note else "")))
        taken = [name if plain(name) == plain(other) else f"{name} from {other}"
                 for name, other in self.classes.items() if other is not None]  # fmt: skip
        anew = [name for name, other in self.classes.items() if other is None]
        if self.classes:
            rows.append(("classes taken", _some(taken)))
            rows.append(("classes anew", _some(anew)))
            rows.append(("classes left", str(self.left_classes)))
        return rows + [("note", note) for note in self.notes]


def plan_transfer(
    model: MaskRCNN, input_config: InputConfig, labels: LabelMap | None, source: Source, class_names: Mapping[str, str]
) -> Transfer:
    """What a model, which may be on the meta device, takes of a source; nothing is copied.

    `labels` are the model's (None: not known yet), `class_names` the names of classes in the source under those of the
    model where they differ. Raises ValueError naming the source where its backbone is not that of the model, where it
    was trained on other pixels, or where class_names names what is not there.
    """
    own, theirs = model.state_dict(), _renamed(model.state_dict(), source)
    notes = _check_same_input(source, model.config, input_config)
    match = _match_classes(source, labels, class_names)
    parts: list[PartReport] = []
    whole: list[str] = []
    rows: list[str] = []
    for part in TENSOR_PARTS:
        mine = [name for name in own if part_of(name) == part and _counts(name)]
        others = [name for name in theirs if part_of(name) == part and _counts(name)]
        if not mine and not others:
            continue
        free = [name for name in mine if not _is_by_class(name, theirs, model.config, source, own)]
        problem = _mismatch({name: own[name] for name in free}, theirs,
                            [name for name in others if name in free or name not in PER_CLASS])  # fmt: skip
        if part == "backbone" and problem:
            raise ValueError(f"{source.name}: not weights of a {model.config.backbone.name} as here: {problem}")
        if problem or not mine:
            note = problem if mine else "the model has no such part"
            parts.append(PartReport(part, 0, len(mine), len(others), note if others else "not in the source"))
            continue
        by_row = [name for name in mine if name not in free and name in theirs and labels is not None
                  and _rows_fit(name, own, theirs, model.config, labels, source)]  # fmt: skip
        whole, rows = whole + free, rows + by_row
        anew = [name for name in mine if name not in free and name not in by_row]
        note = _note(by_row, anew, labels, source)
        parts.append(PartReport(part, len(free) + len(by_row), len(anew), len(others) - len(free) - len(by_row), note))
    outside = sum(part_of(name) is None for name in theirs)
    if outside:
        notes.append(f"{outside} tensors of the source are of no part of a detector")
    left = 0 if source.labels is None else source.labels.num_classes - len(set(match.values()) - {None})
    return Transfer(source.name, parts, match, whole, rows, left, notes)


def transfer(
    model: MaskRCNN, input_config: InputConfig, labels: LabelMap, source: Source, class_names: Mapping[str, str]
) -> Transfer:
    """Copy into a model what plan_transfer says; errors as there, before anything is changed."""
    plan = plan_transfer(model, input_config, labels, source, class_names)
    own, theirs = model.state_dict(), _renamed(model.state_dict(), source)
    classes = {plain(key): plain(value) for key, value in plan.classes.items() if value is not None}
    keypoints = {name: name for name in keypoint_names(labels)}
    state = {name: theirs[name] for name in plan.whole}
    for name in plan.rows:
        mine, others = class_rows(name, model.config, labels), _rows_of(name, source)
        assert mine is not None
        assert others is not None
        match = keypoints if "keypoint_head" in name else classes
        state[name] = copy_rows(own[name], mine, theirs[name].to(own[name].dtype), others, match)
    with torch.no_grad():
        model.load_state_dict(state, strict=False)
    return plan


def _counts(name: str) -> bool:
    """Frozen batch norm has no use for the counter of steps, and a new one begins at 0."""
    return not name.endswith(STEP_COUNTER)


def _renamed(own: Iterable[str], source: Source) -> dict[str, Tensor]:
    """The tensors of a source under the names of this very model."""
    own = list(own)
    theirs = rename_timm(own, source.tensors)
    # Of a C4 model res5 is the head (paper, Figure 4 left); of others, the last stage of the network.
    places = ("backbone.resnet.res5.", "roi_heads.res5.")
    old, new = places if any(name.startswith(places[1]) for name in own) else reversed(places)
    if any(name.startswith(new) for name in own):
        theirs = {name.replace(old, new) if name.startswith(old) else name: value for name, value in theirs.items()}
    if any(name.startswith("rpn_backbone.") for name in own) and not any(n.startswith("rpn_backbone.") for n in theirs):
        # Both backbones begin with the same weights (Ren et al. 2015, section 3.2).
        theirs |= {f"rpn_{name}": tensor for name, tensor in theirs.items() if name.startswith("backbone.")}
    return theirs


def _mismatch(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], others: list[str]) -> str:
    """Why the tensors of a part are not those of the source, "" where they are."""
    if own and not others:
        return "not in the source"
    missing = [name for name in own if name not in theirs]
    if missing:
        return f"{len(missing)} of its {len(own)} tensors are not there, such as {missing[0]}"
    for name, tensor in own.items():
        if tensor.shape != theirs[name].shape:
            return f"{name} is {tuple(theirs[name].shape)} in the source, {tuple(tensor.shape)} here"
    over = [name for name in others if name not in own]
    return f"the source has {len(over)} more, such as {over[0]}" if over else ""


def _is_by_class(
    name: str, theirs: Mapping[str, Tensor], config: ModelConfig, source: Source, own: Mapping[str, Tensor]
) -> bool:
    """Whether a tensor is taken by class, and not as it is for all classes: where it is so in either model."""
    if name not in PER_CLASS:
        return False
    if is_per_class(name, config):
        return True
    if source.model is not None:
        return is_per_class(name, source.model)
    return name not in theirs or theirs[name].shape != own[name].shape


def _rows_fit(
    name: str, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], config: ModelConfig, labels: LabelMap,
    source: Source,
) -> bool:  # fmt: skip
    mine, others = class_rows(name, config, labels), _rows_of(name, source)
    return mine is not None and others is not None and fits(own[name].shape, mine, theirs[name].shape, others)


def _rows_of(name: str, source: Source) -> Rows | None:
    """How a tensor of the source divides; None where that is not known, or it is the same for all classes."""
    if source.model is None or source.labels is None:
        return None
    return class_rows(name, source.model, source.labels)


def _note(by_row: list[str], anew: list[str], labels: LabelMap | None, source: Source) -> str:
    if by_row:
        return "by name: " + ", ".join(sorted({name.split(".")[-2] for name in by_row}))
    if anew and source.labels is None:
        return "the source tells no names of its classes"
    if anew and labels is None:
        return "by name, once the data are read"
    return "of another form" if anew else ""


def _match_classes(source: Source, labels: LabelMap | None, class_names: Mapping[str, str]) -> dict[str, str | None]:
    """Each class of the model and the class of the source that it begins as."""
    if source.labels is None or labels is None:
        return {}
    known = {plain(name): name for name in source.labels.names}
    own = {plain(name) for name in labels.names}
    wanted = {plain(mine): their for mine, their in class_names.items()}
    for mine, their in class_names.items():
        if plain(mine) not in own:
            raise ValueError(f"train.class_names: the data have no category {mine!r}, only {_some(labels.names)}")
        if plain(their) not in known:
            raise ValueError(
                f"train.class_names: {source.name} has no class {their!r}, only {_some(source.labels.names)}"
            )
    return {name: known.get(plain(wanted.get(plain(name), name))) for name in labels.names}


def _check_same_input(source: Source, config: ModelConfig, own: InputConfig) -> list[str]:
    """Notes on what differs; ValueError where the weights would see other pixels than those they were trained on."""
    if source.model is None or source.input is None:
        return []
    theirs, backbone = source.input, source.model.backbone
    wrong = [] if theirs.channel_order == own.channel_order else [f"input.channel_order: {theirs.channel_order}"]
    for key in ("pixel_mean", "pixel_std"):
        values = getattr(theirs, key)
        if any(abs(a - b) > SAME_STATISTICS for a, b in zip(values, getattr(own, key), strict=True)):
            wrong.append(f"input.{key}: [{', '.join(f'{value:g}' for value in values)}]")
    if backbone.stride_in_1x1 != config.backbone.stride_in_1x1:
        wrong.append(f"model.backbone.stride_in_1x1: {str(backbone.stride_in_1x1).lower()}")
    if wrong:
        raise ValueError(f"{source.name}: was trained on other pixels than the job's; set {', '.join(wrong)}")
    notes = []
    for where, mine, other in (
        ("model.backbone.norm_eps", config.backbone.norm_eps, backbone.norm_eps),
        ("model.roi_op", config.roi_op, source.model.roi_op),
        ("model.anchors", config.anchors, source.model.anchors),
        ("input.resize", own.resize, theirs.resize),
    ):
        if mine != other:
            notes.append(f"{where} is not as in the source")
    return notes


def _some(names: Iterable[str], most: int = 12) -> str:
    listed = list(names)
    return (", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")) or "none"
