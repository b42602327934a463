"""A data source of a job to a manifest of shards: drawn, read and sharded as its kind demands."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from maskray.model.config import LabelMap
from maskray.platform.data.formats.cityscapes_labels import THINGS
from maskray.platform.data.formats.coco import parse_json, read_bytes, read_dataset, read_labels
from maskray.platform.data.formats.reading import detect_format, is_small, read_checked, read_files
from maskray.platform.data.formats.records import CocoDataset
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.shards import write_shards
from maskray.platform.data.suitability import ReadingRules, fit_masks, mask_gap_problem
from maskray.platform.data.synthetic.dataset import synthesize, synthetic_categories
from maskray.platform.data.synthetic.scene import CLASSES
from maskray.platform.data.synthetic.street_tree import StreetSettings, synthesize_streets
from maskray.platform.job.data_config import (
    ROWS_PER_SHARD,
    CocoSource,
    FilesSource,
    ShardSource,
    Source,
    SyntheticSource,
)

log = logging.getLogger(__name__)

NO_RULES = ReadingRules()


@dataclass(frozen=True)
class ReadSource:
    """A source that was read: shards that are there, or a dataset and the folder of its images to make them of."""

    manifest: Manifest | None = None
    dataset: CocoDataset | None = None
    images: str = ""

    @property
    def labels(self) -> LabelMap:
        """Its categories."""
        source = self.dataset or self.manifest
        assert source is not None
        return source.labels


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


def labels_known_early(source: Source, most_bytes: int) -> LabelMap | None:
    """The label map of a source before it is read whole; None where that is not here or has more bytes than that."""
    if isinstance(source, ShardSource):
        there = "://" in source.path or Path(source.path).is_dir()
        return read_manifest(source.path).labels if there else None
    if isinstance(source, SyntheticSource):
        if source.scene == "street":
            return _cityscapes_labels()
        return LabelMap.model_validate(
            {"categories": [
                {key: entry[key] for key in entry if key != "supercategory"}
                for entry in synthetic_categories(source.classes or CLASSES, source.keypoints)
            ]}
        )  # fmt: skip
    if isinstance(source, FilesSource):
        if source.format == "cityscapes":
            return _cityscapes_labels()
        small = Path(source.path).exists() and is_small(source)
        return read_labels(Path(source.path), read_files(source).tree) if small else None
    path = Path(source.annotations)
    if not path.is_file() or path.stat().st_size > most_bytes:
        return None
    return read_labels(path, parse_json(path, read_bytes(path)))


def _cityscapes_labels() -> LabelMap:
    return LabelMap.model_validate(
        {"categories": [{"id": id, "name": name} for id, name in enumerate(THINGS, start=1)]}
    )


def read_source(source: Source, split: str, folder: str | Path, rules: ReadingRules = NO_RULES) -> ReadSource:
    """Read a source, for split "train" or "val", by the rules; no image is opened and no shard is written.

    Synthetic images are drawn to <folder>/synthetic. ValueError naming data.<split>.
    """
    try:
        if isinstance(source, ShardSource):
            manifest = read_manifest(source.path)
            remedy = "make these shards anew with --without-masks drop, or set model.masks: false"
            problem = mask_gap_problem(manifest.mask_gaps, rules.masks, manifest.num_annotations, remedy)
            if problem is not None and rules.without_masks != "boxes_only":
                raise ValueError(f"{source.path}: {problem}")
            return ReadSource(manifest)
        if isinstance(source, SyntheticSource):
            dataset, images = draw_source(source, split, Path(folder) / "synthetic", rules)
        elif isinstance(source, FilesSource):
            dataset, images = _read_files(source, split, rules)
        else:
            images = Path(source.images)
            dataset = read_dataset(source.annotations, images, rules.max_bad_annotations)
        name = source.annotations if isinstance(source, CocoSource) else str(images)
        return ReadSource(None, fit_masks(dataset, name, rules), str(images))
    except ValueError as error:
        raise ValueError(f"data.{split}: {error}") from None


def draw_source(
    source: SyntheticSource, split: str, folder: Path, rules: ReadingRules = NO_RULES
) -> tuple[CocoDataset, Path]:
    """The data set and its images folder, drawn to a folder: in COCO format, or streets as a tree of Cityscapes."""
    sizes = source.height, source.width, source.max_objects
    if source.scene == "street":
        root = synthesize_streets(folder, StreetSettings(source.num_images, source.seed, *sizes), split)
        return _read_files(FilesSource(path=str(root), format="cityscapes", split=split), split, rules)
    paths = synthesize(folder, source.num_images, source.seed, *sizes, split, source.keypoints, source.classes)
    return read_dataset(paths.keypoints if source.keypoints else paths.annotations, paths.images), paths.images


def _read_files(source: FilesSource, split: str, rules: ReadingRules) -> tuple[CocoDataset, Path]:
    """The data set and its images folder; what the reader of the format did not take is told."""
    found = read_checked(source.path, source.format, source.split, source.images, rules.max_bad_annotations)
    for left_out in found.left_out:
        log.warning("data.%s: left out: %s", split, left_out)
    return found.dataset, found.images


def write_source(
    read: ReadSource,
    split: str,
    folder: str | Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    max_bad_images: int = 0,
) -> Manifest:
    """The manifest of a source that was read; shards are made at <folder>/shards/<split>, once.

    They are taken as they are when they are complete and of the same source. Needs Ray unless the source is shards.
    ValueError naming data.<split>.
    """
    if read.dataset is None:
        assert read.manifest is not None
        return read.manifest
    try:
        destination = Path(folder) / "shards" / split
        return write_shards(read.dataset, read.images, destination, rows_per_shard, max_bad_images)
    except ValueError as error:
        raise ValueError(f"data.{split}: {error}") from None


def prepare(
    source: Source,
    split: str,
    folder: str | Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    max_bad_images: int = 0,
    rules: ReadingRules = NO_RULES,
) -> Manifest:
    """The manifest of a source, for split "train" or "val": read_source and write_source in one."""
    return write_source(read_source(source, split, folder, rules), split, folder, rows_per_shard, max_bad_images)
