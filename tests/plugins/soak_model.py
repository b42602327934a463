"""What a soak serves: a model of its own, or two of random weights whose alias moves from one to the other."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from hostile_requests import encode

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking

NAME, ALIAS = "soak", "champion"
MOVE_SECONDS = 20.0


@contextlib.contextmanager
def serve_by_alias(
    folder: Path, options: argparse.Namespace
) -> Iterator[tuple[list[str], dict[str, str], list[bytes]]]:
    """Arguments of `maskray serve`, its environment, and the images to send; the alias moves until the end."""
    images = [path.read_bytes() for path in sorted(options.images.glob("*.jpg"))[:20]] if options.images else drawn()
    variables = {"RAY_TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    if options.model:
        yield [options.model], variables, images
        return
    tracking = Tracking(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    register_two(tracking, folder)
    ended = threading.Event()

    def move() -> None:
        for version in itertools.cycle("21"):
            if ended.wait(MOVE_SECONDS):
                return
            tracking.client.set_registered_model_alias(NAME, ALIAS, version)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield [f"models:/{NAME}@{ALIAS}", "--tracking-uri", f"sqlite:///{folder}/mlflow.db"], variables, images
    finally:
        ended.set()
        mover.join()


def register_two(tracking: Tracking, folder: Path) -> None:
    model_config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", norm="group_norm", freeze_stages=0, fpn_channels=32),
        inference={"score_threshold": 0.0, "detections_per_image": 20},
    )
    labels = LabelMap(categories=(Category(id=1, name="circle"), Category(id=7, name="square")))
    spec = ModelSpec(model=model_config, input=InputConfig(shorter_edge=160, longer_edge_max=256), labels=labels)
    experiment = tracking.client.create_experiment("soak", artifact_location=(folder / "store").as_uri())
    for version in (1, 2):
        torch.manual_seed(version)
        model = build_model(spec.model, spec.input, spec.labels.num_classes)
        made = write_model_folder(folder / f"model-{version}", model, spec)
        register_model(tracking, tracking.client.create_run(experiment).info.run_id, NAME, made, {})
    tracking.client.set_registered_model_alias(NAME, ALIAS, "1")


def drawn() -> list[bytes]:
    rows, columns = np.mgrid[:480, :640]
    images = []
    for number in range(8):
        pixels = np.stack([rows // 2, columns // 3, (rows * columns + 30 * number) % 256], axis=-1).astype(np.uint8)
        images.append(encode(pixels, "JPEG", quality=90))
    return images
