"""What an evaluation keeps of its images while they come in: columns of numbers, results in a file, no image in memory.

Letters: N images, D detections.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.diagnosis import Diagnosis, concatenate_diagnoses
from maskray.platform.evaluation.matching import MatchColumns, concatenate
from maskray.platform.files.atomic import replaced_file

PARTS_AT_ONCE = 256  # small ones that are joined to one: an array has some hundred bytes besides its values


@dataclass(frozen=True)
class BatchEvaluation:
    """What was found in a few images: their COCO results as JSON, a list for each, and matches of every IoU type.

    diagnoses hold the matches of boxes and masks where these are diagnosed, parts the others; seconds are those of the
    prediction. It is what travels from where a batch is predicted.
    """

    image_ids: list[int]
    results: list[bytes]
    num_results: int
    parts: list[MatchColumns]
    diagnoses: list[Diagnosis] = field(default_factory=list)
    seconds: float = 0.0


class EvaluatedImages:
    """Evaluated images in whatever order they come: 28 bytes a detection and IoU type, 90 where it is diagnosed, and 24
    an image; results on disk.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        """Results lie in a file without a name in `folder`, or where temporary files lie; it ends with this object."""
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._ids: list[NDArray[np.int64]] = []
        self._lengths: list[NDArray[np.int64]] = []
        self._large: list[list[MatchColumns]] = []
        self._small: list[list[MatchColumns]] = []
        self._diagnoses: list[list[Diagnosis]] = []
        self._large_diagnoses: list[list[Diagnosis]] = []
        self.num_results = 0
        self.seconds = 0.0  # of prediction, wherever it ran

    def add(self, batch: BatchEvaluation) -> None:
        """Take in a batch."""
        self._file.write(b"".join(batch.results))
        self._ids.append(np.array(batch.image_ids, dtype=np.int64))
        self._lengths.append(np.array([len(text) for text in batch.results], dtype=np.int64))
        self.num_results += batch.num_results
        self.seconds += batch.seconds
        self._small.append(batch.parts)
        self._diagnoses.append(batch.diagnoses)
        if len(self._small) >= PARTS_AT_ONCE:
            self._large.append([concatenate(of_type) for of_type in zip(*self._small, strict=True)])
            self._small = []
            self._large_diagnoses.append([concatenate_diagnoses(of_type) for of_type in zip(*self._diagnoses)])
            self._diagnoses = []
            self._ids, self._lengths = [np.concatenate(self._ids)], [np.concatenate(self._lengths)]

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Ids (N,) in the order in which the images came."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._ids])

    def matches(self) -> list[MatchColumns]:
        """Matches of each IoU type, in the order in which the images came; empty without images."""
        joined = [concatenate(of_type) for of_type in zip(*self._large, *self._small, strict=True)]
        self._large, self._small = [joined] if joined else [], []
        return [*(one.matches for one in self.diagnoses()), *joined]

    def diagnoses(self) -> list[Diagnosis]:
        """Diagnoses of boxes and masks, as far as they were asked for, in the order in which the images came."""
        joined = [
            concatenate_diagnoses(of_type) for of_type in zip(*self._large_diagnoses, *self._diagnoses, strict=True)
        ]
        self._large_diagnoses, self._diagnoses = [joined] if joined else [], []
        return joined

    def results(self, image_ids: Sequence[int]) -> list[list[dict[str, Any]]]:
        """COCO results of these images, read again."""
        ids, starts, lengths = self._places()
        found = []
        for image_id in image_ids:
            (at,) = np.flatnonzero(ids == image_id)
            self._file.seek(int(starts[at]))
            found.append(json.loads(self._file.read(int(lengths[at]))))
        return found

    def write_results(self, path: Path) -> None:
        """Write the COCO results of all images, by ascending image id, to one file, whole or not at all."""
        ids, starts, lengths = self._places()
        with replaced_file(path) as temporary, temporary.open("wb") as file:
            file.write(b"[")
            separator = b""
            for at in np.argsort(ids, kind="stable"):
                self._file.seek(int(starts[at]))
                entries = self._file.read(int(lengths[at]))[1:-1]
                if entries:
                    file.write(separator + entries)
                    separator = b", "
            file.write(b"]")

    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        lengths = np.concatenate([np.zeros(0, dtype=np.int64), *self._lengths])
        return self.image_ids, np.cumsum(lengths) - lengths, lengths


def collect(batches: Iterable[BatchEvaluation], folder: str | Path | None = None) -> EvaluatedImages:
    """All batches, taken in as they come."""
    images = EvaluatedImages(folder)
    for batch in batches:
        images.add(batch)
    return images
