"""RoIAlign beside torchvision's on one CPU thread: forward and backward at the shapes of Mask R-CNN with an FPN.

Both run in this process, one after the other by turns, so that whatever else the machine does hits both. The figures
are medians; the ratio is torchvision's time over ours. Results are checked to agree before anything is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

from maskray.ops.roi_align import roi_align

# Name, map height and width (channels 256), boxes, box side in cells, pooled side, samples (0: adaptive).
CASES = [
    ("P2 1000 boxes 7x7", 200, 336, 1000, 14, 7, 0),
    ("P3 512 boxes 7x7", 100, 168, 512, 14, 7, 0),
    ("P3 512 boxes 7x7, 2 samples", 100, 168, 512, 14, 7, 2),
    ("P4 128 boxes 14x14", 50, 84, 128, 20, 14, 0),
    ("P2 20 boxes 14x14", 200, 336, 20, 20, 14, 0),
    ("C4 300 boxes 7x7", 50, 84, 300, 20, 7, 0),
]


def make_case(height: int, width: int, count: int, side: int) -> tuple[Tensor, Tensor]:
    """Random features and boxes whose sides vary by 30 % about `side` cells."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 256, height, width, generator=generator)
    size = side * (0.7 + 0.6 * torch.rand(count, 2, generator=generator))
    corner = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - size)
    return features, torch.cat([torch.zeros(count, 1), corner, corner + size], 1)


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


def gradient(pooled: Tensor, features: Tensor) -> Callable[[], object]:
    """A function that computes the gradient of the features."""
    weights = torch.ones_like(pooled)
    return lambda: torch.autograd.grad(pooled, features, weights, retain_graph=True)


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", choices=["contiguous", "channels_last"], default="contiguous")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {arguments.threads} thread(s), ms")
    print(f"{'case':30} {'pass':8} {'ours':>8} {'theirs':>8} {'ratio':>6}")
    for name, height, width, count, side, pooled_size, samples in CASES:
        features, boxes = make_case(height, width, count, side)
        if arguments.layout == "channels_last":
            features = features.to(memory_format=torch.channels_last)
        features.requires_grad_()
        calls = [
            lambda f=features, b=boxes, p=pooled_size, s=samples: roi_align(f, b, p, 1.0, s),
            lambda f=features, b=boxes, p=pooled_size, s=samples: torchvision.ops.roi_align(f, b, p, 1.0, s, True),
        ]
        results = [call() for call in calls]
        torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
        for label, functions in (
            ("forward", calls),
            ("backward", [gradient(pooled, features) for pooled in results]),
        ):
            ours, theirs = medians(functions, arguments.repeats)
            print(f"{name:30} {label:8} {ours * 1e3:8.2f} {theirs * 1e3:8.2f} {theirs / ours:5.1f}x", flush=True)


if __name__ == "__main__":
    main()
