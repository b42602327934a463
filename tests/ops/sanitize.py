"""Builds the CPU operators with address and undefined-behaviour sanitizers, runs their tests and 10,000 random calls.

The library lies in build/sanitize; `make sanitize` starts this program. Any finding ends it with a report.
"""

import argparse
import os
import random
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from maskray.ops import build_extension as build
from maskray.ops import coco_library, extension

# The wrappers load the library where they are imported: under the sanitizers, theirs.
if "--inside" in sys.argv:
    for loader in (extension, coco_library):
        loader.__file__ = str(Path(__file__).resolve().parents[2] / "build/sanitize/extension.py")

from maskray.ops.coco_masks import gather_masks
from maskray.ops.match_boxes import match_boxes
from maskray.ops.match_images import RegionColumns, match_images
from maskray.ops.nms import batched_nms
from maskray.ops.outlines import OutlineTensors, crop_outlines, draw_outlines, encode_masks
from maskray.ops.paste_masks import paste_masks
from maskray.ops.paste_masks_to_rle import paste_masks_to_rle
from maskray.ops.rasterize_polygons import rasterize_polygons
from maskray.ops.rle import rle_area, rle_iou
from maskray.ops.roi_align import multi_level_roi_align, roi_align
from maskray.ops.roi_pool import roi_pool
from maskray.ops.roi_warp import roi_warp
from maskray.ops.soft_nms import soft_nms

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/sanitize"
FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# What a refusal may begin with.
NAMED = ("boxes: ", "features: ", "levels: ", "rles: ", "detections: ", "coordinates: ", "polygon_offsets: ")
NAMED += ("text: ", "placements: ", "masks: ")
# Numbers that boxes and scores are salted with.
HARD = [float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e9, -1e9, 0.0, -5.0, 2.0**31, -(2.0**63)]


def build_library(cxx: str) -> None:
    """Compile every CPU source, the *_isa.cpp once per instruction set, and link _C and _coco in build/sanitize."""
    torch_found = build.find_torch()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    modules = {module["name"]: module["sources"] for module in project["tool"]["setuptools"]["ext-modules"]}
    sources = modules["maskray.ops._C"] + modules["maskray.ops._coco"]
    base = [cxx, *build.CXX_FLAGS, *FLAGS, f"-DTORCH_TARGET_VERSION={build.TORCH_TARGET_VERSION}ULL"]
    base += torch_found.includes
    commands = []
    for source in map(Path, sources):
        isas = build.X86_ISAS if source.stem.endswith("_isa") else {"": []}
        for isa, flags in isas.items():
            defined = [f"-DMASKRAY_ISA={isa}"] if isa else []
            target = FOLDER / f"{source.parent.name}_{source.stem}{isa}.o"
            commands.append([*base, *flags, *defined, "-c", str(ROOT / source), "-o", str(target)])
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True), commands))
    of_coco = [command[-1] for command in commands if "/coco_" in command[-1]]
    of_torch = [command[-1] for command in commands if "/coco_" not in command[-1]]
    link = [cxx, "-shared", "-fsanitize=address,undefined"]
    torch_libraries = [f"-L{torch_found.folder / 'lib'}", "-ltorch_cpu", "-ltorch"]
    subprocess.run([*link, *of_torch, *torch_libraries, "-o", str(FOLDER / "_C.abi3.so")], check=True)
    subprocess.run([*link, *of_coco, "-o", str(FOLDER / "_coco.abi3.so")], check=True)


def run_under_sanitizers(cxx: str, calls: int) -> int:
    """Start this program again with the sanitizers' libraries loaded first; its exit status."""
    names = ("libasan.so", "libubsan.so", "libstdc++.so.6")
    found = [subprocess.check_output([cxx, f"-print-file-name={name}"], text=True).strip() for name in names]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, __file__, "--inside", "--calls", str(calls)]
    return subprocess.run(command, env=environment, cwd=ROOT).returncode


class RandomCalls:
    """Calls of the operators with hard numbers, empty sizes and strides that are not aligned."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        pooling = [self.pool, self.pool_pyramid]
        self.kinds = [
            *pooling,
            self.nms,
            self.soft_nms,
            self.match,
            self.paste,
            self.rle,
            self.fill,
            self.outlines,
            self.coco,
        ]

    def call(self) -> None:
        """One operator, drawn anew with its arguments."""
        self.dtype = self.random.choice([torch.float32, torch.float64])
        self.random.choice(self.kinds)()

    def tensor(self, rows: int, columns: int) -> torch.Tensor:
        values = 40 * torch.rand(rows * columns + 1, dtype=self.dtype) - 8
        for _ in range(self.random.choice([0, 0, 1, rows])):
            values[self.random.randrange(len(values))] = self.random.choice(HARD)
        if self.random.random() < 0.5:
            return values[1:].view(rows, columns)  # begins between two aligned addresses
        return values[:-1].view(columns, rows).t()

    def boxes(self, most: int = 300) -> torch.Tensor:
        return self.tensor(self.random.choice([count for count in (0, 1, 2, 7, 70, 300) if count <= most]), 4)

    def features(self) -> torch.Tensor:
        height, width = self.random.randint(1, 9), self.random.randint(1, 9)
        return self.tensor(height * width, 3).t().reshape(1, 3, height, width).requires_grad_()

    def nms(self) -> None:
        boxes = self.boxes()
        ids = torch.randint(-3, 3, (len(boxes),))
        images = self.random.choice([None, ids.flip(0)])
        batched_nms(boxes, self.tensor(len(boxes), 1)[:, 0], ids, self.random.random(), images)

    def soft_nms(self) -> None:
        boxes, method = self.boxes(70), self.random.choice(["linear", "gaussian"])
        soft_nms(boxes, self.tensor(len(boxes), 1)[:, 0], self.random.random(), 0.5, method, 0.01)

    def match(self) -> None:
        gt, threshold = self.tensor(self.random.choice([0, 1, 9]), 4), self.random.random()
        forced = self.random.random() < 0.5
        match_boxes(self.boxes(), gt, positive_iou=threshold, negative_iou=threshold / 2, force_best=forced)

    def pool(self) -> None:
        op = self.random.choice([roi_align, roi_pool, roi_warp])
        size, scale = (self.random.randint(1, 4), 2), self.random.choice([0.25, 1.0])
        reduction = {"reduction": self.random.choice(["mean", "max"])} if op is not roi_pool else {}
        op(self.features(), [self.boxes(7)], size, scale, **reduction).sum().backward()

    def pool_pyramid(self) -> None:
        maps = [self.features() for _ in range(self.random.randint(1, 3))]
        boxes = self.boxes(7)
        rows = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        levels = torch.randint(0, self.random.choice([len(maps), len(maps) + 1]), (len(rows),))
        reduction = self.random.choice(["mean", "max"])
        scales = [0.5**i for i in range(len(maps))]
        multi_level_roi_align(maps, rows, levels, 3, scales, reduction=reduction).sum().backward()

    def paste(self) -> None:
        boxes, side = self.boxes(7), self.random.randint(0, 5)
        masks = self.tensor(len(boxes), side * side).reshape(len(boxes), side, side) / 32
        size = (self.random.randint(1, 40), self.random.randint(1, 40))
        self.random.choice([paste_masks, paste_masks_to_rle])(masks, boxes, size, 0.5)

    def rle(self) -> None:
        text = bytes(self.random.choice([*range(48, 112), *range(256)]) for _ in range(self.random.randint(0, 9)))
        valid = coco_mask.encode(torch.randint(0, 2, (5, 6), dtype=torch.uint8).t().contiguous().numpy().T)
        rles = [valid, {"size": [5, 6], "counts": text if self.random.random() < 0.5 else valid["counts"]}]
        rle_area(rles)
        rle_iou(rles, rles[::-1], [False, True])

    def coco(self) -> None:
        """Matching of masks that any file could hold: texts, sound or not, and polygons with hard coordinates."""
        size = (self.random.randint(1, 9), self.random.randint(1, 9))
        sizes = np.array([size])

        def region() -> object:
            if self.random.random() < 0.3:
                return {"counts": bytes(self.random.choice(range(48, 112)) for _ in range(self.random.randint(0, 4)))}
            if self.random.random() < 0.5:
                pixels = np.random.default_rng(self.random.randrange(2**32)).random(size) < 0.5
                return coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
            values = [self.random.choice([*HARD, *range(-2, 12)]) for _ in range(2 * self.random.randint(0, 5))]
            return [values, [1, 1, 7, 1, 7, 7.5]]

        count = self.random.randint(0, 4)
        masks = gather_masks([region() for _ in range(count)], np.repeat(sizes, count, axis=0))
        boxes, flags = np.array(self.tensor(count, 4), dtype=np.float64).reshape(count, 4), np.zeros(count, bool)
        ids = np.array([self.random.randint(-1, 1) for _ in range(count)], dtype=np.int32)
        parts = (np.array([0, count]), np.arange(count), ids, boxes)
        truth = RegionColumns(*parts, np.ones(count), crowd=flags, ignored=flags, masks=masks)
        found = RegionColumns(*parts, masks.areas, scores=np.ones(count), masks=masks)
        kind = self.random.choice(["bbox", "segm", "boundary"])
        match_images(kind, sizes, truth, found, np.array([[0, 1e9]]), np.array([0.5, 0.9]), 3)

    def fill(self) -> None:
        boxes = self.boxes(7)
        corners = self.random.randint(2, 6)
        points = self.tensor(corners * len(boxes), 2) if len(boxes) else torch.zeros(0, 2, dtype=self.dtype)
        objects = torch.arange(len(boxes) + 1)
        rasterize_polygons(points, corners * objects, objects, boxes, self.random.choice([1, 7, 28]))

    def outlines(self) -> None:
        boxes, corners = self.boxes(7), self.random.randint(3, 6)
        count = len(boxes)
        points = self.tensor(corners * count, 2) if count else torch.zeros(0, 2, dtype=self.dtype)
        starts = torch.arange(count + 1)
        text, offsets = encode_masks([torch.randint(0, 2, (5, 6)) for _ in range(count)])
        if len(text) and self.random.random() < 0.2:
            text[self.random.randrange(len(text))] = self.random.randrange(256)
        places = torch.randint(-3, 9, (count, 7))
        places[:, :2] = torch.tensor([5, 6])
        outlines = OutlineTensors(points.double(), corners * starts, starts, text, offsets, places)
        index = torch.randint(0, max(count, 1), (count,))
        crop_outlines(outlines, index, boxes, (9, 8), self.random.choice([1, 7, 28]), binary=self.random.random() < 0.5)
        windows = torch.randint(-9, 9, (count, 4))
        windows[:, 2:] += 9
        draw_outlines(outlines, index, windows)


def run_inside(calls: int) -> int:
    """Operator tests, then random calls, with the library of build/sanitize; the exit status of the tests."""
    assert FOLDER / "_C.abi3.so" in map(Path, torch.ops.loaded_libraries)
    generator = RandomCalls(0)
    refused = 0
    for _ in range(calls):
        try:
            generator.call()
        except ValueError as error:
            if not str(error).startswith(NAMED):
                raise
            refused += 1  # an argument that the operator refuses by name
    print(f"{calls} random calls: clean, {refused} of them refused by name", flush=True)
    # Not test_build.py: it starts processes of its own, with the installed libraries.
    return int(pytest.main(["tests/ops", "--ignore=tests/ops/test_build_extension.py", "-k", "not compile"]))


def main() -> None:
    """Build, then run; the exit status is that of the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help="run only, in a process that has the sanitizers loaded")
    parser.add_argument("--calls", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.inside:
        sys.exit(run_inside(arguments.calls))
    cxx = os.environ.get("CXX", "c++")
    build_library(cxx)
    sys.exit(run_under_sanitizers(cxx, arguments.calls))


if __name__ == "__main__":
    main()
