"""Stored proposals: what an RPN proposes on every training image, computed once by the workers and read by mapping.

proposals/step-000100/
    part-0-of-2.boxes.npy   (B, 4) float32 in pixels of the original image, image after image
    part-0-of-2.index.npy   (I, 3) int64 image id, first box, number of boxes; written last
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskray.model.config import InputConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.platform.data.batch import single_image
from maskray.platform.data.decode import decode_row
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.stream import eval_rows
from maskray.platform.data.transforms import flip_boxes
from maskray.platform.files.atomic import replaced_file
from maskray.platform.train.run_files import RunFiles

NOTE_SECONDS = 10.0


def store_proposals(
    model: MaskRCNN, manifest: Manifest, config: InputConfig, folder: Path, rank: int, num_ranks: int
) -> None:
    """Write this rank's part of the proposals on the images of a manifest, unless it is there already.

    Images are resized as at inference, one by one. One that cannot be read has none: training says what is wrong.
    """
    if _index_path(folder, rank, num_ranks).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    boxes: list[NDArray[np.float32]] = []
    index: list[tuple[int, int, int]] = []
    rows = eval_rows(manifest, rank, num_ranks)
    noted, num_boxes = time.monotonic(), 0
    for done, (image_id, found) in enumerate(_propose(model, manifest, config, rows), start=1):
        index.append((image_id, num_boxes, len(found)))
        boxes.append(found)
        num_boxes += len(found)
        if rank == 0 and time.monotonic() - noted > NOTE_SECONDS:
            noted = time.monotonic()
            RunFiles(folder.parents[1]).note("proposals", done=done, images=len(rows))
    _write(_boxes_path(folder, rank, num_ranks), np.concatenate([np.zeros((0, 4), np.float32), *boxes]))
    _write(_index_path(folder, rank, num_ranks), np.array(index, dtype=np.int64).reshape(-1, 3))


def _propose(
    model: MaskRCNN, manifest: Manifest, config: InputConfig, rows: list[int]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Image id and boxes (P, 4) in pixels of the original image, of each row that can be read."""
    reader, device = RowReader(manifest), next(model.parameters()).device
    for row in rows:
        content = reader.read(row)
        image_id = int(content["image_id"])
        try:
            image = decode_row(content)
        except ValueError:
            yield image_id, np.zeros((0, 4), np.float32)
            continue
        batch = single_image(image, image_id, config, model.config.backbone.size_divisor)
        proposals = model.propose(batch.to(device))
        found = proposals.boxes[0, proposals.valid[0]].cpu().numpy()
        height, width = batch.image_sizes[0].tolist()
        yield image_id, found * _scale((image.shape[0], image.shape[1]), (height, width))


class ProposalStore:
    """Reads what all ranks of a run stored in a folder."""

    def __init__(self, folder: Path, num_ranks: int) -> None:
        """ValueError naming the file where a part is missing or is not what was written."""
        self._parts: list[Any] = []
        self._places: dict[int, tuple[int, int, int]] = {}
        for rank in range(num_ranks):
            boxes = _read(_boxes_path(folder, rank, num_ranks))
            self._parts.append(boxes)
            for image_id, first, count in _read(_index_path(folder, rank, num_ranks)).tolist():
                if first + count > len(boxes):
                    raise ValueError(f"{_boxes_path(folder, rank, num_ranks)}: cut short")
                self._places[image_id] = (rank, first, count)

    def boxes(self, image_id: int) -> NDArray[np.float32]:
        """Proposals (P, 4) on an image in pixels of the original image, best first; KeyError where it was not there."""
        rank, first, count = self._places[image_id]
        return np.array(self._parts[rank][first : first + count])

    def attach(self, batch: Batch) -> Batch:
        """The batch with its proposals, scaled, mirrored and padded as its images are."""
        assert batch.flipped is not None
        found = []
        for image_id, original, size, flipped in zip(
            batch.image_ids.tolist(), batch.original_sizes.tolist(), batch.image_sizes.tolist(), batch.flipped.tolist()
        ):
            boxes = self.boxes(image_id) * _scale(size, original)
            found.append(flip_boxes(boxes, size[1]) if flipped else boxes)
        padded = torch.zeros(len(found), max(1, *(len(boxes) for boxes in found)), 4)
        for row, boxes in zip(padded, found):
            row[: len(boxes)] = torch.from_numpy(boxes)
        batch.proposals = padded
        return batch


def with_proposals(batches: Iterator[Batch], store: ProposalStore) -> Iterator[Batch]:
    """The batches with stored proposals in them."""
    try:
        for batch in batches:
            yield store.attach(batch)
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def _scale(to: tuple[int, int], by: tuple[int, int]) -> NDArray[np.float32]:
    """Factors of x0 y0 x1 y1 from images of size `by` to size `to`, both (height, width)."""
    x, y = to[1] / by[1], to[0] / by[0]
    return np.array([x, y, x, y], dtype=np.float32)


def _boxes_path(folder: Path, rank: int, num_ranks: int) -> Path:
    return folder / f"part-{rank}-of-{num_ranks}.boxes.npy"


def _index_path(folder: Path, rank: int, num_ranks: int) -> Path:
    return folder / f"part-{rank}-of-{num_ranks}.index.npy"


def _write(path: Path, array: NDArray[Any]) -> None:
    with replaced_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _read(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: stored proposals cannot be read ({' '.join(str(error).split())})") from None
