"""Drawn Cityscapes trees: everything that the format has, ids as the scripts of Cityscapes draw them, read again."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskray.platform.data.decode import image_file_size
from maskray.platform.data.formats.cityscapes_labels import THING_IDS, THINGS
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.outlines import decode_rle
from maskray.platform.data.synthetic.street_tree import StreetSettings, draw_ids, synthesize_streets

SETTINGS = StreetSettings(40, seed=3, height=128, width=256)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_streets(tmp_path_factory.mktemp("streets"), SETTINGS)


def test_a_tree_has_all_that_cityscapes_has(tree: Path) -> None:
    found = read_annotated(tree, split="train")
    assert len(found.tree["images"]) == 40
    assert {Path(entry["file_name"]).parent.name for entry in found.tree["images"]} == {"northtown", "southtown"}
    objects = Counter((THINGS[entry["category_id"] - 1], entry["iscrowd"]) for entry in found.tree["annotations"])
    assert all(objects[name, 0] >= 3 for name in THINGS)
    assert sum(objects[name, 1] for name in ("person", "car", "bicycle")) >= 5
    assert sum(entry["area"] < 100 and not entry["iscrowd"] for entry in found.tree["annotations"]) >= 10
    assert all(entry["ignore_region"] for entry in found.tree["images"])
    assert all(image_file_size(tree / entry["file_name"]) == (256, 128) for entry in found.tree["images"])


def test_objects_of_a_street_lie_where_the_ids_are(tree: Path) -> None:
    found = read_annotated(tree)
    first = found.tree["images"][0]
    name = first["file_name"].replace("leftImg8bit/", "gtFine/", 1).replace("leftImg8bit.png", "gtFine_instanceIds.png")
    with Image.open(tree / name) as image:
        assert image.mode == "I;16"
        ids = np.asarray(image)
    labels = np.asarray(Image.open(tree / name.replace("instanceIds", "labelIds")))
    assert (np.where(ids >= 1000, ids // 1000, ids) == labels).all()
    of_first = [entry for entry in found.tree["annotations"] if entry["image_id"] == first["id"]]
    assert of_first
    things = np.isin(labels, list(THING_IDS.values()))
    assert (
        sum(decode_rle(entry["segmentation"]) for entry in of_first).astype(int).tolist() == things.astype(int).tolist()
    )


def test_ids_are_those_that_the_scripts_draw(tree: Path) -> None:
    instance_images = pytest.importorskip("cityscapesscripts.preparation.json2instanceImg")
    label_images = pytest.importorskip("cityscapesscripts.preparation.json2labelImg")
    annotations = pytest.importorskip("cityscapesscripts.helpers.annotation")
    files = sorted(tree.rglob("*_polygons.json"))
    assert len(files) == 40
    for file in files:
        annotation = annotations.Annotation()
        annotation.fromJsonFile(str(file))
        theirs = np.asarray(instance_images.createInstanceImage(annotation, "ids"))
        written = file.with_name(file.name.replace("polygons.json", "instanceIds.png"))
        assert (np.asarray(Image.open(written)) == theirs).all()
        written = file.with_name(file.name.replace("polygons.json", "labelIds.png"))
        assert (np.asarray(Image.open(written)) == np.asarray(label_images.createLabelImage(annotation, "ids"))).all()


def test_ids_by_hand() -> None:
    square = [[1, 1], [1, 3], [3, 3], [3, 1]]
    entries = [
        {"label": "road", "polygon": [[0, 0], [0, 9], [9, 9], [9, 0]]},
        {"label": "car", "polygon": square},
        {"label": "cargroup", "polygon": [[x + 5, y] for x, y in square]},
        {"label": "car", "polygon": [[x, y + 5] for x, y in square]},
        {"label": "license plate", "polygon": [[2, 2], [2, 2], [2, 2]]},
    ]
    ids, labels = draw_ids(entries, 10, 10)
    assert (ids[2, 2], ids[2, 7], ids[7, 2], ids[9, 9]) == (26000, 26, 26001, 7)
    assert (labels[2, 2], labels[2, 7], labels[9, 9]) == (26, 26, 7)
    assert np.bincount(ids.ravel())[[26, 26000, 26001]].tolist() == [9, 9, 9]


def test_the_same_settings_give_the_same_bytes_and_others_are_refused(tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    settings = StreetSettings(2, 1, 64, 128)
    first, second = (synthesize_streets(tmp_path / name, settings, "val") for name in "ab")
    assert digest(first) == digest(second)
    image = next(first.rglob("*_leftImg8bit.png"))
    image.unlink()
    synthesize_streets(first, settings, "val")
    assert not image.exists()  # complete, as it says: nothing was drawn again
    with pytest.raises(ValueError, match=r"synthetic-val.json: other streets were drawn here"):
        synthesize_streets(first, StreetSettings(3, 1, 64, 128), "val")


def test_settings_that_draw_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_images 0 must be at least 1"):
        StreetSettings(0)
    with pytest.raises(ValueError, match="split 'minival' is none of train, val, test"):
        synthesize_streets(tmp_path, StreetSettings(1), "minival")
