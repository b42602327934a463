"""Two models compared: differences of their own metrics, intervals that are paired, and what cannot be compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.comparison import METRICS, compare_matches
from maskray.platform.evaluation.comparison_page import ChangedPicture, render_comparison
from maskray.platform.evaluation.matching import match_entries

CATEGORIES = [2, 5, 9]


@pytest.fixture(scope="module")
def two(draw_errors, as_entries):
    """Matches of a model, and of one that finds less and has worse scores."""
    dataset, results = draw_errors(3, 60)
    random = np.random.default_rng(0)
    worse = [one | {"score": 0.5 * one["score"] + 0.5 * random.random()} for one in results if random.random() < 0.3]
    return [match_entries(as_entries(dataset, found), CATEGORIES, "bbox") for found in (results, worse)]


def test_figures_are_those_of_each(two):
    found = compare_matches(*two, 20)
    metrics = [merge_columns([one], CATEGORIES, "bbox") for one in two]
    for name in METRICS:
        ours = found.metrics[name]
        for value, of in zip((ours.first, ours.second), metrics):
            expected = of.metrics[f"bbox/{name}"]
            assert value == pytest.approx(expected) if expected > -1 else math.isnan(value)
    for category in CATEGORIES:
        by_class = found.categories[category]
        assert by_class["AP"].first == pytest.approx(metrics[0].per_category()[category]["AP"])
        assert by_class["AP50"].second == pytest.approx(metrics[1].per_category()[category]["AP50"])
    assert found.metrics["AP"].is_sure
    assert found.metrics["AP"].difference < 0
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["metrics"]["AP"]["sure"] is True


def test_a_few_images_have_no_interval(draw_errors, as_entries):
    dataset, results = draw_errors(3, 60)
    last = dataset["annotations"][-1]
    for one in dataset["annotations"]:
        one["category_id"] = one["category_id"] if one is last or one["category_id"] != 9 else 5
    last.update(category_id=9, iscrowd=0)
    found = [match_entries(as_entries(dataset, part), CATEGORIES, "bbox") for part in (results, results[::2])]
    change = compare_matches(*found, 20).categories[9]["AP"]
    assert not math.isnan(change.difference)
    assert math.isnan(change.low)
    assert not change.is_sure


def test_of_the_same_nothing_changes(two):
    found = compare_matches(two[0], two[0], 20)
    for change in (*found.metrics.values(), *(one for of in found.categories.values() for one in of.values())):
        if not math.isnan(change.difference):
            assert change.difference == 0
            assert math.isnan(change.low) or change.low == change.high == 0
        assert not change.is_sure
    assert found.images == ()


def test_the_other_way_round_the_signs_change(two):
    there, back = compare_matches(*two, 30), compare_matches(*two[::-1], 30)
    for name in ("AP", "AP50"):
        assert there.metrics[name].difference == -back.metrics[name].difference
        assert there.metrics[name].low == pytest.approx(-back.metrics[name].high)
    assert [image[0] for image in there.images] == [image[0] for image in back.images]
    changes = [abs(second - first) for _, first, second in there.images]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] > 0


def test_what_is_not_of_the_same_images_is_told(two):
    other = replace(two[1], image_ids=np.where(two[1].image_ids == two[1].image_ids[0], 5000, two[1].image_ids))
    with pytest.raises(ValueError, match=r"on different images: 2 are of one alone, such as \d+"):
        compare_matches(two[0], other)
    more = replace(two[1], gt_objects=two[1].gt_objects + 1)
    with pytest.raises(ValueError, match="on the same images with different annotations"):
        compare_matches(two[0], more)
    with pytest.raises(ValueError, match="different IoU types or categories"):
        compare_matches(two[0], replace(two[1], iou_type="segm"))


def test_no_images_have_no_difference():
    nothing = match_entries([], CATEGORIES, "bbox")
    found = compare_matches(nothing, nothing)
    assert math.isnan(found.metrics["AP"].difference)
    assert "not defined" in render_comparison(("a", "b"), [found], {})


def test_the_page_stands_alone(two):
    picture = ChangedPicture(3, "<3>.png", 0.5, 0.25, ("data:image/png;base64,AA==",) * 3)
    text = render_comparison(("first <one>", "second"), [compare_matches(*two, 20)], {2: "a <cat>"}, [picture])
    assert "&lt;cat&gt;" in text
    assert "<cat>" not in text
    assert "<one>" not in text
    assert text.count("data:image") == 3
    assert "worse in AP, beyond chance" in text
    assert "http" not in text
