"""Writes synthetic datasets in COCO format: images, instances with masks and crowds, persons with keypoints."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskray.platform.data.synthetic.outline import encode_rle, encode_segmentation
from maskray.platform.data.synthetic.person import KEYPOINTS, SKELETON
from maskray.platform.data.synthetic.scene import CLASSES, Instance, draw_scene
from maskray.platform.files.storage import write_whole
from maskray.platform.machine.progress_bar import track

# Category ids with gaps, as COCO's have.
CATEGORY_IDS = {
    "person": 1,
    "circle": 3,
    "square": 4,
    "triangle": 6,
    "star": 9,
    "ring": 10,
    "cross": 13,
    "crescent": 15,
}
VERSION = "1"  # of the drawing; a folder drawn by another one is not taken for the same
JPEG_QUALITY = 92


@dataclass(frozen=True)
class SyntheticPaths:
    """Where a split of a synthetic dataset lies."""

    images: Path
    annotations: Path
    keypoints: Path


def synthesize(
    folder: str | Path,
    num_images: int,
    seed: int,
    height: int = 192,
    width: int = 256,
    max_objects: int = 8,
    split: str = "train",
    persons: bool = False,
    classes: Sequence[str] = (),
) -> SyntheticPaths:
    """Draw a split: <folder>/<split>/*.jpg, annotations/instances_<split>.json and person_keypoints_<split>.json.

    Eight classes or those named, told apart by shape and mostly by colour; some images have no object, some a crowd
    region as RLE; segmentations cover what is visible. With persons every other object is one, without they are as many
    as any shape.
    The same arguments give the same bytes, another split gives other images.
    The annotations are written last: where they are complete and were drawn with the same arguments, nothing is done;
    with other ones it is a ValueError. height, width in pixels, at least 64.
    """
    if num_images < 1 or max_objects < 1 or min(height, width) < 64:
        raise ValueError(
            f"synthesize: num_images {num_images} and max_objects {max_objects} must be at least 1, "
            f"height {height} and width {width} at least 64"
        )
    root = Path(folder).absolute()
    annotations = root / "annotations"
    paths = SyntheticPaths(
        root / split, annotations / f"instances_{split}.json", annotations / f"person_keypoints_{split}.json"
    )
    settings: dict[str, Any] = {
        "num_images": num_images,
        "seed": seed,
        "height": height,
        "width": width,
        "max_objects": max_objects,
    }
    settings |= ({"persons": True} if persons else {}) | ({"classes": list(classes)} if classes else {})
    names = list(classes or CLASSES)
    others = [name for name in names if name != "person"]
    drawn = ["person"] * max(1, len(others)) + others if persons else names
    info = {"description": f"maskray synthetic, {split}", "version": VERSION, "settings": settings}
    if _is_complete(paths, info):
        return paths
    paths.images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for index in track(range(num_images), num_images, f"drawing {split}"):
        generator = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
        image, instances = draw_scene(height, width, max_objects, generator, drawn)
        name = f"{index:06d}.jpg"
        (paths.images / name).write_bytes(_encode_jpeg(image))
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for instance in instances:
            objects.append(_annotate(instance, len(objects) + 1, index + 1))
    _write_annotations(paths, info, images, objects, names)
    return paths


def _is_complete(paths: SyntheticPaths, info: dict[str, Any]) -> bool:
    if not paths.annotations.exists():
        return False
    try:
        present = json.loads(paths.annotations.read_bytes())["info"]
    except (ValueError, KeyError, TypeError):
        present = None
    if present != info:
        raise ValueError(f"{paths.annotations}: holds other data; give another folder or delete this one")
    return True


def _encode_jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _annotate(instance: Instance, annotation_id: int, image_id: int) -> dict[str, Any]:
    rows, columns = np.nonzero(instance.mask)
    left, top = int(columns.min()), int(rows.min())
    annotation: dict[str, Any] = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[instance.name],
        "bbox": [float(left), float(top), float(columns.max() + 1 - left), float(rows.max() + 1 - top)],
        "area": float(len(rows)),
        "iscrowd": int(instance.iscrowd),
        "segmentation": encode_rle(instance.mask) if instance.iscrowd else encode_segmentation(instance.mask),
    }
    if instance.name == "person":
        keypoints = np.zeros((17, 3), dtype=int) if instance.keypoints is None else instance.keypoints
        annotation["keypoints"] = keypoints.ravel().tolist()
        annotation["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
    return annotation


def synthetic_categories(names: Collection[str], keypoints: bool = False) -> list[dict[str, Any]]:
    """The categories of a set in which these classes are drawn, as in its COCO file: of keypoints, persons alone."""
    if keypoints:
        return [{"id": 1, "name": "person", "supercategory": "person", "keypoints": KEYPOINTS, "skeleton": SKELETON}]
    return [
        {"id": number, "name": name, "supercategory": "shape"} for name, number in CATEGORY_IDS.items() if name in names
    ]


def _write_annotations(
    paths: SyntheticPaths,
    info: dict[str, Any],
    images: list[dict[str, Any]],
    objects: list[dict[str, Any]],
    names: Collection[str],
) -> None:
    """Both files as COCO splits them: keypoints of persons alone, instances of all classes without keypoints."""
    categories, (person,) = synthetic_categories(names), synthetic_categories(names, keypoints=True)
    persons = [entry for entry in objects if entry["category_id"] == person["id"]]
    plain = [{key: entry[key] for key in entry if not key.endswith("keypoints")} for entry in objects]
    _write_json(paths.keypoints, {"info": info, "images": images, "annotations": persons, "categories": [person]})
    _write_json(paths.annotations, {"info": info, "images": images, "annotations": plain, "categories": categories})


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    write_whole(path, json.dumps(tree, separators=(",", ":")))
