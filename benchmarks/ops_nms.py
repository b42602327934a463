"""NMS beside torchvision's on one CPU thread: the boxes of an RPN level, and detections of 80 classes.

Both run in this process, one after the other by turns, so that whatever else the machine does hits both. The figures
are medians; the ratio is torchvision's time over ours. Results are checked to be equal before anything is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

from maskray.ops.nms import batched_nms, nms


def make_boxes(count: int) -> tuple[Tensor, Tensor]:
    """Boxes of 16 to 144 pixels that crowd around 50 objects of an 800 x 1333 image, and their scores."""
    generator = torch.Generator().manual_seed(count)
    centres = torch.rand(50, 2, generator=generator) * torch.tensor([1333, 800])
    centre = centres[torch.randint(0, 50, (count,), generator=generator)]
    centre = centre + 20 * torch.randn(count, 2, generator=generator)
    half = 8 + 64 * torch.rand(count, 2, generator=generator)
    return torch.cat([centre - half, centre + half], 1), torch.rand(count, generator=generator)


def medians(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each function, called by turns; one round before that is not counted."""
    times: list[list[float]] = [[] for _ in functions]
    for round_number in range(repeats + 1):
        for record, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            if round_number:
                record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {arguments.threads} thread(s), ms")
    print(f"{'case':30} {'ours':>8} {'theirs':>8} {'ratio':>6}")
    for count, num_classes, threshold in ((1000, 1, 0.7), (2000, 1, 0.7), (8000, 1, 0.7), (1000, 80, 0.5)):
        boxes, scores = make_boxes(count)
        class_ids = torch.randint(0, num_classes, (count,), generator=torch.Generator().manual_seed(0))
        if num_classes == 1:
            calls = [
                lambda b=boxes, s=scores, t=threshold: nms(b, s, t),
                lambda b=boxes, s=scores, t=threshold: torchvision.ops.nms(b, s, t),
            ]
        else:
            calls = [
                lambda b=boxes, s=scores, c=class_ids, t=threshold: batched_nms(b, s, c, t),
                lambda b=boxes, s=scores, c=class_ids, t=threshold: torchvision.ops.batched_nms(b, s, c, t),
            ]
        assert torch.equal(calls[0](), calls[1]())
        ours, theirs = medians(calls, arguments.repeats)
        name = f"{count} boxes, {num_classes} class(es)"
        print(f"{name:30} {ours * 1e3:8.2f} {theirs * 1e3:8.2f} {theirs / ours:5.1f}x", flush=True)


if __name__ == "__main__":
    main()
