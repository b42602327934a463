"""Matching the anchors of an 800 x 1333 image with 100 boxes, beside torchvision's box_iou and Matcher.

Results are checked to be equal first. Memory is the greatest growth of the process's resident set during one call, and
of the device's memory on a GPU. The floor counts 15 operations for every pair; boxes that no block of anchors comes
near are skipped, so it can be passed. See side_by_side.py. Goals: 8 times faster, less than 16 MB.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from side_by_side import parse_arguments, report, start_table
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from maskray.ops.match_boxes import match_boxes

GOAL_MEGABYTES = 16.0
OPERATIONS_PER_PAIR = 15


def make_anchors() -> Tensor:
    """The 268,569 anchors of five pyramid levels of 800 x 1344 pixels, three shapes each; (R, 4)."""
    levels = []
    for stride, size in zip((4, 8, 16, 32, 64), (32, 64, 128, 256, 512), strict=True):
        rows, columns = -(-800 // stride), -(-1344 // stride)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres = (torch.stack([x, y], 2).float() + 0.5) * stride
        ratios = torch.tensor([0.5, 1, 2])
        half = torch.stack([size / ratios.sqrt(), size * ratios.sqrt()], 1) / 2
        anchors = torch.cat([centres[:, :, None] - half, centres[:, :, None] + half], 3)
        levels.append(anchors.reshape(-1, 4))
    return torch.cat(levels)


def make_boxes(count: int) -> Tensor:
    """Boxes of 8 to 408 pixels anywhere in the image."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([1333, 800])
    half = 4 + 200 * torch.rand(count, 2, generator=generator) ** 2
    return torch.cat([centre - half, centre + half], 1)


def memory_bytes(field: str) -> int:
    """VmRSS or VmHWM (its greatest value) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_megabytes(function: Callable[[], object], device: str) -> float:
    """How much the resident set, or the device's memory, grows at most during one call."""
    if device != "cpu":
        function()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the greatest value starts anew
    before = memory_bytes("VmRSS")
    function()
    return (memory_bytes("VmHWM") - before) / 1e6


def main() -> None:
    """Print the memory, then one line per number of threads."""
    arguments = parse_arguments(__doc__)
    device = arguments.device
    anchors, boxes = make_anchors().to(device), make_boxes(100).to(device)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    calls: list[Callable[[], Tensor]] = [
        lambda: match_boxes(anchors, boxes, positive_iou=0.7, negative_iou=0.3, force_best=True).labels,
        lambda: matcher(box_iou(boxes, anchors)).clamp(max=0),
    ]
    ours, theirs = (peak_megabytes(call, device) for call in calls)
    labels, found = calls[0](), calls[1]()
    assert torch.equal(labels.long(), torch.where(found == 0, 1, torch.where(found == -1, 0, -1)))
    verdict = "reached" if ours < GOAL_MEGABYTES else "not reached"
    print(f"peak extra memory: ours {ours:.1f} MB, theirs {theirs:.1f} MB; goal {GOAL_MEGABYTES:g} MB {verdict}")
    for threads in arguments.threads:
        machine = start_table(threads, device)
        moved = anchors.nbytes + len(anchors) * (1 + 8 + 4)  # labels, index and IoU are written
        floor = machine.floor(moved, OPERATIONS_PER_PAIR * len(anchors) * len(boxes))
        case = f"{len(anchors)} anchors x {len(boxes)} boxes"
        goal = 8 if device == "cpu" else None
        report(case, calls, arguments.repeats, goal=goal, floor=floor, device=device)


if __name__ == "__main__":
    main()
