"""Area and IoU of run lengths: known values, pycocotools over random cases, text that is cut or wrong."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from maskray.ops.rle import rle_area, rle_iou


def random_rles(random, count, size):
    """Noise, rectangles, polygons, nothing and everything."""
    height, width = size
    rles = []
    for _ in range(count):
        kind = random.integers(0, 5)
        mask = np.zeros(size, np.uint8, order="F")
        if kind == 0:
            mask[:] = random.random(size) < random.random()
        elif kind == 1:
            y0, y1 = np.sort(random.integers(0, height + 1, 2))
            x0, x1 = np.sort(random.integers(0, width + 1, 2))
            mask[y0:y1, x0:x1] = 1
        elif kind == 2:
            polygon = (random.random((5, 2)) * (width, height) * 1.4 - 3).ravel().tolist()
            rles += coco_mask.frPyObjects([polygon], height, width)
            continue
        elif kind == 3:
            mask[:] = 1
        rles.append(coco_mask.encode(mask))
    return rles


def test_known_values():
    first, second = np.zeros((2, 4, 5), np.uint8)
    first[1:3, 1:3] = 1
    second[1:3, 2:5] = 1
    rles = [coco_mask.encode(np.asfortranarray(mask)) for mask in (first, second)]
    assert rle_area(rles).tolist() == [4, 6]
    assert rle_iou(rles[:1], rles, [False, False]).tolist() == [[1.0, 2 / 8]]
    assert rle_iou(rles[:1], rles[1:], [True]).tolist() == [[2 / 4]]


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(seed):
    random = np.random.default_rng(seed)
    for _ in range(100):
        size = tuple(random.integers(1, 60, 2).tolist())
        found, truth = random_rles(random, 5, size), random_rles(random, 4, size)
        crowd = (random.random(4) < 0.4).tolist()
        assert rle_area(found).tolist() == coco_mask.area(found).tolist()
        expected = coco_mask.iou(found, truth, [int(flag) for flag in crowd])
        assert np.array_equal(rle_iou(found, truth, crowd).numpy(), expected)


def test_counts_as_text_and_nothing():
    (rle,) = random_rles(np.random.default_rng(1), 1, (9, 8))
    as_text = rle | {"counts": rle["counts"].decode()}
    assert rle_area([as_text]).tolist() == rle_area([rle]).tolist()
    assert rle_area([]).shape == (0,)
    assert rle_iou([], [rle], [False]).shape == (0, 1)
    assert rle_iou([rle], [], []).shape == (1, 0)
    assert rle_area([{"size": [0, 5], "counts": b""}]).tolist() == [0]


def test_cut_or_changed_text_is_refused_or_read_as_another_mask():
    random = np.random.default_rng(3)
    for _ in range(300):
        (rle,) = random_rles(random, 1, (40, 50))
        text = rle["counts"]
        for length in range(len(text)):
            with pytest.raises(ValueError, match="rles: the counts of mask 0"):
                rle_area([rle | {"counts": text[:length]}])
        changed = bytearray(text)
        changed[random.integers(0, len(text))] = random.integers(0, 256)
        try:
            area = int(rle_area([rle | {"counts": bytes(changed)}]))
        except ValueError:
            continue
        assert 0 <= area <= 40 * 50


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        (b"", [2, 2]),
        (b"o" * 50, [2, 2]),  # a number that never ends
        (b"PPPPPPPPPPPP0", [2, 2]),
        (b"O", [2, 2]),  # -1
        (b"5", [2, 2]),
        (b"\x00", [2, 2]),
        (b"4\xff", [2, 2]),
        (b"4", [2**16, 2**16]),
        (b"4", [2, -2]),
        (b"4", [4]),
    ],
)
def test_malformed_text_is_refused(counts, size):
    with pytest.raises(ValueError, match="rles: "):
        rle_area([{"size": size, "counts": counts}])


def test_wrong_arguments_are_named():
    rle, other = ({"size": [2, width], "counts": counts} for width, counts in ((2, b"4"), (3, b"6")))
    with pytest.raises(ValueError, match="ground_truth: mask 0 is of another size"):
        rle_iou([rle], [other], [False])
    with pytest.raises(ValueError, match="crowd: expected 1 flags, got 2"):
        rle_iou([rle], [rle], [False, True])
    with pytest.raises(TypeError, match="rles: the counts of mask 0 are not compressed, but list"):
        rle_area([{"size": [2, 2], "counts": [4]}])
    text, sizes = torch.zeros(3, dtype=torch.uint8), torch.tensor([[2, 2]])
    for offsets in ([0, 4], [-1, 2], [2, 1]):
        with pytest.raises(RuntimeError, match="rles: "):
            torch.ops.maskray.rle_area(text, torch.tensor(offsets), sizes)


def test_passes_the_checks_of_torch():
    text = torch.tensor(list(b"4112"), dtype=torch.uint8)
    masks = (text, torch.tensor([0, 1, 4]), torch.tensor([[2, 2], [2, 2]]))
    torch.library.opcheck(torch.ops.maskray.rle_area.default, masks)
    torch.library.opcheck(torch.ops.maskray.rle_iou.default, (*masks, *masks, torch.tensor([False, True])))
