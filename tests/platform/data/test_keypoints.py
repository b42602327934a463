"""Keypoints as targets: by hand, mirrored, on real persons, and refused where labels and model differ."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskray.model.config import Category, InputConfig, KeypointHeadConfig, LabelMap, ModelConfig
from maskray.platform.data.batch import Sample, SampleBuilder, collate
from maskray.platform.data.formats.coco import annotation_dicts, read_dataset
from maskray.platform.data.keypoints import check_keypoints, flip_keypoints, mirrored_order, read_keypoints
from maskray.platform.data.synthetic.person import KEYPOINTS
from maskray.platform.data.targets import build_targets
from maskray.platform.job.data_config import DataConfig

NAMES = ("left_eye", "right_eye", "nose")
THREE = KeypointHeadConfig(num_keypoints=3)
FACE = [10, 20, 2, 0, 0, 0, 30, 40, 1]


def labels_of(*keypoints: tuple[str, ...]) -> LabelMap:
    return LabelMap(
        categories=tuple(Category(id=i + 1, name=f"c{i + 1}", keypoints=names) for i, names in enumerate(keypoints))
    )


def test_keypoints_are_shifted_then_scaled_and_unlabelled_ones_are_zero() -> None:
    annotations: list[dict[str, Any]] = [{"id": 1, "keypoints": FACE}, {"id": 2, "keypoints": None}, {"id": 3}]
    shifted = read_keypoints(annotations, THREE, (2.0, 0.5))
    assert shifted.dtype == np.float32
    np.testing.assert_array_equal(shifted[0], [[21, 10.25, 2], [0, 0, 0], [61, 20.25, 1]])
    assert not shifted[1:].any()
    plain = read_keypoints(annotations, THREE.model_copy(update={"half_pixel": False}), (2.0, 0.5))
    np.testing.assert_array_equal(plain[0], [[20, 10, 2], [0, 0, 0], [60, 20, 1]])
    assert read_keypoints([], THREE, (1.0, 1.0)).shape == (0, 3, 3)


def test_another_number_of_keypoints_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"annotation 7: 2 keypoints, model\.keypoint_head\.num_keypoints is 3"):
        read_keypoints([{"id": 7, "keypoints": FACE[:6]}], THREE, (1.0, 1.0))


def test_left_and_right_change_places() -> None:
    assert mirrored_order(NAMES).tolist() == [1, 0, 2]
    # detectron2's COCO_PERSON_KEYPOINT_FLIP_MAP: every left one with the right one behind it, the nose stays
    assert mirrored_order(KEYPOINTS).tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    with pytest.raises(ValueError, match="keypoint right_eye has no counterpart left_eye"):
        mirrored_order(("nose", "right_eye"))


def test_a_flip_by_hand_and_back() -> None:
    keypoints = read_keypoints([{"id": 1, "keypoints": FACE}], THREE, (1.0, 1.0))
    flipped = flip_keypoints(keypoints, 100, [mirrored_order(NAMES)])
    np.testing.assert_array_equal(flipped[0], [[0, 0, 0], [89.5, 20.5, 2], [69.5, 40.5, 1]])
    np.testing.assert_array_equal(flip_keypoints(flipped, 100, [mirrored_order(NAMES)]), keypoints)


@pytest.mark.parametrize("resize", ["antialias", "bilinear"])
def test_real_persons_flipped_keep_their_pixels(coco_sample: Path, resize: str) -> None:
    """Under each keypoint is the same pixel in the image and in its mirror image, in the mask and in its mirror."""
    dataset = read_dataset(coco_sample / "annotations/person_keypoints_val2017.json", coco_sample / "val2017")
    assert dataset.labels.categories[0].keypoints == KEYPOINTS
    record = max(dataset.images, key=lambda image: sum(a.num_keypoints for a in image.annotations))
    row = {
        "image_id": record.image_id,
        "file_name": record.file_name,
        "width": record.width,
        "height": record.height,
        "image": (coco_sample / "val2017" / record.file_name).read_bytes(),
        "annotations": json.dumps(annotation_dicts(record)),
    }
    source = {"kind": "synthetic", "num_images": 1}
    config = InputConfig(shorter_edge=200, longer_edge_max=400, resize=resize)
    samples = []
    for flip in (0.0, 1.0):
        data = DataConfig.model_validate({"train": source, "val": source, "flip": flip})
        samples.append(SampleBuilder(data, config, ModelConfig(keypoints=True), dataset.labels, 0).build(row, 0))
    batch = collate(samples, 32)
    assert batch.targets is not None
    keypoints, width = batch.targets.keypoints, samples[0].image.shape[1]
    assert keypoints is not None
    plain, mirrored = keypoints[0], keypoints[1][:, mirrored_order(KEYPOINTS)]
    labelled = plain[..., 2] > 0
    counts = sorted(a.num_keypoints for a in record.annotations if not a.iscrowd)
    assert sorted(labelled.sum(dim=1).tolist()) == counts
    assert labelled.sum() > 10
    assert torch.equal(plain[..., 2], mirrored[..., 2])
    torch.testing.assert_close(plain[labelled][:, 0], width - mirrored[labelled][:, 0])
    assert torch.equal(plain[..., 1], mirrored[..., 1])
    assert not keypoints[0][~labelled].any()
    boxes = batch.targets.boxes[0][:, None].expand(-1, 17, -1)[labelled]
    inside = (plain[labelled][:, :2] >= boxes[:, :2] - 1) & (plain[labelled][:, :2] <= boxes[:, 2:] + 1)
    assert inside.float().mean() > 0.95
    for (x, y, _), (other_x, other_y, _) in zip(plain[labelled].tolist(), mirrored[labelled].tolist()):
        if x % 1 > 1e-3:  # not on the border of two pixels
            assert torch.equal(batch.images[0, :, int(y), int(x)], batch.images[1, :, int(other_y), int(other_x)])


def test_images_without_keypoints_stay_in_the_batch() -> None:
    boxed = [{"id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "keypoints": FACE}]
    samples = [
        Sample(
            np.zeros((40, 60, 3), np.uint8),
            i,
            (40, 60),
            build_targets(found, (40, 60), (40, 60), {1: 0}, masks=False, keypoints=THREE),
        )
        for i, found in enumerate([[], boxed * 2])
    ]
    targets = collate(samples, 1).targets
    assert targets is not None
    assert targets.keypoints is not None
    assert targets.keypoints.shape == (2, 2, 3, 3)
    assert not targets.keypoints[0].any()
    np.testing.assert_array_equal(targets.keypoints[1, 1, 0], [10.5, 20.5, 2])
    nobody = collate(samples[:1], 1).targets
    assert nobody is not None
    assert nobody.keypoints is not None
    assert nobody.keypoints.shape == (1, 0, 3, 3)


def test_labels_that_do_not_fit_the_model_are_refused() -> None:
    model = ModelConfig(keypoints=True, keypoint_head=THREE)
    check_keypoints(model, labels_of((), NAMES), flip=True)
    check_keypoints(ModelConfig(), labels_of(()), flip=True)
    with pytest.raises(ValueError, match=r"model\.keypoints is true, but no category names keypoints"):
        check_keypoints(model, labels_of((), ()), flip=True)
    with pytest.raises(ValueError, match=r"category c2 has 2 keypoints, model\.keypoint_head\.num_keypoints is 3"):
        check_keypoints(model, labels_of(NAMES, NAMES[:2]), flip=True)
    one_sided = labels_of(("left_eye", "chin", "nose"))
    check_keypoints(model, one_sided, flip=False)
    with pytest.raises(ValueError, match=r"category c1: keypoint left_eye has no counterpart right_eye .*data\.flip"):
        check_keypoints(model, one_sided, flip=True)


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"keypoints": 5}, r"category\.1\.keypoints"),
        ({"keypoints": ["a", "a"]}, "a keypoint stands twice"),
        ({"keypoints": ["a", "b"], "skeleton": [[1, 3]]}, r"joins keypoints other than 1\.\.2"),
        ({"skeleton": [[1, 2, 3]]}, r"category\.1\.skeleton"),
    ],
)
def test_malformed_keypoints_of_a_category_are_named(tmp_path: Path, category: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    tree = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"} | category]}
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=message):
        read_dataset(path, tmp_path)


@pytest.mark.parametrize("vertical_flip", [0.0, 1.0])
def test_keypoints_without_counterparts_may_turn_but_not_be_mirrored(vertical_flip: float) -> None:
    category = Category(id=1, name="hand", keypoints=("left_tip", "root"))
    labels, source = LabelMap(categories=(category,)), {"kind": "synthetic", "num_images": 1}
    augmentation = {"quarter_turns": True, "vertical_flip": vertical_flip}
    tree = {"train": source, "val": source, "flip": 0.0, "augmentation": augmentation}
    model = ModelConfig.model_validate({"masks": False, "keypoints": True, "keypoint_head": {"num_keypoints": 2}})
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, "png")
    entry = {"id": 5, "category_id": 1, "bbox": [5, 5, 30, 20], "keypoints": [10, 10, 2, 30, 20, 1]}
    row = {"image_id": 1, "file_name": "1.png", "width": 60, "height": 40, "image": buffer.getvalue()}
    data = DataConfig.model_validate(tree)
    builder = SampleBuilder(data, InputConfig(shorter_edge=40, longer_edge_max=60), model, labels, 0)
    if vertical_flip:
        with pytest.raises(ValueError, match="left_tip has no counterpart right_tip"):
            check_keypoints(model, labels, flip=data.mirrors)
    else:
        check_keypoints(model, labels, flip=data.mirrors)
        targets = builder.build(row | {"annotations": json.dumps([entry])}, 0).targets
        assert targets.keypoints is not None
        assert targets.keypoints[0, :, 2].tolist() == [2, 1]
