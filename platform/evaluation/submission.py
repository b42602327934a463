"""Results as the evaluation server of Cityscapes takes them: a text file an image, and a mask of each detection.

    aachen_000000_000019.txt        aachen_000000_000019/000.png 26 0.983
    aachen_000000_000019/000.png    white where the object is

Source: cityscapesscripts 2.3.0, evaluation/evalInstanceLevelSemanticLabeling.py (readPredInfo).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from pycocotools import mask as coco_mask

from maskray.model.config import LabelMap
from maskray.platform.data.formats.cityscapes import IMAGES, NAME
from maskray.platform.data.formats.cityscapes_labels import THING_IDS
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import read_file_names
from maskray.platform.evaluation.evaluated_images import EvaluatedImages
from maskray.platform.files.atomic import new_folder
from maskray.platform.machine.progress_bar import track

ENDING = f"_{IMAGES}.png"
Results = Sequence[Mapping[str, Any]]


def write_submission(
    out: Path, images: Iterable[tuple[str, Results]], num_images: int, labels: LabelMap, replace: bool = False
) -> None:
    """Write COCO results, given as file name of an image and its results, to a new folder, whole or not at all.

    Every image has a text file, though nothing was found in it; detections without a pixel are left out. ValueError
    where an image or a class is none of Cityscapes, and where the folder is there and not to be replaced.
    """
    label_ids = submission_labels(labels)
    if out.exists() and not replace:
        raise ValueError(f"{out}: exists already and is not overwritten")
    with new_folder(out, replace) as folder, ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as threads:
        for file_name, results in track(images, num_images, "writing submission"):
            _write_image(folder, submission_name(file_name), results, label_ids, threads)


def submit(out: Path, images: EvaluatedImages, manifest: Manifest) -> None:
    """Write the results of evaluated images, read again one by one, in the place of what was written there before."""
    names = read_file_names(manifest)
    found = ((names[image_id], images.results([image_id])[0]) for image_id in sorted(names))
    write_submission(out, found, len(names), manifest.labels, replace=True)


def check_submission(manifest: Manifest) -> None:
    """ValueError where a class or the name of an image is none of Cityscapes, before anything is predicted."""
    submission_labels(manifest.labels)
    for file_name in read_file_names(manifest).values():
        submission_name(file_name)


def submission_labels(labels: LabelMap) -> dict[int, int]:
    """The number of Cityscapes' label by category id; ValueError for a class that Cityscapes does not evaluate."""
    for category in labels.categories:
        if category.name not in THING_IDS:
            raise ValueError(f"submission: class {category.name!r} is none of Cityscapes: {', '.join(THING_IDS)}")
    return {category.id: THING_IDS[category.name] for category in labels.categories}


def submission_name(file_name: str) -> str:
    """What the files of an image are called; ValueError where it is not called as Cityscapes calls images."""
    name = Path(file_name).name
    stem = name.removesuffix(ENDING)
    if stem == name or NAME.fullmatch(stem) is None:
        raise ValueError(
            f"submission: image {file_name} is not called CITY_000000_000000{ENDING}, as Cityscapes has it"
        )
    return stem


def _write_image(
    folder: Path, name: str, results: Results, label_ids: Mapping[int, int], threads: ThreadPoolExecutor
) -> None:
    kept = [one for one in results if coco_mask.area(one["segmentation"]) > 0]
    lines = [
        f"{name}/{number:03d}.png {label_ids[one['category_id']]} {float(one['score'])!r}\n"
        for number, one in enumerate(kept)
    ]
    if kept:
        (folder / name).mkdir()
    masks = (folder / name / f"{number:03d}.png" for number in range(len(kept)))
    list(threads.map(_write_mask, masks, (one["segmentation"] for one in kept)))  # Pillow packs without the GIL
    (folder / f"{name}.txt").write_text("".join(lines), encoding="ascii")


def _write_mask(path: Path, segmentation: dict[str, Any]) -> None:
    mask = Image.fromarray(coco_mask.decode(segmentation) * 255).convert("1", dither=Image.Dither.NONE)
    mask.save(path, compress_level=4)
