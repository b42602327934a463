"""Which rows make up each batch of each epoch: a pure function of seed, epoch and the dataset, the same on all ranks.

The rule of data.order: permutation (that of windowed stands in windows.py). The rows of an epoch are a permutation
drawn from (seed, epoch). With batching by aspect ratio they are dealt, in that order, to landscape (width >= height)
and portrait, and each group is cut into whole batches; what is left of both groups makes one mixed batch if it
suffices. Without, the permutation is cut as it is. At most images_per_batch - 1 rows are left out of an epoch, other
ones in another epoch. The order of the batches is drawn too. Every epoch has num_rows // images_per_batch batches, so a
global step alone says where training is. With repeat factors the rows of an epoch are those of repeats.py, a row as
often as it comes, of which every epoch has the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.repeats import epoch_length, epoch_repeats, image_categories, repeat_factors
from maskray.platform.data.windows import windowed_batches

_ORDER_STREAM = 0x6F72646572  # keeps these draws apart from others of the same seed and epoch


def epoch_batches(
    landscape: Sequence[bool] | NDArray[np.bool_], seed: int, epoch: int, images_per_batch: int, by_aspect_ratio: bool
) -> NDArray[Any]:
    """The batches of an epoch, (num_rows // images_per_batch, images_per_batch) positions in 0..num_rows-1.

    landscape says of every row whether its image is at least as wide as high. ValueError where there are fewer rows
    than a batch has.
    """
    groups = np.asarray(landscape, dtype=bool)
    if images_per_batch < 1 or len(groups) < images_per_batch:
        raise ValueError(f"{len(groups)} images are not enough for a batch of {images_per_batch}")
    generator = np.random.default_rng([_ORDER_STREAM, seed, epoch])
    order = generator.permutation(len(groups)).astype(index_type(len(groups)))
    parts = [order[groups[order]], order[~groups[order]]] if by_aspect_ratio else [order]
    whole = [part[: len(part) // images_per_batch * images_per_batch] for part in parts]
    rest = np.concatenate([part[len(kept) :] for part, kept in zip(parts, whole)])
    mixed = rest[: len(rest) // images_per_batch * images_per_batch]
    batches = np.concatenate([*whole, mixed]).reshape(-1, images_per_batch)
    return batches[generator.permutation(len(batches))]


def index_type(length: int) -> type[np.int32] | type[np.int64]:
    """What positions among so many are kept as: of millions of rows half the memory."""
    return np.int32 if length < 2**31 else np.int64


@dataclass(frozen=True)
class _Epoch:
    """Its batches as global row indices, their draws where some row may come twice, and the window of each batch."""

    number: int
    rows: NDArray[Any]
    draws: NDArray[np.int64] | None
    windows: NDArray[np.int64] | None


@dataclass(frozen=True)
class Position:
    """Where a global step is: epoch, and the batch of that epoch, both from 0."""

    epoch: int
    batch: int


def training_rows(manifest: Manifest, only_with_objects: bool) -> NDArray[Any]:
    """Global row indices of the images that take part in training: all, or those with an object."""
    if only_with_objects:
        return np.flatnonzero(np.asarray(manifest.num_objects) > 0).astype(index_type(manifest.num_images))
    return np.arange(manifest.num_images, dtype=index_type(manifest.num_images))


def count_earlier(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each of some values (N,) has come before it."""
    order = np.argsort(values, kind="stable")
    is_first = np.r_[True, np.diff(values[order]) != 0][: len(values)]
    places = np.arange(len(values))
    earlier = np.empty_like(values)
    earlier[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return earlier


class EpochOrder:
    """The batches of a whole run over the rows that take part in it, by global step."""

    def __init__(
        self,
        manifest: Manifest,
        seed: int,
        images_per_batch: int,
        by_aspect_ratio: bool,
        only_with_objects: bool,
        repeat_threshold: float = 0.0,
        shuffle_window: int | None = None,
        part: range | None = None,
    ) -> None:
        """repeat_threshold: as of repeat_factors, 0 none. shuffle_window: rows of a window of data.order: windowed,
        None for a permutation of all. part: the rows of the manifest that may take part, None all. ValueError where
        fewer rows take part than a batch has."""
        self._rows = training_rows(manifest, only_with_objects)
        if part is not None:
            self._rows = self._rows[(self._rows >= part.start) & (self._rows < part.stop)]
        self._landscape = (np.asarray(manifest.widths) >= np.asarray(manifest.heights))[self._rows]
        self._seed = seed
        self._images_per_batch = images_per_batch
        self._by_aspect_ratio = by_aspect_ratio
        self._window = shuffle_window
        self._shards = np.zeros(0, dtype=np.int64)
        if shuffle_window is not None:
            shards = np.arange(len(manifest.shards), dtype=np.int32)
            self._shards = np.repeat(shards, [shard.num_rows for shard in manifest.shards])[self._rows]
        self._cached: _Epoch | None = None
        if len(self._rows) < images_per_batch:
            raise ValueError(
                f"{'train.images_per_batch' if part is None else 'its share of a batch'} is {images_per_batch}, "
                f"but there are {len(self._rows)} images to train on"
            )
        self._factors: NDArray[np.float64] | None = None
        if repeat_threshold > 0:
            categories = image_categories(manifest)
            factors = repeat_factors([categories[row] for row in self._rows], repeat_threshold)
            self._factors = factors if (factors > 1).any() else None

    @property
    def batches_per_epoch(self) -> int:
        """Batches of every epoch."""
        images = len(self._rows) if self._factors is None else epoch_length(self._factors)
        return images // self._images_per_batch

    def position(self, step: int) -> Position:
        """Epoch and batch of a global step, all from 0."""
        return Position(*divmod(step, self.batches_per_epoch))

    def batch(self, step: int) -> NDArray[np.int64]:
        """Global row indices of the batch of a global step, (images_per_batch,)."""
        return self._at(step).rows[self.position(step).batch].astype(np.int64)

    def draws(self, step: int) -> NDArray[np.int64]:
        """By which number the rows of a batch are augmented, (images_per_batch,): the epoch, where a row comes once.

        A row that comes again has another number each time, so that its copies do not look alike.
        """
        epoch, batch = self._at(step), self.position(step).batch
        if epoch.draws is None:
            return np.full(self._images_per_batch, epoch.number)
        return epoch.draws[batch]

    def window(self, step: int) -> tuple[int, int] | None:
        """Epoch and number of the window whose rows are read together for a step; None without windows."""
        epoch = self._at(step)
        return None if epoch.windows is None else (epoch.number, int(epoch.windows[self.position(step).batch]))

    def _at(self, step: int) -> _Epoch:
        position = self.position(step)
        if self._cached is None or self._cached.number != position.epoch:
            positions, windows = self._epoch(position.epoch)
            rows = self._rows[positions]
            draws = None
            if self._factors is not None:
                earlier = count_earlier(rows.ravel().astype(np.int64))
                draws = position.epoch + (earlier << 32).reshape(rows.shape)
            self._cached = _Epoch(position.epoch, rows, draws, windows)
        return self._cached

    def _epoch(self, epoch: int) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Batches of an epoch as positions in the rows that take part, and the windows of the batches."""
        rule = self._seed, epoch, self._images_per_batch, self._by_aspect_ratio
        shards, landscape, repeated = self._shards, self._landscape, None
        if self._factors is not None:
            repeated = epoch_repeats(self._factors, self._seed, epoch)
            if self._window is not None:
                repeated = np.sort(repeated)  # rows of a shard as they stand in it
                shards = shards[repeated]
            landscape = landscape[repeated]
        windows = None
        if self._window is None:
            batches = epoch_batches(landscape, *rule)
        else:
            batches, windows = windowed_batches(shards, landscape, *rule, window=self._window)
        return batches if repeated is None else repeated[batches], windows
