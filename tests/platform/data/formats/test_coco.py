"""Reading COCO annotation files: what they hold, and each way in which one can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskray.platform.data.formats.coco import read_dataset


def make_tree() -> dict[str, Any]:
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 20, "height": 10},
            {"id": 4, "file_name": "a.jpg", "width": 8, "height": 6},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 9,
                "category_id": 90,
                "bbox": [1, 2, 3, 4],
                "area": 12,
                "iscrowd": 0,
                "segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]],
            },
            {
                "id": 2,
                "image_id": 9,
                "category_id": 1,
                "bbox": [0, 0, 1, 2],
                "area": 2,
                "iscrowd": 1,
                "segmentation": {"size": [10, 20], "counts": [0, 2, 198]},
            },
        ],
    }


def write(folder: Path, tree: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return path


def test_records_are_by_id_and_images_without_annotations_stay(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, make_tree()), tmp_path)
    assert dataset.labels.category_ids == (1, 90)  # class 0 is the smallest id, whatever the order in the file
    assert dataset.labels.names == ("person", "toothbrush")
    assert [(image.image_id, len(image.annotations)) for image in dataset.images] == [(4, 0), (9, 2)]
    assert dataset.num_annotations == 2
    first, crowd = dataset.images[1].annotations
    assert (first.bbox, first.area, first.iscrowd) == ((1.0, 2.0, 3.0, 4.0), 12.0, 0)
    assert (crowd.iscrowd, crowd.segmentation) == (1, {"size": [10, 20], "counts": [0, 2, 198]})


def test_digest_covers_annotations_and_sizes_of_images(tmp_path: Path) -> None:
    path = write(tmp_path, make_tree())
    digests = [read_dataset(path, tmp_path).digest]
    (tmp_path / "a.jpg").write_bytes(b"12345")
    digests.append(read_dataset(path, tmp_path).digest)
    (tmp_path / "a.jpg").write_bytes(b"123456")
    digests.append(read_dataset(path, tmp_path).digest)
    path.write_text(path.read_text() + " ")
    digests.append(read_dataset(path, tmp_path).digest)
    assert len(set(digests)) == 4
    assert read_dataset(path, tmp_path).digest == digests[-1]


def change(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(tree: dict[str, Any]) -> None:
        node: Any = tree
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("annotations", to=None), "not a COCO annotation file: no list 'annotations'"),
        (change("images", 0, to=3), "an entry of 'images' is not an object"),
        (change("categories", to=[]), "no categories"),
        (change("categories", 1, "id", to=90), "category id 90 stands twice"),
        (change("categories", 1, "name", to=None), r"categories\[1\]: needs an integer id and a name"),
        (change("images", 0, "id", to=4), "image id 4 stands twice"),
        (change("images", 0, "width", to="20"), "image 9: width is '20', not an integer"),
        (change("images", 0, "height", to=0), "image 9: size 20x0"),
        (change("images", 0, "file_name", to=None), "image 9: no file_name"),
        (change("images", 0, "file_name", to="../b.jpg"), "image 9: '../b.jpg' leads out of the images folder"),
        (change("images", 0, "file_name", to="/etc/passwd"), "leads out of the images folder"),
        (change("annotations", 1, "id", to=1), "annotation 1: the id stands twice"),
        (change("annotations", 1, "id", to=True), r"annotations\[1\]: no integer id"),
        (change("annotations", 1, "image_id", to=77), "annotation 2: image id 77 is not among the images"),
        (change("annotations", 1, "category_id", to=2), "annotation 2: category id 2 is not among the categories"),
        (change("annotations", 0, "bbox", to=[1, 2, 3]), "annotation 1: bbox is .* not four numbers"),
        (change("annotations", 0, "bbox", to=[1, 2, 3, float("nan")]), "annotation 1: bbox is .* not four numbers"),
        (change("annotations", 0, "iscrowd", to=2), "annotation 1: iscrowd is 2"),
        (change("annotations", 0, "segmentation", to=[[1, 2, 3, 4]]), "annotation 1: a polygon has 4 coordinates"),
        (change("annotations", 0, "segmentation", to=[[1] * 7]), "annotation 1: a polygon has 7 coordinates"),
        (change("annotations", 0, "segmentation", to=[1, 2, 3]), "a polygon is not a list of numbers of pixels"),
        (change("annotations", 0, "segmentation", to=[[0, 0, 1e9, 0, 1e9, 1e9]]), "not a list of numbers of pixels"),
        (change("annotations", 0, "segmentation", to=[[-9e5, 0, 9e5, 1] * 9]), "corners farther than"),
        (change("annotations", 0, "segmentation", to=[[-99, 0, 99, 1] * 9999]), "longer than any outline"),
        (
            change("annotations", 0, "segmentation", to=[[0, i / 9, 9, i / 9, 9, 190] for i in range(999)]),
            "longer than any",
        ),
        (change("annotations", 1, "segmentation", "size", to=None), "annotation 2: RLE size None is not"),
        (change("annotations", 0, to=[1]), r"annotations\[0\] is \[1\], not an object"),
        (change("annotations", 0, "image_id", to=[9]), r"annotation 1: image id \[9\] is not among the images"),
        (change("images", 0, "id", to=2**63), "image id 9223372036854775808 is beyond 64 bits"),
        (change("annotations", 0, "id", to=-(2**63) - 1), "annotation id -9223372036854775809 is beyond 64 bits"),
        (change("images", 0, "width", to=2**31), "image 9: size 2147483648x10"),
        (change("images", 0, "file_name", to="a\0b"), "image 9: .* is no name of a file"),
        (change("images", 0, "file_name", to="\ud800"), "image 9: .* is no name of a file"),
        (change("images", to=[]), "no images"),
        (change("annotations", 0, "segmentation", to={"counts": "1"}), "neither a list of polygons nor an RLE"),
        (change("annotations", 1, "segmentation", "size", to=[20, 10]), r"RLE size \[20, 10\] is not"),
        (change("annotations", 1, "segmentation", "counts", to=[0, 2]), "annotation 2: RLE counts do not add up"),
        (change("annotations", 1, "segmentation", "counts", to="0000"), "annotation 2: RLE counts do not add up"),
        (change("annotations", 0, "keypoints", to=[1, 2]), "annotation 1: keypoints are not triples"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str) -> None:
    tree = make_tree()
    damage(tree)
    path = write(tmp_path, tree)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(path, tmp_path, max_bad_annotations=0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": []}', "[" * 100_000])
def test_files_that_are_not_coco(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"not JSON|not a COCO annotation file"):
        read_dataset(write(tmp_path, text), tmp_path)
    with pytest.raises(ValueError, match="no such annotation file"):
        read_dataset(tmp_path / "absent.json", tmp_path)


def test_official_annotations(coco_sample: Path) -> None:
    dataset = read_dataset(coco_sample / "annotations/instances_train2017.json", coco_sample / "train2017")
    assert (len(dataset.images), dataset.num_annotations, dataset.labels.num_classes) == (55, 608, 80)
    assert dataset.labels.class_indices[90] == 79
    assert sum(a.iscrowd for image in dataset.images for a in image.annotations) == 9
    persons = read_dataset(coco_sample / "annotations/person_keypoints_val2017.json", coco_sample / "val2017")
    annotations = [annotation for image in persons.images for annotation in image.annotations]
    assert len(annotations) == 96
    assert sum(annotation.num_keypoints > 0 for annotation in annotations) == 43


def test_a_box_without_area_stays_for_evaluation(tmp_path: Path) -> None:
    """pycocotools counts such an object as missed."""
    path = tmp_path / "boxes.json"
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": bbox, "area": 9, "iscrowd": 0}
            for number, bbox in enumerate(([1, 2, 0, 4], [30, 2, 5, 4], [1, 1, 4, 4]))
        ],
    }
    path.write_text(json.dumps(tree))
    dataset = read_dataset(path, tmp_path)
    assert [found.bbox[2] for found in dataset.images[0].annotations] == [0, 5, 4]
    assert [problem.code for problem in dataset.problems if problem.verdict == "suspect"] == [
        "zero_area",
        "outside_image",
    ]
