"""What goes into a registered model and what comes out, as MLflow's MLmodel file, which its pages show."""

from __future__ import annotations

from pathlib import Path

from maskray.model.config import ModelSpec
from maskray.platform.files.model_files import SPEC_FILE, WEIGHTS_FILE


def write_mlmodel(folder: str | Path, spec: ModelSpec, run_id: str, model_id: str) -> Path:
    """Write `folder`/MLmodel: the signature and which files hold what; nothing that could run code."""
    from mlflow.models import Model, ModelSignature

    signature = ModelSignature(inputs=_inputs(), outputs=_outputs(spec))
    card = Model(run_id=run_id, model_id=model_id, signature=signature)
    card.add_flavor(
        "maskray",
        format=spec.format,
        weights=WEIGHTS_FILE,
        spec=SPEC_FILE,
        loader="maskray.platform.files.model_folder.read_model_folder",
    )
    path = Path(folder) / "MLmodel"
    card.save(str(path))
    return path


def _inputs() -> object:
    """One image: height x width x RGB."""
    import numpy
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(numpy.dtype("uint8"), (-1, -1, 3), "image")])


def _outputs(spec: ModelSpec) -> object:
    """One row per detection, in the words of COCO's results format."""
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    columns = [
        ColSpec(DataType.long, "category_id"),
        ColSpec(DataType.string, "category"),
        ColSpec(Array(DataType.double), "bbox"),
        ColSpec(DataType.double, "score"),
    ]
    if spec.model.masks:
        rle = Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)])
        columns.append(ColSpec(rle, "segmentation"))
    if spec.model.keypoints:
        columns.append(ColSpec(Array(DataType.double), "keypoints"))
    return Schema(columns)
