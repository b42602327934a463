"""A data set of any format written in another: COCO JSON or YOLO labels, with its images beside it.

Images are linked where the file system can (a second name for the same bytes), else copied.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml

from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.coco import Annotation, CocoDataset, ImageRecord
from maskray.platform.data.formats.contours import one_polygon
from maskray.platform.data.formats.problem import one_line
from maskray.platform.data.formats.source_files import SPLIT_FOLDERS
from maskray.platform.data.formats.yolo import label_path
from maskray.platform.files.atomic import new_folder, refuse_existing
from maskray.platform.machine.progress_bar import track

Target = Literal["coco", "yolo"]
# Folders that say where an image lay in the layout it came from, and nothing of the image.
LAYOUT_FOLDERS = {"images", "JPEGImages", *(name for names in SPLIT_FOLDERS.values() for name in names)}


@dataclass
class Converted:
    """How much was written, and how many objects the other format cannot hold, by reason."""

    images: int = 0
    objects: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def convert(found: AnnotatedFolder, dataset: CocoDataset, target: Target, out: Path) -> Converted:
    """Write a data set to a new folder; `dataset` is the checked form of the tree that was found.

    coco: annotations.json (or one JSON a split) and images/. yolo: data.yaml, images/SPLIT and labels/SPLIT; what is
    in no split is in train. A folder that is there already is a ValueError, and so is an image that is not there.
    """
    refuse_existing(out)
    splits = {entry["id"]: _split_of(entry) for entry in found.tree["images"]}
    twice = [name for name, count in Counter(image.file_name for image in dataset.images).items() if count > 1]
    if twice and target == "yolo":
        raise ValueError(f"{found.name}: image {one_line(twice[0])} stands under several ids, but has one label file")
    missing = next((image for image in dataset.images if not (found.images / image.file_name).is_file()), None)
    if missing is not None:
        raise ValueError(f"{found.name}: image {one_line(missing.file_name)} is not in {found.images}")
    with new_folder(out) as folder:
        if target == "yolo":
            return _write_yolo(dataset, found.images, {key: value or "train" for key, value in splits.items()}, folder)
        return _write_coco(found.tree, dataset, found.images, splits, folder)


def _split_of(entry: Mapping[str, Any]) -> str | None:
    """The split of an image; what else a file may have under this key is none, and becomes no name of a file."""
    return next((split for split in SPLIT_FOLDERS if entry.get("split") == split), None)


def short_names(images: Iterable[ImageRecord], splits: Mapping[int, str | None]) -> dict[int, str]:
    """File names by image id without folders of the layout they came from, where they stay unique in their split."""
    names = {}
    for image in images:
        parts = list(PurePosixPath(image.file_name).parts)
        while len(parts) > 1 and parts[0] in LAYOUT_FOLDERS:
            parts.pop(0)
        names[image.image_id] = str(PurePosixPath(*parts))
    # YOLO names a label file by its image without the ending
    stems = Counter((splits.get(key), str(PurePosixPath(name).with_suffix(""))) for key, name in names.items())
    if max(stems.values(), default=1) > 1:
        return {image.image_id: image.file_name for image in images}
    return names


def _write_coco(
    tree: dict[str, Any], dataset: CocoDataset, images: Path, splits: Mapping[int, str | None], folder: Path
) -> Converted:
    names = sorted({record.file_name for record in dataset.images})
    for name in track(names, len(names), "linking images"):
        link_or_copy(images / name, folder / "images" / name)
    for split in dict.fromkeys(splits.values()):
        part = select_images(tree, {key for key, value in splits.items() if value == split})
        (folder / f"{split or 'annotations'}.json").write_text(json.dumps(part))
    return Converted(len(dataset.images), dataset.num_annotations)


def select_images(tree: dict[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """The tree of some of the images, with all categories."""
    return tree | {
        "images": [entry for entry in tree["images"] if entry["id"] in image_ids],
        "annotations": [entry for entry in tree["annotations"] if entry["image_id"] in image_ids],
    }


def _write_yolo(dataset: CocoDataset, images: Path, splits: Mapping[int, str], folder: Path) -> Converted:
    done = Converted(len(dataset.images))
    names = short_names(dataset.images, splits)
    class_of = dataset.labels.class_indices
    for record in track(dataset.images, len(dataset.images), "writing labels"):
        name = PurePosixPath("images", splits[record.image_id], names[record.image_id])
        link_or_copy(images / record.file_name, folder / name)
        lines = []
        for annotation in record.annotations:
            line = _yolo_line(class_of[annotation.category_id], annotation, record, done.left_out)
            lines += [line] if line else []
        done.objects += len(lines)
        label = folder / label_path(name)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("".join(f"{line}\n" for line in lines))
    tree: dict[str, Any] = {split: f"images/{split}" for split in SPLIT_FOLDERS if split in splits.values()}
    tree["names"] = dict(enumerate(dataset.labels.names))
    (folder / "data.yaml").write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return done


def _yolo_line(index: int, annotation: Annotation, record: ImageRecord, left_out: Counter[str]) -> str | None:
    """Class and polygon, or class and box where there is no mask; None, counted, where YOLO has no words for it."""
    if annotation.iscrowd:
        left_out["a crowd, which YOLO labels cannot tell from an object"] += 1
        return None
    if annotation.segmentation is None:
        x, y, width, height = annotation.bbox
        values = [x + width / 2, y + height / 2, width, height]
    else:
        values = one_polygon(annotation.segmentation, (record.height, record.width))
    if not values:
        left_out["an object without a pixel"] += 1
        return None
    scale = (record.width, record.height)
    fractions = (min(1.0, max(0.0, value / scale[i % 2])) for i, value in enumerate(values))
    return " ".join([str(index), *(f"{fraction:.10g}" for fraction in fractions)])


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, or where the file system has none across folders, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
