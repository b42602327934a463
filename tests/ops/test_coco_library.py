"""The library of evaluation: how it is loaded, and how long what it has read stays."""

from __future__ import annotations

import gc
import io
import json

import pytest

from maskray.ops import coco_library
from maskray.ops.coco_library import load_library
from maskray.ops.read_coco import read_plain_results


def test_a_library_that_is_not_built_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(coco_library, "__file__", str(tmp_path / "coco_library.py"))
    with pytest.raises(ImportError, match=r"operators are not built: .*_coco\.abi3\.so is missing; build it with"):
        load_library.__wrapped__()


def test_columns_stay_as_long_as_they_are_used():
    entries = [{"image_id": i, "category_id": 1, "score": i / 2, "bbox": [i, 0, 1, 1]} for i in range(5000)]
    scores = []
    for _ in range(4):
        columns = read_plain_results(io.BytesIO(json.dumps(entries).encode()), "bbox", 17)
        assert columns is not None
        scores.append(columns["scores"][::2])
        del columns
        gc.collect()
    assert all((one == scores[0]).all() for one in scores)
    assert scores[0].tolist() == [entry["score"] for entry in entries[::2]]
    with pytest.raises(ValueError, match="read-only"):
        scores[0][0] = 1
