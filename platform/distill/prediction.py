"""What a teacher finds in unlabelled images, kept in files of a few images each, so that a restart repeats little.

A file is JSON lines, one an image: {"image_id": ..., "results": [COCO results]}. Each is whole or not there. What is
found in an image does not depend on the others, so the files together say the same however they were cut.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.evaluation.row_actors import run_actors
from maskray.platform.evaluation.row_prediction import device_of, plan_batches, read_images
from maskray.platform.files.model_folder import read_model_spec, read_weights
from maskray.platform.files.storage import write_whole
from maskray.platform.inference.engine import Engine, open_predictor
from maskray.platform.job.config import ResourceConfig
from maskray.platform.job.tta_config import TTAConfig
from maskray.platform.machine.progress_bar import track

IMAGES_PER_FILE = 32
SECONDS_PER_FILE = 60.0  # of many views an image may take some seconds
IMAGES_PER_BATCH = 4

Found = tuple[int, str]  # image id, and the line of a file


@dataclass(frozen=True)
class Teacher:
    """A model that gives labels: its folder, the views that it looks from, and what computes it."""

    folder: str
    tta: TTAConfig
    engine: Engine


@dataclass(frozen=True)
class _Prediction:
    """Opens the teacher in an actor."""

    teacher: Teacher
    manifest: Manifest
    device: str
    threads: int

    def __call__(self) -> Callable[[list[int]], list[Found]]:
        teacher = self.teacher
        predictor = open_predictor(teacher.folder, self.device, teacher.engine, self.threads, teacher.tta)
        reader = RowReader(self.manifest)

        def predict(indices: list[int]) -> list[Found]:
            rows, images = read_images(reader, indices)
            ids = [int(row["image_id"]) for row in rows]
            found = predictor.predict(images, ids)
            lines = (json.dumps({"image_id": id, "results": results}) for id, results in zip(ids, found, strict=True))
            return list(zip(ids, lines, strict=True))

        return predict


def predict_unlabelled(
    teacher: Teacher, manifest: Manifest, rows: Sequence[int], resources: ResourceConfig, folder: Path
) -> None:
    """Let a teacher predict the rows of which `folder` has no results yet, by actors as evaluation does.

    ValueError where an image cannot be read, the model folder is damaged, or the cluster has room for no actor.
    """
    folder.mkdir(exist_ok=True)
    done = {entry["image_id"] for entry in read_predictions(folder)}
    left = [row for row in rows if int(manifest.image_ids[row]) not in done]
    read_weights(teacher.folder)  # damage is told here, not by every actor
    batches = plan_batches(manifest, left, read_model_spec(teacher.folder), IMAGES_PER_BATCH)
    work = _Prediction(teacher, manifest, device_of(resources), resources.threads)
    held: list[Found] = []
    number, written = len(list(_files(folder))), time.monotonic()
    for found in track(run_actors(work, batches, resources), len(batches), "predicting unlabelled images"):
        held += found
        if len(held) >= IMAGES_PER_FILE or time.monotonic() - written > SECONDS_PER_FILE:
            _write(folder, number, held)
            held, number, written = [], number + 1, time.monotonic()
    if held:
        _write(folder, number, held)


def read_predictions(folder: Path) -> Iterator[dict[str, Any]]:
    """What was found so far, one image after the other: image_id and results. ValueError naming a damaged file."""
    for path in _files(folder):
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("found-*.jsonl"))


def _write(folder: Path, number: int, found: Sequence[Found]) -> None:
    write_whole(folder / f"found-{number:06d}.jsonl", "".join(f"{line}\n" for _, line in found))
