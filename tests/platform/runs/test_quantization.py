"""Which images are measured and which are compared, and AP of several ways by hand."""

from pathlib import Path

import pytest

from maskray.model.config import ModelSpec
from maskray.platform.runs.quantization import FoundByTurns, Photograph, _spread, average_precisions, median_seconds

SPEC = ModelSpec.model_validate(
    {"model": {"masks": False}, "input": {"shorter_edge": 64}, "labels": {"categories": [{"id": 3, "name": "circle"}]}}
)


def annotation(number):
    box = [10.0, 10.0, 20.0, 20.0]
    return {"id": number, "category_id": 3, "bbox": box, "area": 400.0, "iscrowd": 0, "segmentation": None}


def result(x, number):
    return {"image_id": number, "category_id": 3, "score": 0.9, "bbox": [x, 10.0, 20.0, 20.0]}


def test_images_are_taken_evenly():
    assert _spread(range(9), 3) == [0, 4, 8]
    assert _spread([5, 7], 100) == [5, 7]
    assert _spread(range(3), 1) == [0]


def test_ap_is_of_each_way():
    """The first finds both objects, the second one of two, the third none."""
    ways = [(10.0, 10.0), (10.0, 100.0), (100.0, 100.0)]
    found = [
        FoundByTurns((64, 128), tuple([result(way[number], number)] for way in ways), (0.1, 0.3, 0.2 + number))
        for number in range(2)
    ]
    photographs = [Photograph(Path("a"), [annotation(1)]), Photograph(Path("b"), [annotation(2)])]
    values = average_precisions(found, photographs, SPEC)["bbox/AP"]
    assert values == pytest.approx((1.0, 51 / 101, 0.0))  # of the 101 levels of recall those up to 0.5, precision 1
    assert median_seconds(found) == pytest.approx((0.1, 0.3, 0.7))
    assert average_precisions(found, [Photograph(Path("a")), Photograph(Path("b"))], SPEC) == {}
