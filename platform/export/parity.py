"""Compares what an ONNX file finds in images with what the model finds that it was written from.

Letters: D detections, K keypoints, m side of a mask.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskray.model.config import InputConfig, ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.platform.data.decode import Pixels
from maskray.platform.data.transforms import resize_image

# The largest differences that rounding in another order explains: pixels of boxes and keypoints, probabilities else.
TOLERANCES: Mapping[str, float] = MappingProxyType({"boxes": 0.05, "scores": 1e-3, "masks": 1e-2, "keypoints": 0.5})
MOST = {"boxes": 10.0, "scores": 0.5, "masks": 1.0, "keypoints": 10.0}  # what a tolerance can be and still mean any
SAME_PEAK = 1e-2  # scores of a keypoint that differ relatively by less are of peaks of one height
SAME_BOX_PIXELS = 2.0  # detections of one class whose corners are closer than this are taken for one

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Comparison:
    """Of one image: numbers of detections, and the largest differences of those that both found.

    `unmatched` are found by one alone, without those whose score is at the limit below which nothing is kept.
    `differences` are of boxes and keypoints (but for rare ties) in pixels, of scores and masks in probability, and
    `tolerances` what each of them may be.
    """

    name: str
    num_expected: int
    num_found: int
    unmatched: int
    differences: dict[str, float]
    tolerances: Mapping[str, float]

    @property
    def agrees(self) -> bool:
        """Whether every difference is within its tolerance."""
        return self.unmatched == 0 and all(value <= self.tolerances[key] for key, value in self.differences.items())

    def __str__(self) -> str:
        told = ", ".join(f"{key} {value:.1e}" for key, value in self.differences.items())
        return (
            f"{self.name}: {self.num_expected} detections of the model, {self.num_found} of the file, "
            f"{self.unmatched} of one alone; largest differences: {told or 'none'}"
        )


def read_tolerances(settings: Sequence[str], outputs: Collection[str]) -> dict[str, float]:
    """TOLERANCES with those that are given as KIND=VALUE; `outputs` names the kinds that the model has.

    ValueError for one that is not of that form, of no kind of output, or no number that means anything.
    """
    tolerances = {kind: value for kind, value in TOLERANCES.items() if kind in outputs}
    for setting in settings:
        kind, equals, text = setting.partition("=")
        if not equals or kind not in tolerances:
            raise ValueError(f"--tolerance {setting}: KIND=VALUE is needed, of {', '.join(tolerances)}")
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"--tolerance {setting}: {text!r} is no number") from None
        if not 0 < value <= MOST[kind]:
            raise ValueError(f"--tolerance {setting}: above 0 and at most {MOST[kind]:g} is needed")
        tolerances[kind] = value
    return tolerances


def compare_onnx(
    path: str | Path,
    model: MaskRCNN,
    spec: ModelSpec,
    images: Mapping[str, Pixels],
    height: int,
    width: int,
    tolerances: Mapping[str, float] = TOLERANCES,
) -> list[Comparison]:
    """Run images (h, w, 3) uint8 through an ONNX file for images of height and width, and through the model.

    An image is resized as the model wants it, and further where it would not fit. Both run on the CPU in float32,
    which is what the file computes in whatever inference.precision says.
    """
    import onnxruntime

    model = _in_float32(model)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    comparisons = []
    for name, image in images.items():
        padded, size = place_image(image, spec.input, height, width)
        found = dict(zip(names, session.run(names, {"image": padded, "image_size": size}), strict=True))
        expected = _detect(model, padded, size)
        comparisons.append(compare_detections(name, expected, found, spec, tolerances))
    return comparisons


def place_image(
    image: Pixels, config: InputConfig, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The inputs of an ONNX file: image (3, height, width) float32, padded with 0, and (2,) the size of the image."""
    upright = image.shape[0] > image.shape[1]
    shorter, longer = (width, height) if upright else (height, width)
    edges = min(config.shorter_edge, shorter), min(config.longer_edge_max, longer)
    resized = resize_image(image, *edges, config.resize)
    size = resized.shape[0], resized.shape[1]
    padded = np.zeros((3, height, width), dtype=np.float32)
    padded[:, : size[0], : size[1]] = resized.transpose(2, 0, 1)
    return padded, np.array(size, dtype=np.int64)


def compare_detections(
    name: str, expected: Arrays, found: Arrays, spec: ModelSpec, tolerances: Mapping[str, float] = TOLERANCES
) -> Comparison:
    """Pair detections of one class whose boxes nearly coincide, nearest scores first, and compare the pairs."""
    distance = np.abs(expected["boxes"][:, None] - found["boxes"]).max(axis=2)
    near = (distance < SAME_BOX_PIXELS) & (expected["classes"][:, None] == found["classes"])
    cost = np.where(near, distance + 100 * np.abs(expected["scores"][:, None] - found["scores"]), np.inf)
    rows, columns = [], []
    for row, column in zip(*np.unravel_index(np.argsort(cost, axis=None, kind="stable"), cost.shape), strict=True):
        if np.isfinite(cost[row, column]) and row not in rows and column not in columns:
            rows.append(int(row))
            columns.append(int(column))
    alone = [*np.delete(expected["scores"], rows), *np.delete(found["scores"], columns)]
    pair = (
        {key: values[rows] for key, values in expected.items()},
        {key: values[columns] for key, values in found.items()},
    )
    differences = {key: _difference(key, *pair) for key in expected if key != "classes" and rows}
    limit = spec.model.inference.score_threshold
    for one in (expected, found):
        if len(one["scores"]) == spec.model.inference.detections_per_image:
            limit = max(limit, float(one["scores"].min()))
    unmatched = sum(score > limit + tolerances["scores"] for score in alone)
    return Comparison(name, len(expected["scores"]), len(found["scores"]), unmatched, differences, tolerances)


def _in_float32(model: MaskRCNN) -> MaskRCNN:
    """The same modules below a configuration of that precision."""
    reference = copy.copy(model)
    inference = model.config.inference.model_copy(update={"precision": "float32"})
    reference.config = model.config.model_copy(update={"inference": inference})
    return reference


def _difference(key: str, expected: Arrays, found: Arrays) -> float:
    """The largest difference of paired detections; of keypoints that in position, but for what rounding decides.

    A map with two peaks of one height has its keypoint at the one or the other; the score, which is the height, is
    nearly the same then, and there may be 1 in 100 of those. A map is resized to the sides of its box rounded up, so
    boxes of 35.0000 and 35.0001 pixels have different maps: their keypoints are not compared.
    """
    apart = np.abs(expected[key] - found[key])
    if key != "keypoints":
        return float(apart.max())
    sides = [np.ceil(one["boxes"][:, 2:] - one["boxes"][:, :2]) for one in (expected, found)]
    same = (sides[0] == sides[1]).all(axis=1)
    distance = apart[same, :, :2].max(axis=-1)
    if not distance.size:
        return 0.0
    tied = apart[same, :, 2] <= SAME_PEAK * np.abs(expected[key][same, :, 2])
    usual = np.quantile(distance, 0.99, method="higher")
    return float(max(usual, distance[~tied].max(initial=0.0)))


def _detect(model: MaskRCNN, image: NDArray[np.float32], size: NDArray[np.int64]) -> Arrays:
    sizes = torch.from_numpy(size)[None]
    found = model.detect(Batch(torch.from_numpy(image)[None], sizes, torch.zeros(1, dtype=torch.int64), sizes))
    outputs = {name: getattr(found, name) for name in ("boxes", "scores", "classes", "masks", "keypoints")}
    return {name: tensor.numpy() for name, tensor in outputs.items() if tensor is not None}
