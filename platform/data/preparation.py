"""A data source of a job to a manifest of shards: drawn, read and sharded as its kind demands."""

from __future__ import annotations

from pathlib import Path

from maskray.model.config import LabelMap
from maskray.platform.data.formats.coco import parse_json, read_bytes, read_dataset, read_labels
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import synthesize, synthetic_categories
from maskray.platform.data.synthetic.scene import CLASSES
from maskray.platform.job.data_config import ROWS_PER_SHARD, CocoSource, ShardSource, Source, SyntheticSource


def check_source(source: Source, field: str) -> None:
    """ValueError naming the field of the job where a source is plainly not there; takes no time."""
    try:
        if isinstance(source, CocoSource):
            if not Path(source.annotations).is_file():
                raise ValueError(f"{source.annotations}: no such annotation file")
            if not Path(source.images).is_dir():
                raise ValueError(f"{source.images}: no such folder of images")
        elif isinstance(source, ShardSource):
            read_manifest(source.path)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def labels_known_early(source: Source, most_bytes: int) -> LabelMap | None:
    """The label map of a source before it is read whole; None where its annotation file has more bytes than that."""
    if isinstance(source, ShardSource):
        return read_manifest(source.path).labels
    if isinstance(source, SyntheticSource):
        return LabelMap.model_validate(
            {"categories": [
                {key: entry[key] for key in entry if key != "supercategory"}
                for entry in synthetic_categories(source.classes or CLASSES, source.keypoints)
            ]}
        )  # fmt: skip
    path = Path(source.annotations)
    if path.is_file() and path.stat().st_size > most_bytes:
        return None
    return read_labels(path, parse_json(path, read_bytes(path)))


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
            annotations = str(paths.keypoints if source.keypoints else paths.annotations)
            images = str(paths.images)
        else:
            annotations, images = source.annotations, source.images
        return write_shards(
            read_dataset(annotations, images),
            images,
            Path(folder) / "shards" / split,
            rows_per_shard,
            max_bad_images,
        )
    except ValueError as error:
        raise ValueError(f"data.{split}: {error}") from None
