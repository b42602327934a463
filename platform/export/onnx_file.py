"""Writes a model as an ONNX file of standard operators, for images of one size."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskray.model.config import ModelSpec
from maskray.model.graph import DetectionGraph
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.export.parity import Comparison

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUTS = ("image", "image_size")
COUNT = "num_detections"
PARITY = "maskray_parity"


def check_packages() -> None:
    """Raise ValueError where the optional packages of this folder are not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs {', '.join(missing)}: pip install maskray[onnx]")


def write_onnx(path: str | Path, model: MaskRCNN, spec: ModelSpec, height: int, width: int) -> None:
    """Write a model in place as ONNX (opset 18), for images padded at right and bottom to height and width.

    Inputs: image float32 (3, height, width) RGB in 0..255, padding 0; image_size int64 (2,), height and width of the
    part without padding. Outputs, best first, in pixels of that image: boxes float32 (D, 4), scores float32 (D,),
    classes int64 (D,), and where the model has such heads masks float32 (D, m, m), probabilities inside the boxes, and
    keypoints float32 (D, K, 3), x y and score. The ModelSpec is the metadata entry `maskray`. Raises ValueError for a
    size that the backbone does not divide, an operator that ONNX lacks, or missing packages.
    """
    check_packages()
    graph = DetectionGraph(model, height, width).eval()
    program = _translate(graph, height, width)
    onnx_model = program.model
    for output, value in zip(graph.output_names, onnx_model.graph.outputs, strict=True):
        value.name = output
        _name_count(value)
    onnx_model.metadata_props["maskray"] = spec.model_dump_json()
    program.save(str(path))


def record_parity(path: str | Path, comparisons: Sequence[Comparison]) -> None:
    """Note in a file of write_onnx how far it may differ from its model, and how far it does: entry `maskray_parity`.

    JSON of `tolerances`, the largest `differences` by kind, and the number of `images` and `detections` compared.
    """
    from onnx import ModelProto, StringStringEntryProto

    differences: dict[str, float] = {}
    for comparison in comparisons:
        for kind, value in comparison.differences.items():
            differences[kind] = max(value, differences.get(kind, 0.0))
    noted = {
        "tolerances": dict(comparisons[0].tolerances),
        "differences": {kind: float(f"{value:.3g}") for kind, value in differences.items()},
        "images": len(comparisons),
        "detections": sum(comparison.num_expected for comparison in comparisons),
    }
    entry = StringStringEntryProto(key=PARITY, value=json.dumps(noted))
    with open(path, "ab") as file:  # messages of protobuf that stand one after another are read as one
        file.write(ModelProto(metadata_props=[entry]).SerializeToString())


def _translate(graph: DetectionGraph, height: int, width: int) -> Any:
    from maskray.platform.export.onnx_operators import OPSET, translations

    inputs = (torch.zeros(3, height, width), torch.tensor([height, width]))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of operators of torchvision that it does not find
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = torch.export.export(graph, inputs, strict=False)
            return torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table=translations(),
                input_names=list(INPUTS),
                output_names=list(graph.output_names),
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _name_count(value: Any) -> None:
    """The number of detections bears a name that tells, not that of the tracer."""
    import onnx_ir

    dimensions = list(value.shape)
    if not isinstance(dimensions[0], int):
        value.shape = onnx_ir.Shape([COUNT, *dimensions[1:]])
