"""Sources of a job of kind files: checked before anything starts, read into the same shards as any other."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from maskray.platform.data.conversion import convert
from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.preparation import check_source, labels_known_early, prepare
from maskray.platform.data.row_reader import read_rows
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.job.data_config import CocoSource, FilesSource, SyntheticSource


@pytest.fixture
def yolo(drawn: SyntheticPaths, tmp_path: Path) -> Path:
    found = read_annotated(drawn.annotations, images=drawn.images)
    convert(found, dataset_of_tree(found.name, found.tree, found.images), "yolo", tmp_path / "yolo")
    return tmp_path / "yolo"


def test_what_is_plainly_not_there_is_known_at_once(yolo: Path, tmp_path: Path) -> None:
    check_source(FilesSource(path=str(yolo)), "data.train")
    check_source(FilesSource(path=str(yolo), format="yolo", split="train"), "data.train")
    (tmp_path / "empty").mkdir()
    for source, message in (
        (FilesSource(path=str(tmp_path / "empty")), "no annotations of a known format"),
        (FilesSource(path=str(tmp_path / "absent"), format="yolo"), "no such file or folder"),
        (FilesSource(path=str(yolo), images=str(tmp_path / "absent")), "no such folder of images"),
    ):
        with pytest.raises(ValueError, match=f"^data.val: .*{message}"):
            check_source(source, "data.val")


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_files_become_the_shards_of_coco(
    yolo: Path, drawn: SyntheticPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (yolo / "labels/train/extra.txt").write_text("0 0.5 0.5 2 2\n0 0.5 0.5 0.1 0.2\n")
    Image.new("RGB", (128, 96)).save(yolo / "images/train/extra.png")
    with caplog.at_level(logging.WARNING):
        manifest = prepare(FilesSource(path=str(yolo), split="train"), "train", tmp_path / "run")
    assert "data.train: left out: 1 x coordinates that are not fractions of the image" in caplog.text
    plain = prepare(CocoSource(annotations=str(drawn.annotations), images=str(drawn.images)), "val", tmp_path / "run")
    assert manifest.num_images == plain.num_images + 1 == 24
    assert manifest.labels.names == plain.labels.names
    rows = read_rows(plain, range(23)), read_rows(manifest, range(24))
    pixels = {Path(row["file_name"]).name: (row["image"], len(json.loads(row["annotations"]))) for row in rows[1]}
    for row in rows[0]:
        kept = [one for one in json.loads(row["annotations"]) if not one["iscrowd"]]
        assert pixels[row["file_name"]] == (row["image"], len(kept))
    assert prepare(FilesSource(path=str(yolo), split="train"), "train", tmp_path / "run").digest == manifest.digest
    with pytest.raises(ValueError, match=r"^data\.test: .*no split 'test'"):
        prepare(FilesSource(path=str(yolo), split="test"), "test", tmp_path / "run")


def test_a_source_of_no_format_names_the_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^data\.val: .*no annotations of a known format"):
        prepare(FilesSource(path=str(tmp_path)), "val", tmp_path / "run")


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_streets_become_shards_with_groups_and_void(tmp_path: Path) -> None:
    source = SyntheticSource(scene="street", num_images=6, seed=3, height=64, width=128)
    manifest = prepare(source, "val", tmp_path / "run")
    assert manifest.labels.names == labels_known_early(source, 0).names == (
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"
    )  # fmt: skip
    tree = read_annotated(tmp_path / "run/synthetic", split="val").tree
    rows = read_rows(manifest, range(6))
    assert [row["file_name"] for row in rows] == [entry["file_name"] for entry in tree["images"]]
    assert [json.loads(row["ignore_region"]) for row in rows] == [entry["ignore_region"] for entry in tree["images"]]
    crowds = [one["iscrowd"] for row in rows for one in json.loads(row["annotations"])]
    assert crowds == [entry["iscrowd"] for entry in tree["annotations"]]
    assert 0 < sum(crowds) < len(crowds)
    plain = prepare(SyntheticSource(num_images=1), "train", tmp_path / "run2")
    assert "ignore_region" not in read_rows(plain, [0])[0]
