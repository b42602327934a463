"""Real annotations written as other tools write them, and read again: the same classes, boxes and masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.platform.data.conversion import convert
from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.outlines import decode_rle

Objects = list[tuple[str, tuple[float, ...], bytes]]
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@pytest.fixture(scope="module")
def coco(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The objects of the sample that have polygons, boxes as their extremes, and the folder of its images."""
    sample = shared("data/coco-sample")
    tree = json.loads((sample / "annotations/instances_train2017.json").read_text())
    tree["annotations"] = [entry for entry in tree["annotations"] if not entry["iscrowd"]]
    for entry in tree["annotations"]:
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in entry["segmentation"]])
        low, high = points.min(axis=0), points.max(axis=0)
        entry["bbox"] = [*low.tolist(), *(high - low).tolist()]
    path = tmp_path_factory.mktemp("coco") / "polygons.json"
    path.write_text(json.dumps(tree))
    return path, sample / "train2017"


def content(tree: dict[str, Any]) -> dict[str, Objects]:
    """Class, box to a hundredth of a pixel and run lengths of every object, by file name without folders."""
    names = {entry["id"]: entry["name"] for entry in tree["categories"]}
    images = {entry["id"]: entry for entry in tree["images"]}
    found: dict[str, Objects] = {PurePosixPath(entry["file_name"]).name: [] for entry in images.values()}
    for entry in tree["annotations"]:
        image, segmentation = images[entry["image_id"]], entry["segmentation"]
        counts = b""
        if segmentation:
            counts = coco_mask.merge(coco_mask.frPyObjects(segmentation, image["height"], image["width"]))["counts"]
        box = tuple(round(value, 2) for value in entry["bbox"])
        found[PurePosixPath(image["file_name"]).name].append((names[entry["category_id"]], box, counts))
    return {name: sorted(objects) for name, objects in found.items()}


def by_image(tree: dict[str, Any]) -> list[tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]]:
    names = {entry["id"]: entry["name"] for entry in tree["categories"]}
    return [
        (image, [(names[e["category_id"]], e) for e in tree["annotations"] if e["image_id"] == image["id"]])
        for image in tree["images"]
    ]


def write_labelme(tree: dict[str, Any], images: Path, folder: Path) -> None:
    for image, objects in by_image(tree):
        name = Path(image["file_name"])
        (folder / name).symlink_to(images / name)
        shapes = [
            {
                "label": label,
                "shape_type": "polygon",
                "points": np.reshape(polygon, (-1, 2)).tolist(),
                "group_id": number,
            }
            for number, (label, entry) in enumerate(objects)
            for polygon in entry["segmentation"]
        ]
        keys = {"imagePath": name.name, "imageWidth": image["width"], "imageHeight": image["height"]}
        (folder / f"{name.stem}.json").write_text(json.dumps({"shapes": shapes, "imageData": None} | keys))


def write_cvat(tree: dict[str, Any], images: Path, folder: Path) -> None:
    (folder / "images").symlink_to(images)
    labels = "".join(f"<label><name>{entry['name']}</name></label>" for entry in tree["categories"])
    lines = [f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"]
    for image, objects in by_image(tree):
        lines.append(f'<image name="{image["file_name"]}" width="{image["width"]}" height="{image["height"]}">')
        for number, (label, entry) in enumerate(objects, start=1):
            for polygon in entry["segmentation"]:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in np.reshape(polygon, (-1, 2)))
                group = f' group_id="{number}"' if len(entry["segmentation"]) > 1 else ""
                lines.append(f'<polygon label={quoteattr(label)} occluded="0" points="{points}"{group}></polygon>')
        lines.append("</image>")
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))


def write_voc(tree: dict[str, Any], images: Path, folder: Path) -> None:
    """Boxes as edges from 0, which fractions show; masks painted one over the other, large ones first."""
    (folder / "JPEGImages").symlink_to(images)
    for name in ("Annotations", "SegmentationObject"):
        (folder / name).mkdir()
    for image, objects in by_image(tree):
        numbers = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        lines = [f"<annotation><filename>{image['file_name']}</filename><size><width>{image['width']}</width>"
                 f"<height>{image['height']}</height></size>"]  # fmt: skip
        for number, (label, entry) in enumerate(sorted(objects, key=lambda one: -one[1]["area"]), start=1):
            x, y, width, height = entry["bbox"]
            box = zip(CORNERS, (x, y, x + width, y + height))
            corners = "".join(f"<{key}>{value:.3f}</{key}>" for key, value in box)
            lines.append(f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>")
            rle = coco_mask.merge(coco_mask.frPyObjects(entry["segmentation"], *numbers.shape))
            numbers[coco_mask.decode(rle) != 0] = number
        stem = Path(image["file_name"]).stem
        (folder / "Annotations" / f"{stem}.xml").write_text("".join([*lines, "</annotation>"]))
        painted = Image.fromarray(numbers)
        painted.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        painted.save(folder / "SegmentationObject" / f"{stem}.png")


@pytest.mark.parametrize("write", [write_labelme, write_cvat])
def test_polygons_of_other_tools_have_the_same_content(coco: tuple[Path, Path], tmp_path: Path, write: Any) -> None:
    path, images = coco
    tree = json.loads(path.read_text())
    write(tree, images, tmp_path)
    found = read_annotated(tmp_path)
    assert found.format == write.__name__.removeprefix("write_")
    assert found.left_out == ()
    assert content(found.tree) == content(tree)
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    assert (len(dataset.images), dataset.num_annotations) == (55, 599)
    assert dataset.digest == dataset_of_tree(found.name, read_annotated(tmp_path).tree, found.images).digest


def test_to_yolo_and_back_to_coco_is_the_same_content(coco: tuple[Path, Path], tmp_path: Path) -> None:
    start = found = read_annotated(coco[0], images=coco[1])
    for target, name in (("yolo", "a"), ("coco", "b"), ("yolo", "c")):
        dataset = dataset_of_tree(found.name, found.tree, found.images)
        done = convert(found, dataset, target, tmp_path / name)  # type: ignore[arg-type]
        assert (done.images, done.objects, dict(done.left_out)) == (55, 599, {})
        found = read_annotated(tmp_path / name)
        assert content(found.tree) == content(start.tree)
    assert {path.name for path in (tmp_path / "a/images/train").iterdir()} == set(content(start.tree))


def test_voc_has_the_boxes_and_what_is_visible_of_the_masks(coco: tuple[Path, Path], tmp_path: Path) -> None:
    path, images = coco
    tree = json.loads(path.read_text())
    write_voc(tree, images, tmp_path)
    found = read_annotated(tmp_path)
    boxes = {name: [one[:2] for one in objects] for name, objects in content(tree).items()}
    stripped = found.tree | {"annotations": [entry | {"segmentation": []} for entry in found.tree["annotations"]]}
    assert {name: [one[:2] for one in objects] for name, objects in content(stripped).items()} == boxes
    masked = [entry for entry in found.tree["annotations"] if entry["segmentation"]]
    assert len(masked) > 500
    for entry in masked[:40]:
        x, y, _, height = entry["bbox"]
        rows, columns = np.nonzero(decode_rle(entry["segmentation"]))
        assert len(rows) == entry["area"]
        assert columns.min() >= x - 1
        assert rows.max() <= y + height + 1
