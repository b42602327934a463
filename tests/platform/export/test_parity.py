"""What a difference between file and model may be: as stated, and nothing that means none."""

from __future__ import annotations

import re

import numpy as np
import pytest

from maskray.model.config import InputConfig, ModelConfig, ModelSpec
from maskray.platform.export import parity
from maskray.platform.export.parity import compare_detections


def sharp_mask(mask: float) -> dict[str, np.ndarray]:
    return {
        "boxes": np.array([[1.0, 2.0, 11.0, 22.0]]),
        "scores": np.array([0.75]),
        "classes": np.array([0]),
        "masks": np.full((1, 2, 2), mask),
    }


@pytest.mark.parametrize(("accepted", "agrees"), [([], False), (["masks=0.023"], False), (["masks=0.025"], True)])
def test_a_sharp_mask_is_taken_within_the_tolerance_that_is_stated(accepted, agrees):
    spec = ModelSpec(model=ModelConfig(), input=InputConfig(), labels={"categories": [{"id": 1, "name": "a"}]})
    tolerances = parity.read_tolerances(accepted, ["boxes", "scores", "masks"])
    comparison = compare_detections("one", sharp_mask(0.5), sharp_mask(0.524), spec, tolerances)
    assert comparison.agrees is agrees


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("masks", "--tolerance masks: KIND=VALUE is needed, of boxes, scores, masks"),
        ("keypoints=1", "--tolerance keypoints=1: KIND=VALUE is needed, of boxes, scores, masks"),
        ("masks=much", "--tolerance masks=much: 'much' is no number"),
        ("masks=nan", "--tolerance masks=nan: above 0 and at most 1 is needed"),
        ("boxes=inf", "--tolerance boxes=inf: above 0 and at most 10 is needed"),
        ("scores=0", "--tolerance scores=0: above 0 and at most 0.5 is needed"),
    ],
)
def test_a_tolerance_that_means_nothing(setting, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parity.read_tolerances([setting], ["boxes", "scores", "masks"])
