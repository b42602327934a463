"""The order of an epoch where a request is slow: shards in a drawn order, and rows drawn within a window of them.

The rule. The shards are put in an order drawn from (seed, epoch), and their rows, in that order, on a ring that is cut
at a drawn place and then into as many stretches of equal length as a batch has images. A window is the next rows of
every stretch. With batching by aspect ratio its rows are dealt, in their order, to landscape and portrait. Place k of
the batches of a group is filled with the k-th part of its rows, shuffled; the order of a window's batches is drawn too.
What fills no whole batch is handed to the next window, and what is left at the end makes mixed batches if it suffices.

So a batch has rows of many shards, what one window takes of one stretch stands together in a shard and is read at once,
and a worker, which has some places of each batch, reads little more than its own part of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOW_STREAM = 0x77696E646F77  # keeps these draws apart from others of the same seed and epoch


def windowed_batches(
    shards: NDArray[Any],
    landscape: NDArray[np.bool_],
    seed: int,
    epoch: int,
    images_per_batch: int,
    by_aspect_ratio: bool,
    window: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The batches of an epoch, (num_rows // images_per_batch, images_per_batch) positions in 0..num_rows-1, and the
    number of the window of each, rising.

    shards has the number of the shard of every row, landscape whether its image is at least as wide as high; window is
    the number of rows of a window. ValueError where there are fewer rows than a batch has.
    """
    if images_per_batch < 1 or len(shards) < images_per_batch:
        raise ValueError(f"{len(shards)} images are not enough for a batch of {images_per_batch}")
    generator = np.random.default_rng([_WINDOW_STREAM, seed, epoch])
    ranks = generator.permutation(int(shards.max()) + 1)
    ring = np.argsort(ranks.astype(np.int32)[shards], kind="stable")
    ring = np.roll(ring, int(generator.integers(len(ring))))
    length = len(ring) // images_per_batch
    stretches = ring[: length * images_per_batch].reshape(images_per_batch, length)
    step = max(1, window // images_per_batch)
    batches: list[NDArray[np.int64]] = []
    left = [ring[length * images_per_batch :]]  # for the first window
    for start in range(0, length, step):
        rows = np.concatenate([*left, stretches[:, start : start + step].ravel()])
        groups = [rows[landscape[rows]], rows[~landscape[rows]]] if by_aspect_ratio else [rows]
        cut = [_cut(group, images_per_batch, generator) for group in groups]
        found = np.concatenate([whole for whole, _ in cut])
        batches.append(found[generator.permutation(len(found))])
        left = [rest for _, rest in cut]
    rest = np.concatenate(left)
    batches.append(rest[: len(rest) // images_per_batch * images_per_batch].reshape(-1, images_per_batch))
    numbers = [min(number, len(batches) - 2) for number in range(len(batches))]  # the last ones need no reading
    return np.concatenate(batches), np.repeat(numbers, [len(found) for found in batches])


def _cut(
    rows: NDArray[np.int64], images_per_batch: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Batches (count, B) of rows, place k of them from the k-th part; and what is left, drawn where it stands."""
    count = len(rows) // images_per_batch
    at = int(generator.integers(len(rows) + 1))
    left = np.arange(at, at + len(rows) - count * images_per_batch) % max(len(rows), 1)
    parts = np.delete(rows, left).reshape(images_per_batch, count)
    return generator.permuted(parts, axis=1).T, rows[left]
