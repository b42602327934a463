"""Evaluation in Python gives the figures of `maskray evaluate` and the differences of `maskray compare`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskray import api
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.evaluation.rules import IOU_TYPES
from maskray.platform.runs.comparison import Source, compare_sources


@pytest.fixture(scope="module")
def found(model: api.Model, data: api.Data) -> list[api.Objects]:
    return model.predict(data.images)


def shaken(data: api.Data, seed: int) -> list[api.Objects]:
    """The truth with boxes that are off by some pixels, as a model would find it."""
    random = np.random.default_rng(seed)
    return [
        api.Objects(
            [
                {"image_id": one.image_id, "category_id": entry["category_id"], "score": float(random.random())}
                | {"bbox": (np.array(entry["bbox"]) + random.normal(0, 1.5, 4).clip(-3, 3)).tolist()}
                for entry in one.to_coco()
            ],
            one.labels,
            one.image_id,
            one.size,
            lambda: np.zeros((1, 1, 3), np.uint8),
            one.path,
        )
        for one in data.images
    ]


def write(found: list[api.Objects], path: Path) -> Path:
    path.write_text(json.dumps([entry for one in found for entry in one.to_coco()]))
    return path


def test_figures_are_those_of_the_files(
    model: api.Model, found: list[api.Objects], data: api.Data, drawn: SyntheticPaths, tmp_path: Path
) -> None:
    figures = api.evaluate(model, data)
    assert figures == api.evaluate(found, data) == api.evaluate(reversed(found), data)
    path = write(found, tmp_path / "found.json")
    for kind in ("bbox", "segm"):
        expected = evaluate_files(drawn.annotations, path, kind)
        assert {name: value for name, value in figures.items() if name.startswith(kind)} == expected.metrics
        of_class = dict(zip(data.classes, expected.per_category().values(), strict=True))
        for name, values in of_class.items():
            for metric, value in values.items():
                assert figures.per_class[name][f"{kind}/{metric}"] == pytest.approx(value, nan_ok=True)
    assert len(figures) == 24


def test_a_part_of_the_data_is_enough(model: api.Model, data: api.Data) -> None:
    part = data.images[:2]
    assert api.evaluate(model, part) == api.evaluate(model.predict(part), part)


def test_good_detections_have_good_figures(data: api.Data) -> None:
    figures = api.evaluate(shaken(data, 0), data)
    assert set(figures) == {name for name in figures if name.startswith("bbox/")}
    assert figures["bbox/AP50"] > 0.5
    page = figures._repr_html_()
    assert f"<td>{100 * figures['bbox/AP50']:.1f}</td>" in page
    assert "<td>bbox</td>" in page


def test_differences_are_those_of_compare(data: api.Data, drawn: SyntheticPaths, tmp_path: Path) -> None:
    both = [shaken(data, seed) for seed in (1, 2)]
    sources = [Source(str(at), results=write(one, tmp_path / f"{at}.json")) for at, one in enumerate(both)]
    (expected,) = compare_sources(*sources, drawn.annotations, "bbox").comparisons
    changes = api.compare(*(api.evaluate(one, data) for one in both))
    for name, change in expected.metrics.items():
        assert changes[f"bbox/{name}"].as_dict() == change.as_dict()
    assert changes["bbox/AP"].difference != 0
    assert math.isfinite(changes["bbox/AP"].low)


def test_what_does_not_fit_together_is_told(model: api.Model, found: list[api.Objects], data: api.Data) -> None:
    array = model.predict(data.images[0].image)
    cases: list[tuple[Any, Any, str]] = [
        (found, data.images[:3], "was predicted, and is no image of the data"),
        (found[:3], data, "an image of the data, and nothing says what was found in it"),
        ([*found, found[0]], data, "was predicted twice"),
        (array, data.images[:1], "came as an array"),
        (found, [], "data: no image to evaluate on"),
        (data, found, "is annotated, and what a model has found comes first"),
    ]
    for first, second, line in cases:
        with pytest.raises(ValueError, match=line):
            api.evaluate(first, second)
    with pytest.raises(ValueError, match="'keypoints' is none of what the model finds: bbox, segm"):
        api.evaluate(found, data, IOU_TYPES)
    with pytest.raises(ValueError, match="different images"):
        api.compare(api.evaluate(model, data.images[:2]), api.evaluate(model, data.images[2:]))
    with pytest.raises(ValueError, match="nothing to compare"):
        api.compare(api.evaluate(found, data, ["bbox"]), api.evaluate(found, data, ["segm"]))


def test_classes_must_be_those_of_the_model(found: list[api.Objects], drawn: SyntheticPaths, tmp_path: Path) -> None:
    tree = json.loads(drawn.annotations.read_text())
    tree["categories"][0]["name"] = "dot"
    (tmp_path / "other.json").write_text(json.dumps(tree))
    other = api.read_data(tmp_path / "other.json", images=drawn.images)
    with pytest.raises(ValueError, match=r"other\.json: its categories are not those of the model: id 3 is 'dot'"):
        api.evaluate(found, other)


def test_boxes_without_masks_are_compared_as_boxes(
    found: list[api.Objects], drawn: SyntheticPaths, tmp_path: Path
) -> None:
    tree = json.loads(drawn.annotations.read_text())
    del tree["annotations"][0]["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(tree))
    boxes = api.read_data(tmp_path / "boxes.json", images=drawn.images)
    with pytest.raises(ValueError, match=r"no segmentation; iou_types=\['bbox'\] compares boxes alone"):
        api.evaluate(found, boxes)
    assert set(api.evaluate(found, boxes, ["bbox"])) == {f"bbox/{name}" for name in (
        "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"
    )}  # fmt: skip
