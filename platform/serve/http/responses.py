"""What was found in an image, and its forms: COCO JSON, the image with the objects drawn on it, safetensors.

The compact form is one safetensors file for all images of a request. Legend: B images, N detections of all of them,
best first in each image, K keypoints:

    image_sizes   (B, 2) int32       height and width in pixels; 0, 0 for an image that could not be read
    image_index   (N,) int32         image of the detection
    boxes         (N, 4) float32     x0 y0 x1 y1 in pixels
    scores        (N,) float32
    category_ids  (N,) int32
    mask_offsets  (N + 1,) int64     the mask of detection i is mask_counts[mask_offsets[i] : mask_offsets[i + 1]],
    mask_counts   (bytes,) uint8     COCO's compressed RLE for the size of its image (where there are masks)
    keypoints     (N, K, 3) float32  x, y, score (where there are keypoints)

Its metadata are text: format "maskray-detections-1", and in JSON model, categories (names by id) and errors (by index).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from maskray.model.config import LabelMap
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.serve.http.parameters import Options

BINARY_FORMAT = "maskray-detections-1"
BINARY_TYPE = "application/vnd.safetensors"


@dataclass(frozen=True)
class ModelName:
    """Which model answered: a name and version for people; the version of an unregistered one is empty."""

    name: str
    version: str


@dataclass(frozen=True)
class Prediction:
    """What one image gave: detections in COCO's words, best first, with the name of the category.

    `drawn` is a PNG where one was asked for; `seconds` are parts of the time in the replica; `batch_size` is the
    number of images that were computed together.
    """

    model: ModelName
    width: int
    height: int
    detections: list[dict[str, Any]]
    seconds: dict[str, float]
    batch_size: int
    drawn: bytes | None = None


@dataclass(frozen=True)
class FailedImage:
    """An image that gave nothing, with the HTTP status and one line that say why."""

    status: int
    message: str


def choose(results: Sequence[Mapping[str, Any]], options: Options) -> list[dict[str, Any]]:
    """What of the COCO results of one image, best first, the options let through; without the image id."""
    left_out = {"image_id"}
    left_out |= set() if options.masks else {"segmentation"}
    left_out |= set() if options.keypoints else {"keypoints"}
    passed = [result for result in results if result["score"] >= options.least_score][: options.max_detections]
    return [{key: value for key, value in result.items() if key not in left_out} for result in passed]


def name_categories(results: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """The results with the name of the category after its id."""
    return [
        {"category_id": result["category_id"], "category": names[result["category_id"]], **result} for result in results
    ]


def draw(image: NDArray[np.uint8], results: Sequence[Mapping[str, Any]], labels: LabelMap) -> bytes:
    """The image with all results drawn on it, as PNG."""
    file = io.BytesIO()
    Image.fromarray(draw_detections(image, results, labels, 0.0)).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def as_json(answer: Prediction, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The JSON tree for one image."""
    return {
        "model": {"name": answer.model.name, "version": answer.model.version},
        "image": {"width": answer.width, "height": answer.height},
        "detections": answer.detections,
        "seconds": {key: round(value, 4) for key, value in seconds.items()},
    }


def as_json_list(outcomes: Sequence[Prediction | FailedImage], total_seconds: float) -> dict[str, Any]:
    """The JSON tree for several images in their order; one that could not be read has error and status instead."""
    results = [
        {"error": outcome.message, "status": outcome.status}
        if isinstance(outcome, FailedImage)
        else as_json(outcome, outcome.seconds)
        for outcome in outcomes
    ]
    errors = sum(isinstance(outcome, FailedImage) for outcome in outcomes)
    return {"results": results, "errors": errors, "seconds": {"total": round(total_seconds, 4)}}


def as_binary(outcomes: Sequence[Prediction | FailedImage]) -> bytes:
    """The compact form of the answers to all images of a request; the module says what is in it."""
    answers = [(index, outcome) for index, outcome in enumerate(outcomes) if isinstance(outcome, Prediction)]
    found = [(index, detection) for index, answer in answers for detection in answer.detections]
    detections = [detection for _, detection in found]
    sizes = [(o.height, o.width) if isinstance(o, Prediction) else (0, 0) for o in outcomes]
    corners = [(x, y, x + w, y + h) for x, y, w, h in (detection["bbox"] for detection in detections)]
    tensors = {
        "image_sizes": np.array(sizes, np.int32).reshape(-1, 2),
        "image_index": np.array([index for index, _ in found], np.int32),
        "boxes": np.array(corners, np.float32).reshape(-1, 4),
        "scores": np.array([detection["score"] for detection in detections], np.float32),
        "category_ids": np.array([detection["category_id"] for detection in detections], np.int32),
    }
    if any("segmentation" in detection for detection in detections):
        counts = [detection["segmentation"]["counts"].encode("ascii") for detection in detections]
        tensors["mask_offsets"] = np.cumsum([0, *map(len, counts)], dtype=np.int64)
        tensors["mask_counts"] = np.frombuffer(b"".join(counts), np.uint8)
    if any("keypoints" in detection for detection in detections):
        keypoints = [detection["keypoints"] for detection in detections]
        tensors["keypoints"] = np.array(keypoints, np.float32).reshape(len(keypoints), -1, 3)
    models = [{"name": answer.model.name, "version": answer.model.version} for _, answer in answers]
    errors = {str(index): o.message for index, o in enumerate(outcomes) if isinstance(o, FailedImage)}
    metadata = {
        "format": BINARY_FORMAT,
        "model": json.dumps(models[0] if models else None),
        "categories": json.dumps({str(d["category_id"]): d["category"] for d in detections}),
        "errors": json.dumps(errors),
    }
    return save(tensors, metadata)
