"""How long a model takes for one image on this machine."""

from __future__ import annotations

import platform
import statistics
import time

import numpy as np
import torch

from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.config import LatencyLimit
from maskray.platform.machine.environment import describe_environment
from maskray.platform.registry.gate import Latency


def check_device(limit: LatencyLimit) -> None:
    """ValueError where the limit asks for a GPU that is not there."""
    if limit.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("gate.latency.device: cuda is not there on this machine")


def measure_latency(folder: str, limit: LatencyLimit) -> Latency:
    """Median seconds from decoded image to COCO results, of single images after one that is not timed.

    The images are noise of the limit's size, the same on every machine, so decoding is left out and detections are
    few: a lower bound that compares models. ValueError where the limit asks for a GPU that is not there.
    """
    check_device(limit)
    model, spec = read_model_folder(folder, limit.device)
    predictor = Predictor(model, spec, limit.device)
    noise = np.random.default_rng(0)
    seconds = []
    for number in range(limit.pictures + 1):
        image = noise.integers(0, 256, (limit.height, limit.width, 3), dtype=np.uint8)
        started = time.perf_counter()
        predictor.predict([image], [number])
        seconds.append(time.perf_counter() - started)
    environment = describe_environment()
    processor = (
        environment["gpus"] if limit.device == "cuda" else f"{environment['cpu']}, {torch.get_num_threads()} threads"
    )
    images = f"median of {limit.pictures} images of {limit.height} x {limit.width}"
    return Latency(seconds=statistics.median(seconds[1:]), measured=f"{images} on {platform.node()}: {processor}")
