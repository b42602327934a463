"""A folder of instance masks: PNG or TIFF images in which objects are numbers, or one such image an object.

    images/a.jpg                          images/a.jpg
    masks/a.png   0 background, 1, 2 ...  masks/a/0.png  masks/a/1.png   0 background, all else the object

Numbers are gray values of 8, 16 or 32 bits, palette indices or colours (black is background). Splits are folders
train, valid or val, test with both folders in them. An image without masks is not annotated and not taken; one without
objects has a mask that is 0 everywhere. All objects are of one class, "object", or the one of classes.txt; several
classes need a categories.json:

    {"categories": ["cell", "nucleus"], "objects": {"a.png": {"1": "cell", "2": "nucleus"}, "b/0.png": "cell"}}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from maskray.platform.data.decode import image_file_size
from maskray.platform.data.formats.annotated import AnnotatedFolder, Findings, FoundImage
from maskray.platform.data.formats.label_images import read_label_image, take_apart
from maskray.platform.data.formats.outlines import mask_object
from maskray.platform.data.formats.source_files import (
    IMAGE_SUFFIXES,
    SPLIT_FOLDERS,
    list_files,
    read_json,
    read_names,
    split_folder,
)
from maskray.platform.machine.progress_bar import track

LOOKS_FOR = "images/ with masks/*.png or masks/IMAGE/*.png"
MASK_SUFFIXES = (".png", ".tif", ".tiff")
CATEGORY_FILE, NAME_FILE = "categories.json", "classes.txt"
ONLY_CLASS = "object"


@dataclass(frozen=True)
class _Classes:
    """Names of the classes, and of which one the objects of a mask are: by number, or all of it."""

    names: list[str]
    objects: dict[str, Any]

    def name_of(self, mask: str, number: int) -> str:
        """The class of an object; ValueError where categories.json does not say it."""
        if len(self.names) == 1:
            return self.names[0]
        entry = self.objects.get(mask)
        name = entry.get(str(number)) if isinstance(entry, dict) else entry
        if name not in self.names:
            raise ValueError(f"an object whose class is not in {CATEGORY_FILE}")
        return str(name)


def find(path: Path) -> str | None:
    """The first mask of a folder, or of its train; None without."""
    for root in (path, *(path / name for names in SPLIT_FOLDERS.values() for name in names)):
        if (root / "images").is_dir() and (root / "masks").is_dir():
            first = next(list_files(root / "masks", MASK_SUFFIXES), None)
            if first is not None:
                return str((root / "masks" / first).relative_to(path))
    return None


def splits(path: Path) -> tuple[str, ...]:
    """Splits are folders of that name."""
    return tuple(split for split in SPLIT_FOLDERS if split_folder(path, split) is not None)


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read the masks of a folder, or of its split; of all its splits where none is named.

    ValueError naming the file where a mask is damaged, has not the size of its image, or has no image.
    """
    folders = {name: split_folder(path, name) for name in SPLIT_FOLDERS}
    roots = [(name, folder) for name, folder in folders.items() if folder and (folder / "masks").is_dir()]
    if split is not None:
        roots = [(name, folder) for name, folder in roots if name == split]
        if not roots:
            raise ValueError(f"{path}: no folder of the split {split!r} with masks in it")
    if images is not None and roots:
        raise ValueError(f"{path}: with splits, images lie in each one's folder images, not in one other folder")
    classes = _read_classes(path)
    findings = Findings(str(path))
    parts: list[tuple[str | None, Path]] = [*roots]
    for part, root in parts or [(None, path)]:
        _read_masks(findings, root, images or root / "images", images or path, part, classes)
    return findings.finish("instance_masks", images or path, classes.names)


def _read_classes(path: Path) -> _Classes:
    file = path / CATEGORY_FILE
    if not file.is_file():
        listed = read_names(path / NAME_FILE) if (path / NAME_FILE).is_file() else [ONLY_CLASS]
        if len(listed) > 1:
            raise ValueError(
                f"{path}: {len(listed)} classes in {NAME_FILE}: {CATEGORY_FILE} must say of which each object is"
            )
        return _Classes(listed, {})
    tree = read_json(file)
    names: Any = tree.get("categories")
    objects: Any = tree.get("objects", {})
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{file}: categories are not a list of names")
    if not isinstance(objects, dict) or len(set(names)) != len(names):
        raise ValueError(f"{file}: objects are not a table by mask, or a category stands twice")
    return _Classes(names, objects)


def _read_masks(findings: Findings, root: Path, images: Path, base: Path, split: str | None, classes: _Classes) -> None:
    by_stem = {name.with_suffix(""): name for name in list_files(images, IMAGE_SUFFIXES)}
    masks: dict[PurePosixPath, list[PurePosixPath]] = {}
    for name in list_files(root / "masks", MASK_SUFFIXES):
        whole = name.with_suffix("")
        masks.setdefault(whole if whole in by_stem else name.parent, []).append(name)
    if not masks:
        raise ValueError(f"{root / 'masks'}: no masks ({', '.join(MASK_SUFFIXES)})")
    for stem, files in track(sorted(masks.items()), len(masks), "reading masks"):
        if stem not in by_stem:
            raise ValueError(f"{root / 'masks' / files[0]}: no image of this name in {images}")
        width, height = image_file_size(images / by_stem[stem])
        image = FoundImage(str((images / by_stem[stem]).relative_to(base).as_posix()), width, height, split=split)
        findings.images.append(image)
        for file in files:
            _add_objects(findings, image, root / "masks", file, file.with_suffix("") != stem, classes)


def _add_objects(
    findings: Findings, image: FoundImage, folder: Path, file: PurePosixPath, one: bool, classes: _Classes
) -> None:
    """The objects of a mask: one of all that is not 0, or each number."""
    numbers = read_label_image(folder / file)
    size = (image.height, image.width)
    if numbers.shape != size:
        told = f"{numbers.shape[1]}x{numbers.shape[0]} pixels, its image has {size[1]}x{size[0]}"
        raise ValueError(f"{folder / file}: {told}")
    if one:
        numbers = (numbers != 0).astype(numbers.dtype)
    for number, mask, corner in take_apart(numbers):
        findings.add_object(
            image,
            f"{folder / file} number {number}",
            lambda: mask_object(classes.name_of(str(file), number), mask, corner, size),  # noqa: B023
        )
