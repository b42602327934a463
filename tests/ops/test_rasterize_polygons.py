"""Polygons in boxes: a known mask, pycocotools over random cases, far and tiny input, errors."""

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from maskray.ops.rasterize_polygons import rasterize_polygons


def pack(objects):
    """Objects, lists of polygons (n, 2), as coordinates and offsets."""
    polygons = [torch.as_tensor(polygon, dtype=torch.float64) for polygons in objects for polygon in polygons]
    lengths = torch.tensor([0, *(len(polygon) for polygon in polygons)])
    counts = torch.tensor([0, *(len(polygons) for polygons in objects)])
    return torch.cat([torch.zeros(0, 2, dtype=torch.float64), *polygons]), lengths.cumsum(0), counts.cumsum(0)


def fill_with_pycocotools(polygons, box, size):
    """As detectron2 does: moved, scaled, filled, united."""
    if not polygons:
        return np.zeros((size, size), bool)
    low = np.array(box[:2])
    scale = size / np.maximum(np.array(box[2:]) - low, 0.1)
    scaled = [((np.asarray(polygon) - low) * scale).ravel().tolist() for polygon in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(scaled, size, size))).astype(bool)


def random_objects(random, count):
    """Rough and smooth outlines, whole and broken coordinates, repeated corners; boxes near them, some tiny."""
    objects, boxes = [], []
    for _ in range(count):
        scale = 10 ** random.uniform(-1, 3)
        polygons = []
        for _ in range(random.integers(0, 4)):
            polygon = random.random((random.integers(3, 40), 2)) * scale
            if random.random() < 0.3:
                polygon = polygon.round()
            if random.random() < 0.3:
                polygon[1] = polygon[0]
            polygons.append(polygon)
        corner = random.random(2) * scale * 0.6 - scale * 0.1
        boxes.append([*corner, *(corner + random.random(2) * scale * random.choice([0.01, 0.5, 1.2]))])
        objects.append(polygons)
    return objects, boxes


def test_a_rectangle_fills_its_cells():
    objects = pack([[[[2.0, 1], [6, 1], [6, 3], [2, 3]]]])
    (mask,) = rasterize_polygons(*objects, torch.tensor([[0.0, 0, 8, 8]]), 8)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:3, 2:6] = True
    assert torch.equal(mask, expected)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("size", [1, 7, 28, 56])
def test_equals_pycocotools(size):
    random = np.random.default_rng(size)
    for _ in range(30):
        objects, boxes = random_objects(random, 20)
        masks = rasterize_polygons(*pack(objects), torch.tensor(boxes, dtype=torch.float64), size)
        expected = [fill_with_pycocotools(polygons, box, size) for polygons, box in zip(objects, boxes)]
        assert np.array_equal(masks.numpy(), np.stack(expected))


def test_far_tiny_and_undefined_boxes():
    triangle = [[[0.0, 0], [5, 0], [0, 5]]]
    boxes = [[0.0, 0, 0, 0], [math.nan, 0, 1, 1], [0, 0, math.inf, 1], [1e300, 0, 1e301, 1], [9, 9, 7, 7]]
    boxes += [[-1e9, -1e9, -1e9, -1e9], [50, 50, 60, 60]]
    masks = rasterize_polygons(*pack([triangle] * len(boxes)), torch.tensor(boxes, dtype=torch.float64), 14)
    assert np.array_equal(masks[0].numpy(), fill_with_pycocotools(triangle, boxes[0], 14))
    assert not masks[1:4].any()
    assert not masks[6].any()
    huge = [[[-1e30, -1e30], [1e30, -1e30], [1e30, 1e30], [-1e30, 1e30]]]
    assert rasterize_polygons(*pack([huge]), torch.tensor([[0.0, 0, 1, 1]]), 5).all()


def test_nothing_gives_nothing():
    assert rasterize_polygons(*pack([]), torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert not rasterize_polygons(*pack([[]]), torch.tensor([[0.0, 0, 1, 1]]), 28).any()


def test_passes_the_checks_of_torch():
    triangle = [[[0.0, 0], [5, 0], [0, 5]]]
    for objects in ([triangle, triangle * 2], []):
        boxes = torch.tensor([[0.0, 0, 4, 4]], dtype=torch.float64).repeat(len(objects), 1)
        torch.library.opcheck(torch.ops.maskray.rasterize_polygons.default, (*pack(objects), boxes, 7))


POINTS, BOX = torch.rand(6, 2), torch.tensor([[0.0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"coordinates: expected float64 \(P, 2\)", (torch.rand(12), [0, 6], [0, 1], BOX, 7)),
        (ValueError, "coordinates: expected finite", (POINTS * math.nan, [0, 6], [0, 1], BOX, 7)),
        (TypeError, "boxes: expected a floating dtype", (POINTS, [0, 6], [0, 1], BOX.int(), 7)),
        (ValueError, r"boxes: expected .*\(D, 4\)", (POINTS, [0, 6], [0, 1], BOX[:, :3], 7)),
        (ValueError, "polygon_offsets: a group has fewer", (POINTS, [0, 2, 6], [0, 2], BOX, 7)),
        (ValueError, "polygon_offsets: expected 0 first", (POINTS, [0, 7], [0, 1], BOX, 7)),
        (ValueError, "polygon_offsets: a group", (POINTS, [0, 9, 6], [0, 2], BOX, 7)),
        (ValueError, "object_offsets: expected 0 first", (POINTS, [0, 6], [0, 2], BOX, 7)),
        (ValueError, "object_offsets: expected int64", (POINTS, [0, 6], [0, 1, 1], BOX, 7)),
        (ValueError, "mask_size: expected", (POINTS, [0, 6], [0, 1], BOX, 0)),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    points, polygons, objects, boxes, size = arguments
    with pytest.raises(error, match=message):
        rasterize_polygons(points, torch.tensor(polygons), torch.tensor(objects), boxes, size)
