"""Batches of two kinds of rows, labelled by people and by a model, so many of each in every batch (distillation).

The rule. Each part of the rows has an order of its own (order.py) with batches of its share of a batch, drawn from a
seed of its own, and goes through its own epochs: batch s of the run is batch s of the one beside batch s of the other.
Labelled rows stand in the places floor(i B / n) of a batch, i from 0 to n - 1, so that every worker and accumulation
step has its share of them, give or take one. Aspect ratios are batched within each part.

Letters: B images of a batch, n labelled ones of them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.order import EpochOrder
from maskray.platform.job.config import StreamConfig

_PART_STREAM = 0x70617274  # keeps the order of the other part apart from that of the labelled one


class Order(Protocol):
    """Which rows make up the batch of a global step: see EpochOrder."""

    def batch(self, step: int) -> NDArray[np.int64]:
        """Global row indices of the batch, (B,)."""
        ...

    def draws(self, step: int) -> NDArray[np.int64]:
        """By which number each of these rows is augmented, (B,)."""
        ...

    def window(self, step: int) -> tuple[int, ...] | None:
        """What tells the rows that are read together from others; None where each is read by itself."""
        ...


class MixedOrder:
    """The batches of a run over labelled rows and others, by global step."""

    def __init__(self, labelled: EpochOrder, others: EpochOrder, num_labelled: int, images_per_batch: int) -> None:
        """The orders have batches of num_labelled rows and of the rest."""
        self._parts = labelled, others
        places = np.arange(num_labelled) * images_per_batch // num_labelled
        self._is_labelled = np.isin(np.arange(images_per_batch), places)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Global row indices of the batch of a global step, (B,)."""
        return self._mix(*(part.batch(step) for part in self._parts))

    def draws(self, step: int) -> NDArray[np.int64]:
        """By which number the rows of a batch are augmented, (B,): the epoch of their own part, as of EpochOrder."""
        return self._mix(*(part.draws(step) for part in self._parts))

    def window(self, step: int) -> tuple[int, ...] | None:
        """The windows of both parts, whose rows are read together; None without windows."""
        windows = [part.window(step) for part in self._parts]
        return None if None in windows else tuple(number for window in windows if window for number in window)

    def _mix(self, labelled: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
        mixed = np.empty(len(self._is_labelled), dtype=np.int64)
        mixed[self._is_labelled], mixed[~self._is_labelled] = labelled, others
        return mixed


def build_order(manifest: Manifest, config: StreamConfig) -> Order:
    """The order that data.order and data.labelled_per_batch ask for; ValueError where rows are too few for it."""
    data, size, labelled = config.data, config.images_per_batch, config.data.labelled_per_batch

    def order(seed: int, images: int, part: range | None) -> EpochOrder:
        return EpochOrder(
            manifest,
            seed,
            images,
            data.batch_by_aspect_ratio,
            data.skip_images_without_objects,
            data.repeat_factor_threshold,
            data.shuffle_window if data.order == "windowed" else None,
            part,
        )

    if labelled is None:
        return order(config.seed, size, None)
    border = manifest.num_labelled
    if border is None:
        raise ValueError(
            "data.labelled_per_batch is of shards in two parts, which a distill job leaves, and "
            f"{manifest.location} has one: leave it out"
        )
    try:
        first = order(config.seed, labelled, range(border))
    except ValueError as error:
        raise ValueError(f"labelled part: {error}") from None
    try:
        second = order(_other_seed(config.seed), size - labelled, range(border, manifest.num_images))
    except ValueError as error:
        raise ValueError(f"part that a model has labelled: {error}") from None
    return MixedOrder(first, second, labelled, size)


def _other_seed(seed: int) -> int:
    """The seed of the second part, so that parts of one length are not drawn alike."""
    return int(np.random.SeedSequence([_PART_STREAM, seed]).generate_state(1, np.uint64)[0] >> 1)
