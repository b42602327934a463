"""Synthetic data: the same bytes from the same seed, exact annotations, all that a COCO file may hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.outlines import rasterize
from maskray.platform.data.synthetic.dataset import CATEGORY_IDS, synthesize


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthesize(tmp_path / name, 5, seed=3, height=64, width=80)
    first = all_bytes(tmp_path / "a")
    assert len(first) == 7
    assert first == all_bytes(tmp_path / "b")
    synthesize(tmp_path / "c", 5, seed=4, height=64, width=80)
    synthesize(tmp_path / "d", 5, seed=3, height=64, width=80, split="val")
    images = [all_bytes(tmp_path / name) for name in "acd"]
    assert len({files.get("train/000002.jpg") or files["val/000002.jpg"] for files in images}) == 3


def test_complete_data_are_kept_and_others_not_overwritten(tmp_path: Path) -> None:
    paths = synthesize(tmp_path, 3, seed=1, height=64, width=64)
    before = paths.annotations.stat().st_mtime_ns
    assert synthesize(tmp_path, 3, seed=1, height=64, width=64) == paths
    assert paths.annotations.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds other data"):
        synthesize(tmp_path, 4, seed=1, height=64, width=64)
    paths.annotations.unlink()  # as after a kill: they are written last
    synthesize(tmp_path, 4, seed=1, height=64, width=64)
    assert len(read_dataset(paths.annotations, paths.images).images) == 4
    with pytest.raises(ValueError, match="num_images 0"):
        synthesize(tmp_path / "x", 0, seed=1)


def test_every_other_object_may_be_a_person(tmp_path: Path) -> None:
    paths = synthesize(tmp_path, 40, seed=1, height=96, width=128, persons=True)
    dataset = read_dataset(paths.annotations, paths.images)
    names = [annotation.category_id == 1 for image in dataset.images for annotation in image.annotations]
    assert 0.35 < np.mean(names) < 0.65
    assert read_dataset(paths.keypoints, paths.images).num_annotations == sum(names)
    with pytest.raises(ValueError, match="holds other data"):
        synthesize(tmp_path, 40, seed=1, height=96, width=128)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    synthesize(folder, 100, seed=0)
    return folder


def test_all_kinds_of_objects_are_there(many: Path) -> None:
    dataset = read_dataset(many / "annotations/instances_train.json", many / "train")
    objects = [annotation for image in dataset.images for annotation in image.annotations]
    assert dataset.labels.category_ids == tuple(sorted(CATEGORY_IDS.values()))
    assert {annotation.category_id for annotation in objects} == set(CATEGORY_IDS.values())
    areas = np.array([annotation.area for annotation in objects if not annotation.iscrowd])
    shares = [(areas < 32**2).mean(), ((areas >= 32**2) & (areas < 96**2)).mean(), (areas >= 96**2).mean()]
    assert all(low < share < high for share, low, high in zip(shares, (0.1, 0.5, 0.01), (0.4, 0.9, 0.3)))
    assert sum(annotation.iscrowd for annotation in objects) >= 2
    assert sum(isinstance(annotation.segmentation, dict) and not annotation.iscrowd for annotation in objects) > 10
    assert sum(not image.annotations for image in dataset.images) >= 1
    assert max(len(image.annotations) for image in dataset.images) <= 8


def test_annotations_fit_the_masks(many: Path) -> None:
    for image in read_dataset(many / "annotations/instances_train.json", many / "train").images:
        with Image.open(many / "train" / image.file_name) as picture:
            assert picture.size == (image.width, image.height) == (256, 192)
        covered = np.zeros((192, 256), dtype=int)
        for annotation in image.annotations:
            mask = rasterize({"id": 0, "segmentation": annotation.segmentation}, (192, 256), (192, 256))
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert annotation.bbox == (x, y, columns.max() + 1 - x, rows.max() + 1 - y)
            assert annotation.area == mask.sum() >= 40
            covered += mask
        assert covered.max() <= 1  # what is visible of one object is not of another


def test_keypoints_say_what_is_hidden(many: Path) -> None:
    dataset = read_dataset(many / "annotations/person_keypoints_train.json", many / "train")
    persons = [(image, annotation) for image in dataset.images for annotation in image.annotations]
    visibilities = set()
    for image, person in persons:
        assert person.keypoints is not None
        triples = np.array(person.keypoints).reshape(17, 3)
        visibilities |= set(triples[:, 2].tolist())
        assert person.num_keypoints == (triples[:, 2] > 0).sum()
        assert (triples[triples[:, 2] == 0] == 0).all()
        mask = rasterize({"id": 0, "segmentation": person.segmentation}, (192, 256), (192, 256))
        for x, y, visibility in triples[triples[:, 2] > 0]:
            assert 0 <= x < image.width
            assert 0 <= y < image.height
            assert mask[y, x] == (visibility == 2)
    assert len(persons) > 20
    assert visibilities == {0, 1, 2}


def test_classes_may_be_chosen(tmp_path: Path) -> None:
    """Only the named ones are drawn and listed, also where most objects are to be persons."""
    paths = synthesize(tmp_path / "a", 12, 5, max_objects=4, classes=["star", "square"])
    tree = json.loads(paths.annotations.read_text())
    assert {category["name"]: category["id"] for category in tree["categories"]} == {"square": 4, "star": 9}
    assert {entry["category_id"] for entry in tree["annotations"]} == {4, 9}
    paths = synthesize(tmp_path / "b", 12, 5, max_objects=4, persons=True, classes=["person", "star"])
    kinds = [entry["category_id"] for entry in json.loads(paths.annotations.read_text())["annotations"]]
    assert set(kinds) == {1, 9}
