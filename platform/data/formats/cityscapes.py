"""Cityscapes as it is distributed: images, and beside them 16-bit images in which the objects are numbers.

    leftImg8bit/SPLIT/CITY/CITY_000000_000019_leftImg8bit.png
    gtFine/SPLIT/CITY/CITY_000000_000019_gtFine_instanceIds.png     label * 1000 + object; below 1000 the label alone
    gtFine/SPLIT/CITY/CITY_000000_000019_gtFine_polygons.json       size and polygons, by hand

Splits are train, val and test; none is train and val, since test has no objects to learn from. Classes are the eight
that are evaluated. As in detectron2 (data/datasets/cityscapes.py) masks are those of instanceIds, and a region of a
class that is no single object (its number is below 1000) is a crowd. Void pixels are the image's ignore_region. The
polygons are not drawn again: of them the size and the labels are read, as what tells a wrong file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskray.platform.data.decode import DECODE_ERRORS, image_file_size
from maskray.platform.data.formats.annotated import AnnotatedFolder, Findings, FoundImage, FoundObject
from maskray.platform.data.formats.cityscapes_labels import (
    LABELS,
    OBJECTS_PER_LABEL,
    THING_IDS,
    THINGS,
    VOID_IDS,
    is_instance_id,
)
from maskray.platform.data.formats.json_values import read_whole
from maskray.platform.data.formats.label_images import read_label_image, take_apart
from maskray.platform.data.formats.outlines import Size, encode_crop, mask_object
from maskray.platform.data.formats.problem import shown
from maskray.platform.data.formats.source_files import read_json
from maskray.platform.machine.progress_bar import track

IMAGES, TRUTH = "leftImg8bit", "gtFine"
SPLITS = ("train", "val", "test")
OTHER_SPLITS = ("train_extra",)  # of the coarse annotations, which have no objects
LOOKS_FOR = f"{TRUTH}/SPLIT/CITY/*_{TRUTH}_instanceIds.png with {IMAGES}"
NAME = re.compile(r"[^\W_]([^\s_/]*)_\d+_\d+")
IDS, POLYGONS = f"_{TRUTH}_instanceIds.png", f"_{TRUTH}_polygons.json"
NUM_IDS = 1 << 16
MOST_PIXELS = 1 << 25  # sixteen times those of Cityscapes: a file of some kilobytes may state any size


@dataclass(frozen=True)
class _Frame:
    """One image of a split: where it lies below the two folders, without what their names end in."""

    split: str
    city: str
    name: str

    @property
    def image(self) -> str:
        return f"{IMAGES}/{self.split}/{self.city}/{self.name}_{IMAGES}.png"

    def truth(self, ending: str) -> str:
        return f"{TRUTH}/{self.split}/{self.city}/{self.name}{ending}"


def find(path: Path) -> str | None:
    """The folder of annotations, or of images where it is missing; None without either."""
    if not path.is_dir():
        return None
    root, split = _root(path)
    there = next((name for name in (TRUTH, IMAGES) if (root / name).is_dir()), None)
    return None if there is None else f"{there}/{split}" if split else there


def splits(path: Path) -> tuple[str, ...]:
    """The splits that have annotations; the one that a path inside of the tree names."""
    root, named = _root(path)
    return tuple(split for split in SPLITS if (root / TRUTH / split).is_dir() and named in (None, split))


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read a split of a tree, or train and val; path is the tree, or the folder of a split in it.

    ValueError naming the file where an annotation or an image is missing, has not 16 bits or the size of its image, is
    damaged or holds a number or label that Cityscapes does not have, and where a folder is none of it.
    """
    root, named = _root(path)
    if images is not None:
        raise ValueError(f"{path}: images of Cityscapes lie in its {IMAGES}: images cannot be another folder")
    if named is not None and split not in (None, named):
        raise ValueError(f"{path}: is of the split {named!r}, not {split!r}")
    frames = list(_frames(root, split or named))
    findings = Findings(str(path))
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as threads:  # Pillow and NumPy work without the GIL
        found = threads.map(lambda frame: _read_frame(root, frame), frames)
        findings.images += track(found, len(frames), "reading Cityscapes")
    return findings.finish("cityscapes", root, THINGS)


def _root(path: Path) -> tuple[Path, str | None]:
    """The folder that holds both others, and the split that a path in one of them names."""
    path = path.absolute()
    if path.name in (IMAGES, TRUTH):
        return path.parent, None
    if path.parent.name in (IMAGES, TRUTH):
        return path.parent.parent, path.name
    return path, None


def _frames(root: Path, split: str | None) -> Iterator[_Frame]:
    """The images of a split (none: train and val), each with its annotations there."""
    for folder in (IMAGES, TRUTH):
        if not (root / folder).is_dir():
            raise ValueError(f"{root}: no folder {folder}, which Cityscapes has")
        for name in _folders(root / folder):
            if name not in SPLITS + OTHER_SPLITS:
                raise ValueError(f"{root / folder / name}: no folder of Cityscapes, which has {', '.join(SPLITS)}")
    if split is not None and split not in SPLITS:
        raise ValueError(f"{root}: Cityscapes has no split {split!r}, but {', '.join(SPLITS)}")
    wanted = [name for name in ((split,) if split else SPLITS[:2]) if split or (root / TRUTH / name).is_dir()]
    if not wanted:
        raise ValueError(f"{root / TRUTH}: neither train nor val is in it; name the split")
    for name in wanted:
        for folder in (IMAGES, TRUTH):
            if not (root / folder / name).is_dir():
                raise ValueError(f"{root / folder}: no folder of the split {name!r}")
        yield from _frames_of(root, name)


def _frames_of(root: Path, split: str) -> Iterator[_Frame]:
    images = set(_named(root / IMAGES / split, split, f"_{IMAGES}.png"))
    truths = {ending: set(_named(root / TRUTH / split, split, ending)) for ending in (IDS, POLYGONS)}
    for ending, known in truths.items():
        missing = min(images - known, key=lambda frame: frame.image, default=None)
        if missing is not None:
            raise ValueError(f"{root / missing.image}: its annotation {missing.truth(ending)} is missing")
        alone = min(known - images, key=lambda frame: frame.image, default=None)
        if alone is not None:
            raise ValueError(f"{root / alone.truth(ending)}: its image {alone.image} is missing")
    if not images:
        raise ValueError(f"{root / IMAGES / split}: no images CITY/*_{IMAGES}.png")
    yield from sorted(images, key=lambda frame: frame.image)


def _named(folder: Path, split: str, ending: str) -> Iterator[_Frame]:
    """What lies in the cities of a folder with this ending; ValueError for a name that Cityscapes does not give."""
    for city in _folders(folder):
        for file in os.listdir(folder / city):
            if file.endswith(ending) and not file.startswith("."):
                name = file.removesuffix(ending)
                if NAME.fullmatch(name) is None:
                    raise ValueError(f"{folder / city / file}: no name of Cityscapes: CITY_000000_000000{ending}")
                yield _Frame(split, city, name)


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _read_frame(root: Path, frame: _Frame) -> FoundImage:
    width, height = image_file_size(root / frame.image)
    if width * height > MOST_PIXELS:
        raise ValueError(f"{root / frame.image}: {width}x{height} pixels are more than {MOST_PIXELS}")
    _check_polygons(root / frame.truth(POLYGONS), (height, width))
    path = root / frame.truth(IDS)
    numbers = _read_ids(path, (height, width))
    objects = []
    names = {number: name for name, number in THING_IDS.items()}
    labels = np.where(numbers >= OBJECTS_PER_LABEL, numbers // OBJECTS_PER_LABEL, numbers)
    for number, mask, corner in take_apart(np.where(np.isin(labels, list(names)), numbers, 0)):
        objects.append(_thing(number, names, mask, corner, (height, width)))
    void = np.isin(numbers, VOID_IDS)
    ignored = encode_crop(void, (0, 0), (height, width)) if void.any() else None
    return FoundImage(frame.image, width, height, objects, frame.split, ignored)


def _thing(
    number: int, names: dict[int, str], mask: NDArray[np.bool_], corner: tuple[int, int], size: Size
) -> FoundObject:
    aside = {"instance_id": number, "iscrowd": int(number < OBJECTS_PER_LABEL)}
    label = number if number < OBJECTS_PER_LABEL else number // OBJECTS_PER_LABEL
    return mask_object(names[label], mask, corner, size, aside)


def _read_ids(path: Path, size: Size) -> NDArray[np.int64]:
    """The numbers of an image of instance ids of this size."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if not image.mode.startswith("I"):
                told = "labelIds in its place?" if image.mode == "L" else f"they are of kind {image.mode}"
                raise ValueError(f"instance ids need 16 bits a pixel, these have not ({told})")
            if image.size != size[::-1]:
                raise ValueError(f"{image.width}x{image.height} pixels, its image has {size[1]}x{size[0]}")
    except DECODE_ERRORS as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    numbers = read_label_image(path)
    if int(numbers.max()) >= NUM_IDS or int(numbers.min()) < 0:
        raise ValueError(f"{path}: an instance id beyond 16 bits")
    for number in np.flatnonzero(np.bincount(numbers.ravel())).tolist():
        if not is_instance_id(number):
            raise ValueError(f"{path}: {number} is no instance id of Cityscapes")
    return numbers


def _check_polygons(path: Path, size: Size) -> None:
    """ValueError where a file of polygons is of another image, or is none."""
    tree = read_json(path)
    stated = read_whole(tree.get("imgHeight")), read_whole(tree.get("imgWidth"))
    if stated != size:
        told = f"{shown(tree.get('imgWidth'))}x{shown(tree.get('imgHeight'))}"
        raise ValueError(f"{path}: imgWidth and imgHeight are {told}, its image has {size[1]}x{size[0]}")
    objects = tree.get("objects")
    if not isinstance(objects, list) or not all(isinstance(entry, dict) for entry in objects):
        raise ValueError(f"{path}: objects are not a list")
    for entry in objects:
        label = entry.get("label")
        if not isinstance(label, str) or (label not in LABELS and label.removesuffix("group") not in LABELS):
            raise ValueError(f"{path}: {shown(label)} is no label of Cityscapes")
