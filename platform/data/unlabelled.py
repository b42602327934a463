"""Images whose annotations nobody looks at: a folder or list of them, or a data set of any kind without its labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from maskray.model.config import LabelMap
from maskray.platform.data.decode import image_file_size
from maskray.platform.data.formats.coco import dataset_of_tree, read_image_entries
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.formats.records import CocoDataset, ImageRecord
from maskray.platform.data.formats.source_files import IMAGE_SUFFIXES, list_files, read_text
from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.preparation import ReadSource, check_source, draw_source
from maskray.platform.job.data_config import (
    CocoSource,
    ImagesSource,
    ShardSource,
    SyntheticSource,
    UnlabelledSource,
)
from maskray.platform.machine.progress_bar import track

log = logging.getLogger(__name__)
SPLIT = "test"  # of synthetic data: other images than those of train and val with the same seed


def check_unlabelled(source: UnlabelledSource, field: str) -> None:
    """ValueError naming the field of the job where the images are plainly not there; takes no time."""
    if not isinstance(source, ImagesSource):
        check_source(source, field)
        return
    for key, path in (("path", source.path), ("images", source.images)):
        if path is not None and not Path(path).exists():
            raise ValueError(f"{field}.{key}: {path}: no such {'file or folder' if key == 'path' else 'folder'}")


def read_unlabelled(
    source: UnlabelledSource, folder: str | Path, labels: LabelMap, max_bad_images: int = 0
) -> ReadSource:
    """Read the images of a source, none of them with an object, under the categories of `labels`.

    Synthetic images are drawn to <folder>/synthetic. Of a COCO file the list of images is enough. ValueError naming
    distill.unlabelled where there are none, or more than max_bad_images have a size that cannot be told.
    """
    try:
        if isinstance(source, ShardSource):
            return ReadSource(read_manifest(source.path))
        if isinstance(source, SyntheticSource):
            dataset, images = draw_source(source, SPLIT, Path(folder) / "synthetic")
            records = [_without_objects(record) for record in dataset.images]
            return ReadSource(None, CocoDataset(labels, records, dataset.digest), str(images))
        name, entries, images = _read_entries(source, max_bad_images)
        categories = [category.model_dump(mode="json") for category in labels.categories]
        tree = {"images": entries, "annotations": [], "categories": categories}
        return ReadSource(None, dataset_of_tree(name, tree, images), str(images))
    except ValueError as error:
        raise ValueError(f"distill.unlabelled: {error}") from None


def list_images(source: ImagesSource) -> tuple[list[str], Path]:
    """Names of the images of a folder, sorted, or of a list, in its order, and the folder that they start in.

    ValueError where there is no image, or a list names what leads out of its folder.
    """
    path = Path(source.path)
    if path.is_dir():
        names = [str(name) for name in list_files(path, IMAGE_SUFFIXES)]
        if not names:
            raise ValueError(f"{path}: no images below this folder ({', '.join(IMAGE_SUFFIXES)})")
        return names, path
    if path.suffix.lower() != ".txt":
        raise ValueError(f"{path}: neither a folder of images nor a list of them (.txt)")
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path}: lists no image")
    return names, path.parent if source.images is None else Path(source.images)


def _without_objects(record: ImageRecord) -> ImageRecord:
    return ImageRecord(record.image_id, record.file_name, record.width, record.height)


def _read_entries(source: UnlabelledSource, max_bad_images: int) -> tuple[str, list[Any], Path]:
    """What messages call a source, its images as entries of a COCO file, and the folder of the files."""
    if isinstance(source, ImagesSource):
        names, folder = list_images(source)
        return source.path, _measure(names, folder, max_bad_images), folder
    if isinstance(source, CocoSource):
        path = Path(source.annotations)
        images = read_image_entries(path)
        if not isinstance(images, list):
            raise ValueError(f"{path}: not a COCO file: no list 'images'")
        return str(path), images, Path(source.images)
    assert not isinstance(source, SyntheticSource | ShardSource)
    found = read_annotated(source.path, source.format, source.split, source.images)
    return found.name, found.tree["images"], found.images


def _measure(names: list[str], folder: Path, max_bad_images: int) -> list[dict[str, Any]]:
    """Entries with the sizes of image files, numbered from 1 in the order of their names."""
    entries: list[dict[str, Any]] = []
    bad = 0
    for number, name in enumerate(track(names, len(names), "reading sizes of images"), start=1):
        try:
            width, height = image_file_size(folder / name)
        except ValueError as error:
            bad += 1
            if bad > max_bad_images:
                raise ValueError(f"{error} ({bad} unreadable images, {max_bad_images} allowed)") from None
            log.warning("left out: %s", error)
            continue
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
    return entries
