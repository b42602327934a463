"""Repeat-factor sampling: images with rare categories come more than once in an epoch (LVIS, Gupta et al. 2019)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from maskray.platform.data.manifest import Manifest
from maskray.platform.files.storage import open_folder

_REPEAT_STREAM = 0x726570656174  # keeps these draws apart from others of the same seed and epoch


def repeat_factors(categories: Sequence[Collection[int]], threshold: float) -> NDArray[np.float64]:
    """How often each image is to come in an epoch, on average, given the distinct categories in each; at least 1.

    A category that a share f of the images has gets max(1, sqrt(threshold / f)), an image the largest factor of its
    categories (Gupta et al. 2019, "repeat factor sampling"); an image without objects gets 1.
    """
    num_images = len(categories)
    counts = Counter(category for of_image in categories for category in set(of_image))
    factors = {c: max(1.0, (threshold * num_images / count) ** 0.5) for c, count in counts.items()}
    return np.array([max((factors[c] for c in of_image), default=1.0) for of_image in categories])


def epoch_length(factors: NDArray[np.float64]) -> int:
    """Images of an epoch with repeats, of every epoch the same: the sum of the factors, rounded down."""
    return int(np.floor(factors.sum()))


def epoch_repeats(factors: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Positions of the images of an epoch, epoch_length of them, an image as often as it comes.

    The factors, in an order drawn from (seed, epoch), are laid end to end on a line on which marks stand at distance 1,
    the first at a place that is drawn too: an image comes as often as marks lie on its factor. That is its factor
    rounded up or down, and its factor on average over epochs.
    """
    generator = np.random.default_rng([_REPEAT_STREAM, seed, epoch])
    order = generator.permutation(len(factors))
    start = int(generator.integers(2**20)) / 2**20
    ends = np.cumsum(factors[order])
    ends[-1] = factors.sum()  # in the same order in every epoch, so that rounding is the same too
    marks = np.floor(ends + start).astype(np.int64)
    return np.repeat(order, np.diff(marks, prepend=0))[: epoch_length(factors)]


def image_categories(manifest: Manifest) -> Sequence[tuple[int, ...]]:
    """Distinct ids of the categories in each row, crowds aside.

    As the manifest says, or read from all shards where these were written before manifests said so. ValueError naming
    a shard that cannot be read.
    """
    if manifest.categories is not None:
        return manifest.categories
    return [categories_of(json.loads(text)) for text in read_annotations(manifest)]


def categories_of(annotations: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    """Distinct ids of the categories of one image's annotations, sorted, crowds aside."""
    return tuple(sorted({annotation["category_id"] for annotation in annotations if not annotation["iscrowd"]}))


def read_annotations(manifest: Manifest) -> Iterator[bytes]:
    """The annotations of every row, as JSON, without the images; ValueError naming a shard that cannot be read."""
    filesystem, path = open_folder(manifest.location)
    for shard in manifest.shards:
        try:
            file = pq.ParquetFile(f"{path}/{shard.name}", filesystem=filesystem)
            for batch in file.iter_batches(columns=["annotations"]):
                yield from batch.column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{manifest.location}/{shard.name}: annotations cannot be read: {reason}") from None
