"""Unlabelled images that people have labelled already are left out of what the teacher labels, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskray.platform.data.preparation import read_source
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.data.unlabelled import read_unlabelled
from maskray.platform.distill.distill_data import _in_train
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import validate_tree


class Told:
    """Keeps the lines that a run tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("same_names", "left_out"), [("refuse", [1, 2]), ("allow", [2])])
def test_pictures_of_train_are_left_out(
    tree: dict[str, Any], tmp_path: Path, same_names: str, left_out: list[int]
) -> None:
    drawn = synthesize(tmp_path / "drawn", 4, 1, 64, 96, 3, classes=("square", "star"))
    others = synthesize(tmp_path / "others", 3, 2, 64, 96, 3, classes=("square", "star"))
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    (folder / "a-copy.jpg").write_bytes((drawn.images / "000001.jpg").read_bytes())
    (folder / "000002.JPG").write_bytes((others.images / "000000.jpg").read_bytes())  # another one of the same name
    (folder / "new.jpg").write_bytes((others.images / "000002.jpg").read_bytes())
    tree["data"]["train"] = {"kind": "coco", "annotations": str(drawn.annotations), "images": str(drawn.images)}
    tree["distill"] |= {"unlabelled": {"kind": "images", "path": str(folder)}, "same_names": same_names}
    job = validate_tree(DistillConfig, tree)
    train = read_source(job.data.train, "train", tmp_path)
    read = read_unlabelled(job.distill.unlabelled, tmp_path, train.labels)
    told: Any = Told()
    assert read.dataset is not None
    names = [record.file_name for record in read.dataset.images]
    assert names == ["000002.JPG", "a-copy.jpg", "new.jpg"]
    assert _in_train(job, read, train, told) == left_out
    assert told.lines[0].startswith(f"  left out: {len(left_out)} unlabelled images that are in data.train: ")
