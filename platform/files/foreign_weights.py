"""Files of torchvision's and detectron2's detection models, read as models of maskray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from maskray.model.array_pickle import load_arrays
from maskray.model.coco_categories import labels_of_imported
from maskray.model.config import LabelMap, ModelSpec
from maskray.model.detectron2_names import read_detectron2
from maskray.model.imported import Imported, build_imported
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.torchvision_names import norm_eps_of, read_torchvision
from maskray.model.weights import read_state
from maskray.platform.job.config import first_mistake

# What some names of every state dict of a library begin with.
LIBRARIES = {"torchvision": "backbone.body.", "detectron2": "proposal_generator."}


@dataclass(frozen=True)
class ForeignModel:
    """A model in eval mode, all that is needed to rebuild it, and what was assumed because the file does not tell."""

    model: MaskRCNN
    spec: ModelSpec
    notes: list[str]


def read_foreign_file(
    path: Path,
    library: str,
    *,
    labels: LabelMap | None = None,
    norm_eps: float | None = None,
    shorter_edge: int = 800,
    longer_edge_max: int = 1333,
) -> ForeignModel:
    """The model of a .pth, .safetensors or (detectron2) .pkl file, every tensor of which must have its place.

    `labels` are the categories in class order, without background; none stands for COCO's where their number fits,
    else class_1, class_2, ... `norm_eps` of the backbone's norm is for torchvision's files; none goes by the file's
    name. No code in a file is run. Raises ValueError of one line that begins with the path.
    """
    if library not in LIBRARIES:
        raise ValueError(f"library {library!r} is unknown; valid: {', '.join(LIBRARIES)}")
    if library != "torchvision" and norm_eps is not None:
        raise ValueError(f"the epsilon of the norm is known of {library}'s models (1e-5): it is for torchvision's")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the file of the weights")
    state = read_tensors(path)
    edges = {"shorter_edge": shorter_edge, "longer_edge_max": longer_edge_max}
    try:
        _check_library(state, library)
        if library == "torchvision":
            imported = read_torchvision(
                state, norm_eps=norm_eps_of(path.name) if norm_eps is None else norm_eps, **edges
            )
        else:
            imported = read_detectron2(state, **edges)
        model = build_imported(imported)
        spec, note = _describe(imported, labels)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_mistake(error)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return ForeignModel(model, spec, [*imported.notes, note])


def library_of(state: Mapping[str, Tensor]) -> str | None:
    """The library whose names these are, of LIBRARIES; None for any other."""
    return next((library for library, prefix in LIBRARIES.items() if any(n.startswith(prefix) for n in state)), None)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a .pth, .safetensors or (detectron2) .pkl file, or of a model folder; no code in it is run.

    Raises ValueError of one line that begins with the path.
    """
    if path.suffix != ".pkl":
        return read_state(path)
    try:
        content = load_arrays(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    state = content.get("model", content)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError(f"{path}: holds no state dict (names and arrays)")
    return state


def _check_library(state: Mapping[str, Tensor], library: str) -> None:
    """Raise ValueError where the names are those of the other library."""
    for other, prefix in LIBRARIES.items():
        if other != library and any(name.startswith(prefix) for name in state):
            raise ValueError(f"its tensors bear the names of {other}, not of {library}")


def _describe(imported: Imported, labels: LabelMap | None) -> tuple[ModelSpec, str]:
    """The description with a label map, and a note on where that comes from."""
    note = "categories as given"
    if labels is None:
        labels = labels_of_imported(
            imported.num_classes, imported.model.keypoint_head.num_keypoints if imported.model.keypoints else 0
        )
        known = "COCO's, by their number" if labels.names[0] == "person" else "numbered: the file has no names for them"
        note = f"categories {known}"
    if labels.num_classes != imported.num_classes:
        raise ValueError(f"the model has {imported.num_classes} classes, the label map {labels.num_classes}")
    return ModelSpec(model=imported.model, input=imported.input, labels=labels), note
