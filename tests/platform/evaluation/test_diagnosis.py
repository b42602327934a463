"""Diagnoses of images: however the images are divided, what is made of them is the same."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.diagnosis import diagnose_entries, merge_diagnoses
from maskray.platform.evaluation.diagnostics import Diagnostics, make_diagnostics

CATEGORIES = [2, 5, 9]


def diagnostics_of(entries, iou_type, order, cuts) -> Diagnostics:
    edges = [0, *sorted(cuts), len(entries)]
    shuffled = [entries[n] for n in order]
    parts = [
        diagnose_entries(shuffled[start:end], CATEGORIES, iou_type)
        for start, end in itertools.pairwise(edges)
        if end > start
    ]
    whole = merge_diagnoses(parts)
    metrics = merge_columns([whole.matches], CATEGORIES, iou_type)
    return make_diagnostics(metrics, whole.matches, whole, 7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.sampled_from(["bbox", "segm"]), st.randoms(), st.lists(st.integers(0, 40), max_size=6))
def test_shards_give_what_one_gives(draw_errors, as_entries, seed, iou_type, random, cuts):
    dataset, results = draw_errors(seed)
    for one in results:
        one["score"] = round(one["score"], 1)  # ties, which rank by image
    entries = as_entries(dataset, results)
    order = list(range(len(entries)))
    whole = diagnostics_of(entries, iou_type, order, [])
    random.shuffle(order)
    divided = diagnostics_of(entries, iou_type, order, cuts)
    assert json.dumps(divided.as_dict()) == json.dumps(whole.as_dict())
    for name in ("scores", "precision", "recall"):
        for ours, theirs in zip(divided.curves, whole.curves, strict=True):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for name, counts in whole.errors.counts.items():
        np.testing.assert_array_equal(counts, divided.errors.counts[name])


def test_matches_are_those_without_a_diagnosis(draw_errors, as_entries):
    from maskray.platform.evaluation.matching import match_entries

    entries = as_entries(*draw_errors(1))
    found, alone = diagnose_entries(entries, CATEGORIES, "segm").matches, match_entries(entries, CATEGORIES, "segm")
    for name, values in vars(alone).items():
        np.testing.assert_array_equal(values, getattr(found, name))


def test_intervals_hold_the_metric(draw_errors, as_entries):
    found = diagnose_entries(as_entries(*draw_errors(2)), CATEGORIES, "bbox")
    metrics = merge_columns([found.matches], CATEGORIES, "bbox")
    intervals = make_diagnostics(metrics, found.matches, found, 100).intervals
    for name in ("AP", "AP50", "AP75"):
        low, high = intervals[name]
        assert low < metrics.metrics[f"bbox/{name}"] < high


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_image_at_all(iou_type):
    found = diagnose_entries([], CATEGORIES, iou_type)
    report = make_diagnostics(merge_columns([found.matches], CATEGORIES, iou_type), found.matches, found).as_dict()
    assert report["calibration"]["error"] is None
    assert report["intervals"]["AP"] == [None, None]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
