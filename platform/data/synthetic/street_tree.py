"""Writes synthetic streets as Cityscapes is distributed: images, ids of objects and of labels, and polygons.

Source of the format: cityscapesscripts 2.3.0 (preparation/json2instanceImg.py, json2labelImg.py): what is written here
is equal to the images that those make.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from maskray.platform.data.formats.cityscapes_labels import LABELS, OBJECTS_PER_LABEL, OTHER_OBJECTS, THINGS
from maskray.platform.data.synthetic.street import StreetObject, draw_street
from maskray.platform.files.storage import write_whole
from maskray.platform.machine.progress_bar import track

# Of each split, cities of its own, as in Cityscapes.
CITIES = {"train": ("northtown", "southtown"), "val": ("easttown",), "test": ("westtown",)}
VERSION = "1"  # of the drawing
SETTINGS = "synthetic-{split}.json"


@dataclass(frozen=True)
class StreetSettings:
    """What a split is drawn from; height and width in pixels, at most max_objects persons and vehicles in an image."""

    num_images: int
    seed: int = 0
    height: int = 256
    width: int = 512
    max_objects: int = 8

    def __post_init__(self) -> None:
        if self.num_images < 1 or self.max_objects < 2 or min(self.height, self.width) < 64:
            raise ValueError(
                f"streets: num_images {self.num_images} must be at least 1, max_objects {self.max_objects} at least 2, "
                f"height {self.height} and width {self.width} at least 64"
            )


def synthesize_streets(folder: str | Path, settings: StreetSettings, split: str = "train") -> Path:
    """Draw a split of a tree: FOLDER/leftImg8bit/SPLIT/CITY/*.png and gtFine/SPLIT/CITY/*; returns the folder.

    The same settings give the same bytes, another split gives other images. synthetic-SPLIT.json in the folder is
    written last: where it says that all of this is there, nothing is done; where it says otherwise it is a ValueError.
    """
    if split not in CITIES:
        raise ValueError(f"streets: split {split!r} is none of {', '.join(CITIES)}")
    root = Path(folder).absolute()
    stated = json.dumps({"version": VERSION, **vars(settings)}, indent=1)
    done = root / SETTINGS.format(split=split)
    if done.exists():
        if done.read_text(encoding="utf-8") != stated:
            raise ValueError(f"{done}: other streets were drawn here; give another folder or delete this one")
        return root
    for index in track(range(settings.num_images), settings.num_images, f"drawing {split}"):
        generator = np.random.default_rng([settings.seed, zlib.crc32(split.encode()), index])
        image, objects = draw_street(settings.height, settings.width, settings.max_objects, generator)
        city = CITIES[split][index % len(CITIES[split])]
        _write_frame(root, split, city, f"{city}_000000_{index:06d}", image, objects)
    write_whole(done, stated)
    return root


def _write_frame(
    root: Path, split: str, city: str, name: str, image: NDArray[np.uint8], objects: Sequence[StreetObject]
) -> None:
    height, width = image.shape[:2]
    images, truth = (root / folder / split / city for folder in ("leftImg8bit", "gtFine"))
    images.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    entries = [{"label": one.label, "polygon": _corners(one, height, width)} for one in objects]
    instances, labels = draw_ids(entries, height, width)
    Image.fromarray(image).save(images / f"{name}_leftImg8bit.png", compress_level=3)
    Image.fromarray(instances).save(truth / f"{name}_gtFine_instanceIds.png")
    Image.fromarray(labels).save(truth / f"{name}_gtFine_labelIds.png")
    tree = {"imgHeight": height, "imgWidth": width, "objects": entries}
    (truth / f"{name}_gtFine_polygons.json").write_text(json.dumps(tree), encoding="utf-8")


def _corners(one: StreetObject, height: int, width: int) -> list[list[int]]:
    """Whole pixels in the image, as annotators set them."""
    return [[min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)] for x, y in one.outline]


def draw_ids(
    entries: Sequence[dict[str, Any]], height: int, width: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """instanceIds (height, width) of 16 bits and labelIds of 8 of the objects of a file of polygons."""
    instances, labels = (Image.new("I", (width, height), LABELS["unlabeled"]) for _ in range(2))
    onto = ImageDraw.Draw(instances), ImageDraw.Draw(labels)
    counts: Counter[str] = Counter()
    for entry in entries:
        label = entry["label"]
        group = label not in LABELS
        name = label.removesuffix("group") if group else label
        number = LABELS[name]
        if number < 0:
            continue
        instance = number
        if name in THINGS + OTHER_OBJECTS and not group:
            instance = number * OBJECTS_PER_LABEL + counts[name]
            counts[name] += 1
        corners = [tuple(point) for point in entry["polygon"]]
        onto[0].polygon(corners, fill=instance)
        onto[1].polygon(corners, fill=number)
    return np.asarray(instances).astype(np.uint16), np.asarray(labels).astype(np.uint8)
