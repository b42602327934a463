"""Lines about the data of a run: what every rule left out, and the end where nothing is left."""

from __future__ import annotations

import pytest

from maskray.model.config import Category, InputConfig, LabelMap
from maskray.platform.data.formats.records import Annotation, CocoDataset, ImageRecord
from maskray.platform.data.manifest import BadImage, LeftOut, Manifest, ShardInfo
from maskray.platform.job.data_config import DataConfig, SyntheticSource
from maskray.platform.runs.data_report import check_objects_left, count_small, describe_split

LABELS = LabelMap(categories=(Category(id=1, name="c"),))
SOURCE = SyntheticSource(num_images=1)
DATA = DataConfig(train=SOURCE, val=SOURCE, min_box_pixels=4.0)
SIZE = InputConfig(shorter_edge=50, longer_edge_max=100)


def manifest(num_objects: int, num_annotations: int) -> Manifest:
    return Manifest(
        labels=LABELS,
        digest="d",
        num_images=1,
        num_annotations=num_annotations,
        shards=(ShardInfo(name="p", num_rows=1, bytes=1, sha256="s"),),
        image_ids=(1,),
        widths=(200,),
        heights=(100,),
        num_objects=(num_objects,),
        bad_images=(BadImage(image_id=3, file_name="c.png", reason="truncated"),),
        problems={"id_as_float": 2, "bad_bbox": 1, "same_file": 1},
        left_out=(LeftOut(image_id=1, annotation_id=9, reason="bbox is None"),),
        location="here",
    )


def dataset(*boxes: tuple[float, float, float, float]) -> CocoDataset:
    """An image of 200x100 that training halves."""
    annotations = [Annotation(index, 1, box, 1.0) for index, box in enumerate(boxes)]
    return CocoDataset(LABELS, [ImageRecord(1, "a.png", 200, 100, annotations)], "d")


def test_every_rule_has_its_line() -> None:
    lines = list(describe_split("train", manifest(2, 3)))
    assert lines == [
        "train: 1 images, 3 annotations, 1 classes, 1 left out",
        "train: left out: image 3 (c.png): truncated",
        "train: left out: 1 bad_bbox",
        "train: read, but look suspicious: 1 same_file",
        "train: read as meant: 2 id_as_float",
        "train: left out: image 1, annotation 9: bbox is None",
    ]


def test_small_objects_are_counted_after_resizing_and_clipping() -> None:
    # 8 pixels are 4 after halving, 7.9 are 3.95; of the third 2 of 20 lie in the image
    whole = dataset((0, 0, 8, 8), (0, 0, 7.9, 50), (198, 0, 20, 50))
    assert count_small(whole, DATA, SIZE) == 2
    larger = DATA.model_copy(update={"shorter_edge_train": (50, 400)})
    assert count_small(whole, larger, InputConfig(shorter_edge=50, longer_edge_max=1000)) == 0
    whole.images[0].annotations[1].iscrowd = 1
    assert count_small(whole, DATA, SIZE) == 1


def test_a_run_ends_where_no_object_is_left() -> None:
    splits = {"train": manifest(2, 3), "val": manifest(1, 1)}
    told = list(check_objects_left(splits, dataset((0, 0, 9, 9), (0, 0, 1, 9)), DATA, SIZE))
    assert told == ["train: not trained on: 1 crowds, 1 objects below data.min_box_pixels 4"]
    with pytest.raises(ValueError, match=r"^data\.train: no object is left to train on: 1 crowds, 2 objects below"):
        list(check_objects_left(splits, dataset((0, 0, 1, 9), (0, 0, 1, 9)), DATA, SIZE))
    with pytest.raises(ValueError, match=r"^data\.val: no object is left to evaluate: 4 crowds$"):
        list(check_objects_left({"val": manifest(0, 4)}, None, DATA, SIZE))
    assert list(check_objects_left({"val": manifest(1, 4)}, None, DATA, SIZE)) == []
