"""RoIAlign beside torchvision: of one large map and of a whole pyramid, forward, and forward with backward.

Results are checked to agree before anything is timed. Forward must read the map (or as much of it as the boxes cover)
and write the pooled values; backward reads their gradient and writes that of the map. Each cell that a box covers is
multiplied and added once per channel, forward and backward. See side_by_side.py.
"""

import math
from collections.abc import Callable

import torch
import torchvision
from side_by_side import parse_arguments, report, start_table
from torch import Tensor

from maskray.ops.roi_align import multi_level_roi_align, roi_align

SHAPES = [(200, 272), (100, 136), (50, 68), (25, 34)]  # P2..P5 of an image of 800 x 1088
IMAGE = (800, 1088)
PROPOSAL_CELLS = 1000 * (57.7 / 4) ** 2  # of the mean side of the boxes below, on the map they are pooled from
DETECTION_CELLS = 100 * 14**2
Pair = tuple[Callable[[], Tensor], Callable[[], Tensor]]


def make_boxes(count: int, sides: tuple[float, float], device: str) -> Tensor:
    """Boxes (count, 4) in pixels, sides spread evenly in the logarithm."""
    generator = torch.Generator().manual_seed(0)
    low, high = (math.log(side) for side in sides)
    size = torch.exp(low + (high - low) * torch.rand(count, 2, generator=generator))
    corner = torch.rand(count, 2, generator=generator) * (torch.tensor([IMAGE[1], IMAGE[0]]) - size)
    return torch.cat([corner, corner + size], 1).to(device)


def with_backward(call: Callable[[], Tensor], features: list[Tensor]) -> Callable[[], object]:
    """The call, and the gradient of a weighted sum of its result."""
    weights = torch.randn_like(call())

    def run() -> object:
        for level in features:
            level.grad = None
        return call().backward(weights)

    return run


def one_map(features: list[Tensor]) -> Pair:
    """7x7 of 1000 boxes on the largest map: the proposals of an image."""
    boxes = make_boxes(1000, (40, 80), str(features[0].device))
    rows = torch.cat([boxes.new_zeros(1000, 1), boxes], 1)
    return (
        lambda: roi_align(features[0], rows, 7, 0.25, 0, True),
        lambda: torchvision.ops.roi_align(features[0], rows, 7, 0.25, 0, True),
    )


def pyramid(features: list[Tensor]) -> Pair:
    """14x14 of 100 boxes on four levels: the detections of an image, for the masks."""
    boxes = make_boxes(100, (32, 700), str(features[0].device))
    rows = torch.cat([boxes.new_zeros(100, 1), boxes], 1)
    pooler = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)
    named = {str(i): level for i, level in enumerate(features)}
    pooler(named, [boxes], [IMAGE])  # infers its scales
    scales = list(pooler.scales)

    def ours() -> Tensor:
        # The level of each box is part of what the peer does, so it is of ours.
        levels = pooler.map_levels([boxes])
        return multi_level_roi_align(features, rows, levels, 14, scales, 2, aligned=False)

    return ours, lambda: pooler(named, [boxes], [IMAGE])


def main() -> None:
    """Print one line per case, layout and pass."""
    arguments = parse_arguments(__doc__)
    device = arguments.device
    for threads in arguments.threads:
        machine = start_table(threads, device)
        for layout in (torch.contiguous_format, torch.channels_last):
            features = [torch.randn(1, 256, *shape, device=device) for shape in SHAPES]
            features = [level.contiguous(memory_format=layout).requires_grad_() for level in features]
            for name, make in (("7x7 of 1000 boxes, 200x272", one_map), ("14x14 of 100 boxes, 4 levels", pyramid)):
                case = f"{name}, {'NHWC' if layout == torch.channels_last else 'NCHW'}"
                calls = make(features)
                results = [call() for call in calls]
                torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
                used = features[:1] if make is one_map else features
                moved = sum(level.nbytes for level in used) + results[0].nbytes
                floor = machine.floor(moved, 256 * (PROPOSAL_CELLS if make is one_map else DETECTION_CELLS))
                goals = (6, 6) if device == "cpu" else (1.5, None)
                with torch.no_grad():
                    report(f"{case}, forward", calls, arguments.repeats, goal=goals[0], floor=floor, device=device)
                passes = [with_backward(call, used) for call in calls]
                label = f"{case}, fwd+bwd"
                report(label, passes, arguments.repeats, goal=goals[1], floor=2 * floor, device=device)


if __name__ == "__main__":
    main()
