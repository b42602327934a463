"""The page: its masks against pycocotools (run by node), its colours, and nothing loaded from elsewhere."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from pycocotools import mask as rle_masks

from maskray.model.config import Category
from maskray.platform.inference.drawing import class_color
from maskray.platform.inference.skeletons import read_skeleton
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.web.page import PAGE_FILES, WEB, page_policy

NODE = shutil.which("node")


def example_masks():
    generator = np.random.default_rng(5)
    rows, columns = np.mgrid[:90, :130]
    masks = [
        np.zeros((7, 5), np.uint8),
        np.ones((7, 5), np.uint8),
        ((rows - 40) ** 2 / 900 + (columns - 70) ** 2 / 2500 < 1).astype(np.uint8),
        np.ones((1500, 1200), np.uint8),  # a run of 1.8 million needs five characters
    ]
    masks += [(generator.random((int(h), int(w))) < p).astype(np.uint8) for h, w, p in
              zip(generator.integers(1, 60, 30), generator.integers(1, 60, 30), generator.random(30))]  # fmt: skip
    return masks


def encode(mask):
    rle = rle_masks.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def test_pixels_of_masks_are_those_of_pycocotools(run_script):
    masks = example_masks()
    script = (
        "return input.map((rle) => {"
        "const mask = masks.readMask(rle);"
        "let text = '';"
        "for (let y = 0; y < mask.height; y++)"
        "for (let x = 0; x < mask.width; x++) text += +masks.isInside(mask, x, y);"
        "const outside = [[-1, 0], [0, -1], [mask.width, 0], [0, mask.height]];"
        "return [text, masks.countPixels(mask), outside.some(([x, y]) => masks.isInside(mask, x, y))]; });"
    )
    for mask, (text, count, outside) in zip(masks, run_script(script, [encode(mask) for mask in masks]), strict=True):
        decoded = np.frombuffer(text.encode(), np.uint8).reshape(mask.shape) - ord("0")
        np.testing.assert_array_equal(decoded, mask)
        assert count == mask.sum()
        assert not outside


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
def test_sampled_masks_have_the_pixels_at_the_middles_of_their_cells(run_script, scale):
    masks = example_masks()
    script = (
        f"return input.map((rle) => {{ const s = masks.sampleMask(masks.readMask(rle), {scale});"
        "return {...s, cells: [...s.cells].join('')}; });"
    )
    for mask, sample in zip(masks, run_script(script, [encode(mask) for mask in masks]), strict=True):
        height, width = mask.shape
        wanted = np.zeros((round(height * scale) + 4, round(width * scale) + 4), np.uint8)
        rows = np.floor((np.arange(wanted.shape[0]) - 2 + 0.5) / scale).astype(int)
        columns = np.floor((np.arange(wanted.shape[1]) - 2 + 0.5) / scale).astype(int)
        inside = np.ix_((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        wanted[inside] = mask[np.ix_(rows[(rows >= 0) & (rows < height)], columns[(columns >= 0) & (columns < width)])]
        found = np.zeros_like(wanted)
        cells = np.frombuffer(sample["cells"].encode(), np.uint8).reshape(sample["width"], sample["height"]).T - ord(
            "0"
        )
        top, left = sample["top"] + 2, sample["left"] + 2
        if cells.size:
            found[top : top + sample["height"], left : left + sample["width"]] = cells
            assert not cells[[0, -1]].any()
            assert not cells[:, [0, -1]].any()
        np.testing.assert_array_equal(found, wanted)


def test_outlines_hold_the_pixels_of_the_mask_and_no_other(run_script):
    """Filled by the even-odd rule they have each pixel's middle inside exactly where the mask has the pixel."""
    masks = [mask for mask in example_masks() if mask.size < 20_000]
    script = "return input.map((rle) => masks.traceOutlines(masks.readMask(rle), 1).map((points) => [...points]));"
    for mask, outlines in zip(masks, run_script(script, [encode(mask) for mask in masks]), strict=True):
        rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
        crossings = np.zeros(mask.shape, int)
        for points in outlines:
            corners = np.array(points).reshape(-1, 2)
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
                if y0 != y1:
                    # Shifted a little, as corners lie at the height of the middles of pixels.
                    spans = (y0 > rows + 1e-3) != (y1 > rows + 1e-3)
                    crossings += spans & (x0 + (rows + 1e-3 - y0) * (x1 - x0) / (y1 - y0) > columns)
        np.testing.assert_array_equal(crossings % 2, mask)


def test_outlines_keep_holes_and_name_no_point_twice_on_a_straight_edge(run_script):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:50] = 1
    mask[13:17, 35:45] = 0
    outer, hole = run_script("return masks.traceOutlines(masks.readMask(input), 1).map((p) => [...p]);", encode(mask))
    assert len(outer) == len(hole) == 16  # two points an edge
    assert (min(outer[::2]), max(outer[::2]), min(outer[1::2]), max(outer[1::2])) == (30, 50, 10, 20)
    assert (min(hole[::2]), max(hole[::2]), min(hole[1::2]), max(hole[1::2])) == (35, 45, 13, 17)
    (half, _) = run_script("return masks.traceOutlines(masks.readMask(input), 0.5).map((p) => [...p]);", encode(mask))
    assert (min(half[::2]), max(half[::2]), min(half[1::2]), max(half[1::2])) == (30, 50, 10, 20)


@pytest.mark.parametrize("counts", ["", "0", "P", "zzzzzz"])
def test_damaged_mask_is_an_error_and_not_an_image(run_script, counts):
    rle = {"size": [7, 5], "counts": counts}
    script = "try { masks.readMask(input); return ''; } catch (error) { return error.message; }"
    assert run_script(script, rle).startswith("mask ")


def test_labels_can_be_read_on_every_color(run_script):
    """The contrast of WCAG 2 is 4.5 at least, for classes and for objects."""
    script = (
        "const all = [...Array(100).keys()].flatMap((i) => [colors.classColor(i), colors.objectColor(i)]);"
        "return all.map((color) => [color, colors.inkOn(color)]);"
    )
    for color, ink in run_script(script, None):
        part = np.array(color) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        luminance = float(linear @ (0.2126, 0.7152, 0.0722))
        contrast = 1.05 / (luminance + 0.05) if ink == "#fff" else (luminance + 0.05) / 0.05
        assert contrast >= 4.5, (color, ink)


def test_colors_are_those_of_images_drawn_by_the_server(run_script):
    found = run_script("return input.map((c) => colors.classColor(c));", list(range(80)))
    assert np.abs(np.array(found) - np.array([class_color(class_index) for class_index in range(80)])).max() <= 1


def test_skeletons_are_those_of_images_drawn_by_the_server(run_script):
    names = ("nose", "left_eye", "right_eye", "left_ear")
    label = Category(id=1, name="person", keypoints=names, skeleton=((1, 2), (2, 3), (2, 4), (3, 4)))
    for keypoints in (
        [10, 20, 0.9, 30, 21.5, 0.06, 40, 20, 0.04, 50, 20, 0.5],
        [1, 2, 0.3, 4, 5, 0.6, 7, 8, 0.9, 0, 0, 0],
    ):
        wanted = read_skeleton({"keypoints": keypoints, "score": 1.0}, label)
        data = {"keypoints": keypoints, "label": label.model_dump(mode="json")}
        found = run_script("return skeletons.readSkeleton(input.keypoints, input.label);", data)
        assert [(*line["from"], *line["to"], *line["color"]) for line in found["lines"]] == [
            (*start, *end, *color) for start, end, color in wanted.lines
        ]
        assert [(*point["at"], *point["color"]) for point in found["points"]] == [
            (*at, *color) for at, color, _ in wanted.points
        ]


def test_coco_results_are_numbered_as_the_file_is_named(run_script):
    found = [{"category": "ring", "category_id": 10, "bbox": [1, 2, 3, 4], "score": 0.5, "keypoints": [1, 2, 0.5]}]
    for name, image_id in (("000000000139.jpg", 139), ("photo 12.jpg", 1), ("12.tar.gz", 1), ("9" * 16 + ".jpg", 1)):
        wanted = {"image_id": image_id, "category_id": 10, "bbox": [1, 2, 3, 4], "score": 0.5, "keypoints": [1, 2, 0.5]}
        assert run_script("return coco.toResults(...input);", [found, name]) == [wanted]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("path", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_scripts_parse_and_are_short(path):
    subprocess.run([NODE, "--check", "--input-type=module", "-"], input=path.read_bytes(), check=True)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 300
    assert lines[0].startswith("// ")


def test_page_names_only_files_that_are_served():
    served = set(PAGE_FILES.values())
    files = [path for path in WEB.iterdir() if path.is_file() and path.suffix != ".py"]
    assert served == {path.name for path in files}
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"]+)"', html)) <= served
    for path in WEB.glob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert set(re.findall(r'(?:from |new URL\()"(?:\./)?([^"]+\.js)"', script)) <= served, path.name
    for path in files:
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|//cdn", text), path.name


@pytest.mark.parametrize("path", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_text_never_becomes_markup_or_code(path):
    script = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser", script
    )


def test_every_id_that_the_scripts_ask_for_is_there():
    html = (WEB / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for path in WEB.glob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert set(re.findall(r'(?:(?<!\.)\bget|querySelector)\("#?([\w-]+)"\)', script)) - {".swatch"} <= set(ids), (
            path.name
        )
    for attribute in ("for", "aria-labelledby", "aria-describedby"):
        assert set(re.findall(rf'{attribute}="([^"]+)"', html)) <= set(ids)


def test_page_may_connect_only_where_a_setting_says_so():
    def connects(**settings):
        return re.search(r"connect-src ([^;]+);", page_policy(ServeConfig(**settings)))[1].split()

    assert connects() == ["'self'"]
    assert connects(compare_with="http://10.0.0.7:8001") == ["'self'", "http://10.0.0.7:8001"]
    assert connects(page_image_addresses=True) == ["'self'", "http:", "https:"]


@pytest.mark.parametrize(
    "address", ["10.0.0.7:8001", "ftp://a", "http://a/", "http://a b", "http://a; script-src *", "http://a:1\n", "*"]
)
def test_second_server_is_an_origin_and_nothing_else(address):
    with pytest.raises(ValueError, match="compare_with"):
        ServeConfig(compare_with=address)
