"""A data source of a job to a manifest of shards: drawn, read and sharded as its kind demands."""

from __future__ import annotations

import logging
from pathlib import Path

from maskray.platform.data.formats.coco import CocoDataset, read_dataset
from maskray.platform.data.formats.reading import dataset_of_tree, detect_format, read_source
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.job.data_config import (
    ROWS_PER_SHARD,
    CocoSource,
    FilesSource,
    ShardSource,
    Source,
    SyntheticSource,
)

log = logging.getLogger(__name__)


def check_source(source: Source, field: str) -> None:
    """ValueError naming the field of the job where a source is plainly not there; takes no time."""
    try:
        if isinstance(source, CocoSource):
            if not Path(source.annotations).is_file():
                raise ValueError(f"{source.annotations}: no such annotation file")
            if not Path(source.images).is_dir():
                raise ValueError(f"{source.images}: no such folder of images")
        elif isinstance(source, FilesSource):
            if source.images is not None and not Path(source.images).is_dir():
                raise ValueError(f"{source.images}: no such folder of images")
            if source.format == "auto":
                detect_format(source.path)
            elif not Path(source.path).exists():
                raise ValueError(f"{source.path}: no such file or folder")
        elif isinstance(source, ShardSource):
            read_manifest(source.path)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def prepare(
    source: Source, split: str, folder: str | Path, rows_per_shard: int = ROWS_PER_SHARD, max_bad_images: int = 0
) -> Manifest:
    """The manifest of a source, for split "train" or "val"; what has to be made is made below folder, once.

    Synthetic images go to <folder>/synthetic, shards to <folder>/shards/<split>; both are taken as they are when
    they are complete and of the same source. Needs Ray unless the source is shards. ValueError naming data.<split>.
    """
    try:
        if isinstance(source, ShardSource):
            return read_manifest(source.path)
        if isinstance(source, SyntheticSource):
            paths = synthesize(
                Path(folder) / "synthetic",
                source.num_images,
                source.seed,
                source.height,
                source.width,
                source.max_objects,
                split,
                source.keypoints,
                source.classes,
            )
            images: str | Path = paths.images
            dataset = read_dataset(paths.keypoints if source.keypoints else paths.annotations, images)
        elif isinstance(source, FilesSource):
            dataset, images = _read_files(source, split)
        else:
            dataset, images = read_dataset(source.annotations, source.images), source.images
        return write_shards(dataset, images, Path(folder) / "shards" / split, rows_per_shard, max_bad_images)
    except ValueError as error:
        raise ValueError(f"data.{split}: {error}") from None


def _read_files(source: FilesSource, split: str) -> tuple[CocoDataset, Path]:
    """The data set and its images folder; what the reader of the format did not take is told."""
    found = read_source(source)
    for left_out in found.left_out:
        log.warning("data.%s: left out: %s", split, left_out)
    return dataset_of_tree(found.name, found.tree, found.images), found.images
