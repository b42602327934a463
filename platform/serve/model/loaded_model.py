"""One version of a model in memory, tried before anybody relies on it, and what it finds in a batch of images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maskray.model.config import ModelSpec
from maskray.platform.data.decode import Pixels, decode_image
from maskray.platform.data.transforms import network_size
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.engine import TORCH, Engine, check_engine, make_predictor, read_ranges_of
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.tta_config import TTAConfig
from maskray.platform.serve.http.parameters import Options
from maskray.platform.serve.http.responses import FailedImage, ModelName, Prediction, choose, draw, name_categories

WARM_UP_SIZE = (120, 160)  # height, width of the image that a new version is tried on; the network scales it up


@dataclass(frozen=True)
class Task:
    """One image to find objects in: encoded, with its size as the header states it, and what is asked for."""

    data: bytes
    size: tuple[int, int]  # width, height
    options: Options
    image: Pixels | None = None  # what it decodes to, where that is known already


@dataclass(frozen=True)
class Found:
    """The answer to a task without what is drawn, and the pixels if it is to be drawn."""

    answer: Prediction
    image: Pixels | None


class LoadedModel:
    """A version that can answer."""

    def __init__(self, model: ModelName, spec: ModelSpec, predictor: Predictor, views: Predictor | None = None) -> None:
        """views is the predictor of tasks that ask for test-time augmentation, where that is offered."""
        self.model = model
        self.spec = spec
        self._predictor = predictor
        self._views = views
        self._names = {category.id: category.name for category in spec.labels.categories}

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the batch in which the network sees an image of a (width, height)."""
        return network_size((size[1], size[0]), self.spec.input, self.spec.model.backbone.size_divisor)

    def find(self, tasks: Sequence[Task], max_pixels: int) -> list[Found | FailedImage]:
        """The outcome of each task; an image that cannot be decoded leaves the others alone.

        All ask for test-time augmentation, or none does.
        """
        predictor = self._views if tasks[0].options.tta else self._predictor
        assert predictor is not None, "the route refuses what is not offered"
        began = time.perf_counter()
        decoded = [_decode(task.data, max_pixels) if task.image is None else task.image for task in tasks]
        whole = [image for image in decoded if not isinstance(image, FailedImage)]
        ready = time.perf_counter()
        least = min(task.options.least_score for task in tasks)
        found = iter(predictor.predict(whole, range(len(whole)), score_threshold=least) if whole else [])
        seconds = {"decode": ready - began, "predict": time.perf_counter() - ready}
        outcomes: list[Found | FailedImage] = []
        for task, image in zip(tasks, decoded, strict=True):
            if isinstance(image, FailedImage):
                outcomes.append(image)
                continue
            detections = name_categories(choose(next(found), task.options), self._names)
            height, width = image.shape[:2]
            answer = Prediction(self.model, width, height, detections, seconds, len(tasks))
            outcomes.append(Found(answer, image if task.options.format == "png" else None))
        return outcomes

    def draw(self, found: Found) -> bytes:
        """The PNG of a task that asked for one."""
        assert found.image is not None, "the task asked for no image"
        return draw(found.image, found.answer.detections, self.spec.labels)


def load_model(
    folder: str,
    model: ModelName,
    device: str,
    engine: Engine = TORCH,
    threads: int = 1,
    tta: TTAConfig | None = None,
) -> LoadedModel:
    """Read a version from its folder and let it find objects in a grey image, which makes the first answer quick.

    A runtime other than torch computes on so many threads; tta are views that requests may ask for. Raises
    ValueError of one line where the folder is damaged, weights are not finite, the runtime does not know a part of the
    model or there are no ranges of its 8-bit numbers, or that first prediction fails.
    """
    check_engine(engine, device)
    network, spec = read_model_folder(folder, device)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{folder}: {name} holds values that are not finite")
    predictor = make_predictor(network, spec, device, engine, threads, ranges=read_ranges_of(network, folder, engine))
    try:
        predictor.predict([np.full((*WARM_UP_SIZE, 3), 128, np.uint8)], [0])
    except Exception as error:
        raise ValueError(f"{folder}: the first prediction fails: {type(error).__name__}: {error}") from error
    views = None if tta is None else Predictor(predictor.model, spec, device, predictor.precision, tta)
    return LoadedModel(model, spec, predictor, views)


def _decode(data: bytes, max_pixels: int) -> Pixels | FailedImage:
    try:
        return decode_image(data, max_pixels)
    except ValueError as error:
        return FailedImage(422, str(error))
