"""Charts as images: each there, of every class count and name, and readable."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from maskray.platform.evaluation.chart_files import write_charts
from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.diagnosis import diagnose_entries
from maskray.platform.evaluation.diagnostics import make_diagnostics
from maskray.platform.evaluation.matching import match_entries

CATEGORIES = [2, 5, 9]


@pytest.mark.parametrize("categories", [CATEGORIES, list(range(60))])
def test_curves_and_confusion_are_images(draw_errors, as_entries, tmp_path, categories):
    found = diagnose_entries(as_entries(*draw_errors(0)), categories, "segm")
    metrics = merge_columns([found.matches], categories, "segm")
    diagnostics = make_diagnostics(metrics, found.matches, found, 5)
    names = [f"class $x_{n}$ \\" for n in categories]  # what matplotlib would take for a formula
    write_charts(tmp_path, [metrics], [diagnostics], names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion_segm.png", "curves_segm.png"]
    for path in tmp_path.iterdir():
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_keypoints_have_no_confusion(tmp_path):
    matches = match_entries([], [1], "keypoints")
    metrics = merge_columns([matches], [1], "keypoints")
    write_charts(tmp_path, [metrics], [make_diagnostics(metrics, matches, None)], ["person"])
    assert [path.name for path in tmp_path.iterdir()] == ["curves_keypoints.png"]
