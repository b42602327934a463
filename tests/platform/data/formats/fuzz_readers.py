"""Hostile annotation files of every format, for as long as asked: each ends in data or in a line, within the memory.

    python tests/platform/data/formats/fuzz_readers.py --seconds 600

Sound files of each format are changed in one to four places (numbers that no image has, text that no name is, lists in
place of numbers, bytes), read as every command reads them, examined and repaired. It runs in a process of its own with
bounded memory: a segmentation fault, an example that never ends and an error without a line are told with the files of
the example, which stay in the folder that is named.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import json
import logging
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.problem import VERDICTS
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.validate import validate_tree
from maskray.platform.evaluation.results import read_ground_truth

MEMORY_BYTES = 4 << 30  # of addresses, libraries among them
LONGEST_SECONDS = 300  # of one example; it takes milliseconds, on a busy machine a few seconds
EXAMPLES_AT_ONCE = 200
LONGEST_LINE = 2500

BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 1, 6, 5], "area": 30, "iscrowd": 0}
COCO: dict[str, Any] = {
    "images": [
        {
            "id": 1,
            "file_name": "a.png",
            "width": 20,
            "height": 10,
            "ignore_region": {"size": [10, 20], "counts": "f0U5"},
        }
    ],
    "categories": [{"id": 1, "name": "cat", "keypoints": ["nose", "chin"], "skeleton": [[1, 2]]}],
    "annotations": [
        BOX | {"segmentation": [[2, 1, 8, 1, 8, 6, 2, 6]], "keypoints": [3, 2, 2, 5, 4, 1], "num_keypoints": 2},
        BOX | {"id": 2, "segmentation": {"size": [10, 20], "counts": [30, 5, 165]}, "iscrowd": 1},
        BOX | {"id": 3, "segmentation": {"size": [10, 20], "counts": "f0U5"}},
    ],
}
LVIS = COCO | {"images": [{"id": 1, "coco_url": "http://host/x/a.png", "width": 20, "height": 10}]}
LABELME = {
    "imagePath": "a.png", "imageHeight": 10, "imageWidth": 20,
    "shapes": [
        {"label": "cat", "points": [[2, 1], [8, 1], [8, 6]], "shape_type": "polygon", "group_id": 1},
        {"label": "cat", "points": [[2, 1], [8, 6]], "shape_type": "rectangle", "group_id": 1},
        {"label": "dog", "points": [[8, 5], [9, 6]], "shape_type": "circle", "group_id": None},
        {"label": "dog", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
    ],
}  # fmt: skip
CVAT = """<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>
<image id="0" name="a.png" width="20" height="10" subset="train">
<polygon label="cat" points="1.0,2.0;3.5,2.0;3,8" group_id="1" occluded="0"/>
<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8" rotation="30"/><ellipse label="cat" cx="5" cy="5" rx="3" ry="2"/>
<mask label="cat" left="2" top="3" width="4" height="2" rle="3, 2, 3"/></image></annotations>"""
VOC = """<annotation><filename>a.png</filename><size><width>20</width><height>10</height></size><object><name>cat</name>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox><difficult>1</difficult></object></annotation>"""
POLYGONS = {"imgWidth": 20, "imgHeight": 10, "objects": [{"label": "car", "polygon": [[1, 1], [5, 1], [5, 5]]}]}
YOLO = {"names": ["cat", "dog"], "train": "images", "path": "."}
LINES = "0 0.5 0.5 0.2 0.4\n1 0.1 0.2 0.6 0.2 0.6 0.8\n"
# Of each format the sound files: a tree is written as JSON (or as YAML), text as it is; None is an image of 20 x 10.
SOURCES: dict[str, dict[str, Any]] = {
    "coco": {"annotations.json": COCO, "a.png": None},
    "lvis": {"annotations.json": LVIS, "a.png": None},
    "roboflow": {"train/_annotations.coco.json": COCO, "train/a.png": None},
    "labelme": {"a.json": LABELME, "a.png": None, "classes.txt": "cat\ndog\n"},
    "cvat": {"annotations.xml": CVAT, "a.png": None},
    "voc": {"Annotations/a.xml": VOC, "JPEGImages/a.png": None, "SegmentationObject/a.png": None},
    "yolo": {"data.yaml": YOLO, "images/a.png": None, "labels/a.txt": LINES},
    "cityscapes": {
        "gtFine/train/x/x_0_1_gtFine_polygons.json": POLYGONS,
        "gtFine/train/x/x_0_1_gtFine_instanceIds.png": None,
        "leftImg8bit/train/x/x_0_1_leftImg8bit.png": None,
    },
    "instance_masks": {"images/a.png": None, "masks/a.png": None, "categories.json": {"categories": ["cat"]}},
}

WITH_IMAGES = ("instance_masks", "cityscapes")  # whose annotations are images too

NUMBERS = st.sampled_from(
    [
        *(0, -1, 1, 1.0, 7, 0.5, 1e6, -1e6, 1e9, 1e308, -1e308, float("nan"), float("inf"), 1e-300),
        *(2**31 - 1, 2**31, 2**32, 2**53, 2**63, 10**30, 99_999, 46_340, 100_000),
    ]
)
TEXTS = st.sampled_from(
    ["", "1", "\ud800", "a\0b", "\x1b[2J", "\u202eabc", "../..", "/etc/passwd", "0" * 20_000, "P" * 5000]
)
LEAVES = (
    st.none() | st.booleans() | NUMBERS | NUMBERS | TEXTS | st.integers() | st.floats() | st.text(max_size=8)
    | st.integers(1, 3000).map(lambda number: [number] * number)
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts", "id", "name"]), inner)
    ),
    max_leaves=8,
)
WORD = re.compile(r'(?<=")[^"]*(?=")|-?\d+(?:\.\d+)?|(?<=>)[^<>]+(?=<)')  # what a program fills into XML and lines


@st.composite
def changed_trees(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with one to four nodes replaced, taken away, or given twice."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 4))):
        places = _places(tree)
        if not places:
            break
        node, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "replace", "delete", "double"]))
        if action == "replace":
            node[key] = draw(VALUES)
        elif action == "delete":
            del node[key]
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
    return tree


def _places(node: Any) -> list[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place for key in keys for place in ((node, key), *_places(node[key]))]


@st.composite
def changed_texts(draw: st.DrawFn, text: str) -> str:
    """A text with one to four of its words or numbers replaced, or with a piece cut out."""
    for _ in range(draw(st.integers(1, 4))):
        words = list(WORD.finditer(text))
        if words and draw(st.booleans() | st.just(True)):
            word = draw(st.sampled_from(words))
            text = text[: word.start()] + str(draw(NUMBERS | TEXTS | st.text(max_size=6))) + text[word.end() :]
        else:
            start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
            text = text[:start] + text[end:]
    return text


@st.composite
def examples(draw: st.DrawFn) -> tuple[str, dict[str, bytes]]:
    """A format, and the bytes of its files, of which one is not sound."""
    name = draw(st.sampled_from(sorted(SOURCES)))
    files = {file: _written(file, content) for file, content in SOURCES[name].items()}
    file = draw(st.sampled_from(sorted(file for file in files if name in WITH_IMAGES or not file.endswith(".png"))))
    content = SOURCES[name][file]
    if isinstance(content, Mapping):
        files[file] = _written(file, draw(changed_trees(content)))
    elif isinstance(content, str):
        files[file] = _written(file, draw(changed_texts(content)))
    if content is None or draw(st.integers(0, 9)) == 0:
        data = files[file]
        at = draw(st.integers(0, len(data)))
        files[file] = data[:at] + draw(st.binary(max_size=8)) + data[at + draw(st.integers(0, 12)) :]
    return name, files


def _written(file: str, content: Any) -> bytes:
    if content is None:
        return IDS if file.endswith("Ids.png") else IMAGE
    if isinstance(content, str):
        return content.encode(errors="surrogatepass")
    if file.endswith(".yaml"):
        return yaml.safe_dump(content, allow_unicode=False).encode()
    return json.dumps(content).encode()


def _png(mode: str = "L", number: int = 1) -> bytes:
    with tempfile.TemporaryFile() as file:
        Image.new(mode, (20, 10), number).save(file, "PNG")
        file.seek(0)
        return file.read()


IMAGE, IDS = _png(), _png("I;16", 26000)


def read_everywhere(name: str, folder: Path) -> None:
    """Read a source by every way there is; AssertionError where it ends otherwise than in data or in a line."""
    try:
        found = read_annotated(folder, name, need_images=False)
    except ValueError as error:
        _check_line(str(error))
        return
    report = validate_tree(found.name, found.tree, found.images, check_images=False, repair=True)
    for problem in report.problems:
        assert problem.code in VERDICTS
        _check_line(str(problem))
    refusal = None
    try:
        dataset = dataset_of_tree(found.name, found.tree, found.images)
    except ValueError as error:
        refusal = str(error)
        _check_line(refusal)
    else:
        for category in dataset.labels.names:
            category.encode()  # they are written into files
    assert refusal == report.refusal
    if name == "coco":
        for kind in ("segm", "keypoints"):
            try:
                read_ground_truth(folder / "annotations.json", kind)  # type: ignore[arg-type]
            except ValueError as error:
                _check_line(str(error))


def _check_line(text: str) -> None:
    assert "\n" not in text, ascii(text)
    assert text.isprintable(), ascii(text)
    assert len(text) <= LONGEST_LINE, f"a line of {len(text)} letters: {text[:200]}"


def attack(folder: Path, seconds: float, number: int) -> int:
    """Try examples in this process until the time is over; how many there were."""
    end, tried = time.monotonic() + seconds, 0

    def try_one(example: tuple[str, dict[str, bytes]]) -> None:
        nonlocal tried
        name, files = example
        source = folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        for file, data in files.items():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes(data)
        (folder / "format").write_text(name)
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
        read_everywhere(name, source)
        faulthandler.cancel_dump_traceback_later()
        tried += 1

    while time.monotonic() < end or not tried:
        rules = settings(
            max_examples=EXAMPLES_AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        seed(number)(rules(given(examples())(try_one)))()
        number += 1
    return tried


def main() -> int:
    """Run the attack in a child with bounded memory; 1 where it found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        faulthandler.enable()
        logging.disable()
        print(f"{attack(options.inside, options.seconds, options.seed)} files read, each ended in data or in a line")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="maskray-fuzz-"))
    ended = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--inside", str(folder)], check=False)
    if ended.returncode:
        name = (folder / "format").read_text() if (folder / "format").exists() else "none"
        print(f"ended with {ended.returncode}: the last files, of format {name}, are in {folder / 'source'}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
