"""Images in files to detections in COCO results format, and images of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray

    from maskray.model.config import LabelMap
    from maskray.platform.inference.predictor import Predictor

IMAGES_AT_ONCE = 4


@dataclass(frozen=True)
class FilePrediction:
    """Detections of one image; `results` as in a COCO results file, `categories` the name of every id."""

    path: Path
    results: list[dict[str, Any]]
    categories: dict[int, str]


def open_predictor(folder: str, device: str) -> tuple[Predictor, LabelMap]:
    """Read a model folder on a device; ValueError where either is not there."""
    import torch

    from maskray.platform.files.model_folder import read_model_folder
    from maskray.platform.inference.predictor import Predictor

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device}: this machine has no GPU that torch can use")
    model, spec = read_model_folder(folder, device)
    return Predictor(model, spec, device), spec.labels


def predict_files(
    paths: list[Path], folder: str, device: str = "cpu", score_threshold: float | None = None, out: Path | None = None
) -> Iterator[FilePrediction]:
    """Predict images with the model of a folder, a few at a time; with `out` write the drawn images there.

    Raises ValueError naming the file that is not a readable image, before anything else is printed for it.
    """
    predictor, labels = open_predictor(folder, device)
    names = {category.id: category.name for category in labels.categories}
    ids = image_ids(paths)
    for start in range(0, len(paths), IMAGES_AT_ONCE):
        part = paths[start : start + IMAGES_AT_ONCE]
        images = [read_image(path) for path in part]
        found = predictor.predict(images, ids[start : start + IMAGES_AT_ONCE], score_threshold=score_threshold)
        for path, image, results in zip(part, images, found, strict=True):
            if out is not None:
                _write_image(out / f"{path.stem}.png", image, results, labels, score_threshold)
            yield FilePrediction(path, results, names)


def read_image(path: Path) -> ndarray:
    """The pixels of a file, uint8 (H, W, 3) RGB, turned upright; ValueError naming the file."""
    from maskray.platform.data.decode import decode_image

    try:
        return decode_image(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def image_ids(paths: list[Path]) -> list[int]:
    """Ids for COCO results: the numbers that COCO's file names are, or else 1, 2, 3, ..."""
    stems = [path.stem for path in paths]
    if all(stem.isascii() and stem.isdigit() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(paths) + 1))


def _write_image(
    path: Path, image: ndarray, results: list[dict[str, Any]], labels: LabelMap, score_threshold: float | None
) -> None:
    from PIL import Image

    from maskray.platform.inference.drawing import draw_detections

    path.parent.mkdir(parents=True, exist_ok=True)
    threshold = 0.5 if score_threshold is None else score_threshold
    Image.fromarray(draw_detections(image, results, labels, threshold)).save(path)
