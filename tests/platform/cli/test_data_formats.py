"""The data commands as a user has them: what they write and print, and what they refuse."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from maskray.platform.cli.main import main
from maskray.platform.data.synthetic.dataset import synthesize


def maskray(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command in this process."""
    outputs, code = (io.StringIO(), io.StringIO()), 0
    with redirect_stdout(outputs[0]), redirect_stderr(outputs[1]):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, outputs[0].getvalue(), outputs[1].getvalue()


def refused(*arguments: object) -> str:
    code, out, errors = maskray(*arguments)
    assert (code, out) == (1, ""), out + errors
    (line,) = errors.splitlines()
    return line


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """annotations/instances_train.json and train/, twelve images of 64 x 96."""
    folder = tmp_path_factory.mktemp("set")
    synthesize(folder, 12, seed=3, height=64, width=96, max_objects=4)
    (folder / "annotations/person_keypoints_train.json").unlink()
    return folder


def test_convert_validate_split_merge_show(source: Path, tmp_path: Path) -> None:
    code, out, _ = maskray("data", "convert", source, "--to", "yolo", "--out", tmp_path / "yolo")
    assert code == 0
    assert "12 images" in out
    code, out, _ = maskray("data", "validate", tmp_path / "yolo", "--json")
    report = json.loads(out)
    assert (code, report["format"], report["counts"]["images"], report["problems"]) == (0, "yolo", 12, [])
    code, out, _ = maskray("data", "split", tmp_path / "yolo", "--val", "0.25", "--out", tmp_path / "parts")
    assert code == 0
    assert "9 images in train.json, 3 in val.json" in out
    names = [
        {entry["file_name"] for entry in json.loads((tmp_path / f"parts/{part}.json").read_text())["images"]}
        for part in ("train", "val")
    ]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 12
    code, out, _ = maskray("data", "validate", tmp_path / "parts/val.json", tmp_path / "yolo")
    assert code == 0, out
    assert "ok: no problems" in out
    parts = [tmp_path / f"parts/{part}.json" for part in ("train", "val")]
    code, out, _ = maskray("data", "merge", *parts, "--images", tmp_path / "yolo", "--out", tmp_path / "whole.json")
    assert code == 0
    assert "12 images" in out
    whole = ("--to", "yolo", "--images", tmp_path / "yolo", "--out", tmp_path / "divided")
    assert maskray("data", "convert", tmp_path / "whole.json", *whole)[0] == 0
    assert [len(list((tmp_path / f"divided/images/{part}").iterdir())) for part in ("train", "val")] == [9, 3]
    code, out, _ = maskray("data", "merge", tmp_path / "yolo", source, "--out", tmp_path / "merged.json")
    assert code == 0
    assert "24 images" in out
    job_line = out.splitlines()[-1]
    assert f"annotations: {tmp_path / 'merged.json'}" in job_line
    folder = job_line.split("images: ")[1].rstrip("}")
    assert maskray("data", "validate", tmp_path / "merged.json", folder)[0] == 0
    assert maskray("data", "show", tmp_path / "yolo", "--out", tmp_path / "page.html", "--images-shown", "2")[0] == 0
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg;base64,") == 2


def test_nothing_is_written_over(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine").write_text("mine")
    for command in (
        ("convert", source, "--to", "yolo"),
        ("split", source, "--val", "0.5"),
        ("merge", source, source),
        ("show", source),
    ):
        for out in (there, there / "mine", source):
            assert "exists already and is not overwritten" in refused("data", *command, "--out", out)
    assert [(path.name, path.read_text()) for path in there.iterdir()] == [("mine", "mine")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "{empty}", "--to", "coco", "--out", "{new}"), "no annotations of a known format"),
        (("split", "{source}", "--val", "0", "--out", "{new}"), "the part for validation is above 0 and below 1"),
        (("merge", "{source}", "--out", "{new}"), "two sources or more"),
        (("show", "{source}", "--split", "val", "--out", "{new}"), "no JSON file has the split 'val' in its name"),
        (("show", "{source}", "--format", "yolo", "--out", "{new}"), "no class names"),
        (("show", "{source}", "--format", "tiff", "--out", "{new}"), "format 'tiff' is none of"),
        (("validate", "{source}", "{empty}/absent"), "no such folder of images"),
        (("validate", "{source}", "{empty}"), "none of its 12 images is in"),
    ],
)
def test_a_mistake_is_one_line(source: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty").mkdir()
    known = {"source": source, "empty": tmp_path / "empty", "new": tmp_path / "new"}
    assert message in refused("data", *(argument.format(**known) for argument in arguments))
    assert not (tmp_path / "new").exists()


def test_annotations_alone_need_no_images(source: Path, tmp_path: Path) -> None:
    file = source / "annotations/instances_train.json"
    copy = tmp_path / "a.json"
    copy.write_bytes(file.read_bytes())
    for arguments in ((copy,), (copy, tmp_path / "absent")):
        code, out, errors = maskray("data", "validate", *arguments, "--no-check-images")
        assert code == 0, errors
        assert "images                       12" in out
    assert "name the folder of the images" in refused("data", "validate", copy)
