"""How long each stage of a prediction takes, and how many images a second come of batches (paper, section 4.3)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskray.model.detections import select_detections
from maskray.model.heads.keypoint import decode_keypoints
from maskray.platform.data.batch import single_image
from maskray.platform.inference.predictor import Predictor
from maskray.platform.machine.progress_bar import track

Pixels = NDArray[np.uint8]
RESIZE, BACKBONE, PROPOSALS, BOXES = "resize", "backbone", "proposals", "boxes"
MASKS, KEYPOINTS, PASTE = "masks", "keypoints", "paste and encode"


@dataclass(frozen=True)
class Spread:
    """Seconds of one thing done again and again."""

    median: float
    p90: float


@dataclass(frozen=True)
class StageTimes:
    """Seconds of an image by stage, of whole predictions, and images a second by how many are given at once.

    detections is how many were found in an image on average: boxes and masks take longer where there are more.
    """

    stages: dict[str, Spread]
    whole: Spread
    images_per_second: dict[int, float]
    detections: float
    num_images: int


class _Clock:
    """Adds up what happens between its laps; an accelerator is waited for, so that a stage is charged its own work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge what is done inside to a stage."""
        self.wait()
        began = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@torch.inference_mode()
def predict_in_stages(
    predictor: Predictor, image: Pixels, image_id: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What Predictor.predict finds in an image, and the seconds of every stage.

    resize: to the network's input, and to the device; backbone: normalisation and maps; proposals: the RPN and its NMS;
    boxes: box head and NMS; masks and keypoints: their heads; paste and encode: run lengths of the original size.
    """
    model, spec, clock = predictor.model, predictor.spec, _Clock(predictor.device)
    heads = model.roi_heads
    with clock.stage(RESIZE):
        batch = single_image(image, image_id, spec.input, spec.model.backbone.size_divisor).to(predictor.device)
    with model.inferring(predictor.device.type, predictor.precision):
        with clock.stage(BACKBONE):
            pixels = model.normalize(batch.images, batch.image_sizes)
            features = model.backbone(pixels)
        with clock.stage(PROPOSALS):
            maps = features if model.rpn_backbone is None else model.rpn_backbone(pixels)
            proposals = model.rpn.propose(model.rpn(maps), batch.image_sizes)
        with clock.stage(BOXES):
            scored = heads.score(features, proposals, batch.image_sizes)
            found = select_detections(scored.scores, scored.boxes, scored.image_index, heads.inference)
        if heads.mask_head is not None:
            with clock.stage(MASKS):
                found.masks = heads.find_masks(features, found.boxes, found.image_index, found.classes)
        if heads.keypoint_head is not None:
            with clock.stage(KEYPOINTS):
                heat_maps = heads.heat_maps(features, found.boxes, found.image_index)
                found.keypoints = decode_keypoints(heat_maps, found.boxes, heads.keypoint_config.score)
    with clock.stage(PASTE):
        results = predictor.read_image(found, batch, 0, None)
    return results, clock.seconds


def measure_stages(
    predictor: Predictor, images: Sequence[Pixels], repeats: int, batch_sizes: Sequence[int]
) -> StageTimes:
    """Times of decoded images, each `repeats` times, after a round that is not counted.

    Batches are of the first image again and again, as a server or an evaluation would give them to the predictor, which
    computes one image after the other on a CPU. ValueError without images.
    """
    if not images:
        raise ValueError("nothing to time: give at least one image")
    clock = _Clock(predictor.device)
    by_stage: dict[str, list[float]] = {}
    whole: list[float] = []
    detections = 0
    for turn in track(range(repeats + 1), repeats + 1, "stages"):
        for number, image in enumerate(images):
            found, seconds = predict_in_stages(predictor, image, number)
            clock.wait()
            began = time.perf_counter()
            predictor.predict([image], [number])
            clock.wait()
            if turn == 0:
                detections += len(found)
                continue
            whole.append(time.perf_counter() - began)
            for name, value in seconds.items():
                by_stage.setdefault(name, []).append(value)
    rates = {}
    for size in track(batch_sizes, len(batch_sizes), "batches"):
        seconds_of_batches = [_time_batch(predictor, clock, images[0], size) for _ in range(repeats + 1)][1:]
        rates[size] = size / statistics.median(seconds_of_batches)
    stages = {name: spread(values) for name, values in by_stage.items()}
    return StageTimes(stages, spread(whole), rates, detections / len(images), len(images))


def spread(seconds: Sequence[float]) -> Spread:
    """Median and 90th percentile, of which the nearest value is taken."""
    return Spread(statistics.median(seconds), sorted(seconds)[max(0, -(-9 * len(seconds) // 10) - 1)])


def _time_batch(predictor: Predictor, clock: _Clock, image: Pixels, size: int) -> float:
    clock.wait()
    began = time.perf_counter()
    predictor.predict([image] * size, range(size))
    clock.wait()
    return time.perf_counter() - began
