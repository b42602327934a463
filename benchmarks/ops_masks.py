"""Masks beside torchvision and pycocotools: pasting with encoding, areas and overlaps of RLE, polygons in boxes.

Pasting must read the small masks and write the text, or on the way of the peer all pixels of the image. torchvision
pastes 100 masks of a large image into 12.8 GB, so there both get 20 masks, one after the other; the memory of
ours is what the process grew by while it encoded 100. See side_by_side.py.
"""

import argparse
import resource

import numpy as np
import torch
from pycocotools import mask as coco_mask
from side_by_side import Call, Machine, parse_arguments, report, start_table
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from maskray.ops.paste_masks_to_rle import paste_masks_to_rle
from maskray.ops.rasterize_polygons import rasterize_polygons
from maskray.ops.rle import rle_area, rle_iou


def make_detections(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blobs (count, 28, 28), and boxes of a twentieth to a half of the image."""
    generator = torch.Generator().manual_seed(count)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    half = (0.025 + 0.225 * torch.rand(count, 2, generator=generator)) * torch.tensor([width, height])
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    bumps = 0.2 * torch.randn(count, 28, 28, generator=generator).cumsum(1).cumsum(2) / 28
    masks = torch.sigmoid(8 * (0.8 - rows.square() - columns.square()) + bumps)
    return masks, torch.cat([centre - half, centre + half], 1)


def paste_and_encode(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[object]:
    """What torchvision's users do: all pixels, then pycocotools."""
    pixels = paste_masks_in_image(masks[:, None], boxes, size)[:, 0] >= 0.5
    return [coco_mask.encode(np.asfortranarray(mask.numpy()).view(np.uint8)) for mask in pixels]


def compare_pasting(repeats: int, machine: Machine) -> None:
    """100 masks of an ordinary image, and some of a very large one."""
    for count, size in ((100, (800, 1333)), (20, (8000, 4000))):
        masks, boxes = make_detections(count, *size)
        rles = paste_masks_to_rle(masks, boxes, size)

        def theirs(masks: Tensor = masks, boxes: Tensor = boxes, size: tuple[int, int] = size) -> object:
            if len(masks) == 100:
                return paste_and_encode(masks, boxes, size)
            return [paste_and_encode(masks[i : i + 1], boxes[i : i + 1], size) for i in range(len(masks))]

        calls: list[Call] = [lambda m=masks, b=boxes, s=size: paste_masks_to_rle(m, b, s), theirs]
        text = sum(len(rle["counts"]) for rle in rles)
        case = f"{count} masks at {size[0]} x {size[1]} to RLE"
        report(case, calls, repeats, goal=20, floor=machine.floor(masks.nbytes + text))


def print_memory() -> None:
    """What 100 masks take beside their text, for images of two sizes."""
    for size in ((800, 1333), (8000, 4000), (60000, 60000)):
        detections = make_detections(100, *size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        text = sum(len(rle["counts"]) for rle in paste_masks_to_rle(*detections, size))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"100 masks at {size[0]} x {size[1]} to RLE: text {text / 1024:.0f} KiB, peak memory +{grown} KiB")


def compare_overlaps(repeats: int, machine: Machine) -> None:
    """Areas and IoU of 100 detections and 20 objects; both sides read the text."""
    rles = paste_masks_to_rle(*make_detections(120, 800, 1333), (800, 1333))
    found, truth, crowd = rles[:100], rles[100:], [0] * 20
    floor = machine.floor(sum(len(rle["counts"]) for rle in rles))
    calls: list[Call] = [lambda: rle_area(found), lambda: coco_mask.area(found)]
    report("area of 100 masks", calls, repeats, goal=None, floor=floor)
    calls = [lambda: rle_iou(found, truth, crowd), lambda: coco_mask.iou(found, truth, crowd)]
    report("IoU of 100 x 20 masks", calls, repeats, goal=None, floor=floor)
    few, one = found[:3], truth[:1]
    calls = [lambda: rle_iou(few, one, [0]), lambda: coco_mask.iou(few, one, [0])]
    report("IoU of 3 x 1 masks", calls, repeats, goal=None, floor=floor / 30)


def compare_polygons(repeats: int, machine: Machine) -> None:
    """128 mask targets of 28 x 28, from outlines of 40 corners."""
    random = np.random.default_rng(0)
    angles = np.sort(random.random((128, 40)) * 2 * np.pi, axis=1)
    radius = 60 + 40 * random.random((128, 40))
    outlines = np.stack([150 + radius * np.cos(angles), 150 + radius * np.sin(angles)], axis=2)
    boxes = np.array([50.0, 55, 250, 245]) + random.normal(0, 10, (128, 4))
    packed = (torch.from_numpy(outlines.reshape(-1, 2)), 40 * torch.arange(129), torch.arange(129))
    places = torch.from_numpy(boxes)

    def one_by_one() -> list[object]:
        masks: list[object] = []
        for outline, box in zip(outlines, boxes, strict=True):
            scaled = (outline - box[:2]) * (28 / np.maximum(box[2:] - box[:2], 0.1))
            masks.append(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([scaled.ravel().tolist()], 28, 28))))
        return masks

    ours = rasterize_polygons(*packed, places, 28)
    assert np.array_equal(ours.numpy(), np.stack(one_by_one()).astype(bool))
    calls: list[Call] = [lambda: rasterize_polygons(*packed, places, 28), one_by_one]
    floor = machine.floor(outlines.nbytes + ours.nbytes)
    report("128 polygons in boxes, 28 x 28", calls, repeats, goal=5, floor=floor)


def main() -> None:
    """The memory first, while nothing else has been allocated; then one line per case."""
    arguments: argparse.Namespace = parse_arguments(__doc__)
    print_memory()
    for threads in arguments.threads:
        machine = start_table(threads, "cpu")
        compare_polygons(arguments.repeats, machine)
        compare_overlaps(arguments.repeats, machine)
        compare_pasting(arguments.repeats, machine)


if __name__ == "__main__":
    main()
