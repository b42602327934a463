"""Which rows make up each batch of each epoch: a pure function of seed, epoch and the dataset, the same on all ranks.

The rule. The rows of an epoch are a permutation drawn from (seed, epoch). With batching by aspect ratio they are dealt,
in that order, to landscape (width >= height) and portrait, and each group is cut into whole batches; what is left of
both groups makes one mixed batch if it suffices. Without, the permutation is cut as it is. At most images_per_batch - 1
rows are left out of an epoch, other ones in another epoch. The order of the batches is drawn too. Every epoch
has num_rows // images_per_batch batches, so a global step alone says where training is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskray.platform.data.manifest import Manifest

_ORDER_STREAM = 0x6F72646572  # keeps these draws apart from others of the same seed and epoch


def epoch_batches(
    landscape: Sequence[bool] | NDArray[np.bool_], seed: int, epoch: int, images_per_batch: int, by_aspect_ratio: bool
) -> NDArray[np.int64]:
    """The batches of an epoch, (num_rows // images_per_batch, images_per_batch) positions in 0..num_rows-1.

    landscape says of every row whether its image is at least as wide as high. ValueError where there are fewer rows
    than a batch has.
    """
    groups = np.asarray(landscape, dtype=bool)
    if images_per_batch < 1 or len(groups) < images_per_batch:
        raise ValueError(f"{len(groups)} images are not enough for a batch of {images_per_batch}")
    generator = np.random.default_rng([_ORDER_STREAM, seed, epoch])
    order = generator.permutation(len(groups))
    parts = [order[groups[order]], order[~groups[order]]] if by_aspect_ratio else [order]
    whole = [part[: len(part) // images_per_batch * images_per_batch] for part in parts]
    rest = np.concatenate([part[len(kept) :] for part, kept in zip(parts, whole)])
    mixed = rest[: len(rest) // images_per_batch * images_per_batch]
    batches = np.concatenate([*whole, mixed]).reshape(-1, images_per_batch)
    return batches[generator.permutation(len(batches))]


@dataclass(frozen=True)
class Position:
    """Where a global step is: epoch, and the batch of that epoch, both from 0."""

    epoch: int
    batch: int


class EpochOrder:
    """The batches of a whole run over the rows that take part in it, by global step."""

    def __init__(
        self, manifest: Manifest, seed: int, images_per_batch: int, by_aspect_ratio: bool, only_with_objects: bool
    ) -> None:
        """ValueError where fewer rows take part than a batch has."""
        takes_part = np.asarray(manifest.num_objects) > 0 if only_with_objects else np.ones(manifest.num_images, bool)
        self._rows = np.flatnonzero(takes_part)
        self._landscape = (np.asarray(manifest.widths) >= np.asarray(manifest.heights))[self._rows]
        self._seed = seed
        self._images_per_batch = images_per_batch
        self._by_aspect_ratio = by_aspect_ratio
        self._cached: tuple[int, NDArray[np.int64]] | None = None
        if len(self._rows) < images_per_batch:
            raise ValueError(
                f"train.images_per_batch is {images_per_batch}, but there are {len(self._rows)} images to train on"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Batches of every epoch."""
        return len(self._rows) // self._images_per_batch

    def position(self, step: int) -> Position:
        """Epoch and batch of a global step, all from 0."""
        return Position(*divmod(step, self.batches_per_epoch))

    def batch(self, step: int) -> NDArray[np.int64]:
        """Global row indices of the batch of a global step, (images_per_batch,)."""
        position = self.position(step)
        if self._cached is None or self._cached[0] != position.epoch:
            batches = epoch_batches(
                self._landscape, self._seed, position.epoch, self._images_per_batch, self._by_aspect_ratio
            )
            self._cached = (position.epoch, batches)
        return self._rows[self._cached[1][position.batch]]
