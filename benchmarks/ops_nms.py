"""NMS beside torchvision's: 10,000 boxes of one class, and 80 classes of 2,000 boxes each, evenly spread and crowded.

Results are checked to be equal before anything is timed. The boxes are read once and so are the scores; what takes the
time is the overlaps of the boxes that stay with those after them, about 14 operations each. See side_by_side.py.
"""

import torch
import torchvision
from side_by_side import parse_arguments, report, start_table
from torch import Tensor

from maskray.ops.nms import batched_nms, nms

OPERATIONS_PER_PAIR = 14


def make_boxes(count: int, crowded: bool, device: str) -> tuple[Tensor, Tensor]:
    """Boxes of 16 to 144 pixels on an 800 x 1333 image, anywhere or around 50 objects, and scores that all differ."""
    generator = torch.Generator().manual_seed(count)
    size = torch.tensor([1333.0, 800.0])
    if crowded:
        objects = torch.rand(50, 2, generator=generator) * size
        centre = objects[torch.randint(0, 50, (count,), generator=generator)]
        centre = centre + 20 * torch.randn(count, 2, generator=generator)
    else:
        centre = torch.rand(count, 2, generator=generator) * size
    half = 8 + 64 * torch.rand(count, 2, generator=generator)
    scores = torch.randperm(count, generator=generator) / count
    return torch.cat([centre - half, centre + half], 1).to(device), scores.to(device)


def operations(kept: Tensor, scores: Tensor) -> float:
    """Of the overlaps of each box that stays with all after it."""
    rank = torch.argsort(torch.argsort(scores, descending=True))
    return OPERATIONS_PER_PAIR * float((len(scores) - 1 - rank[kept]).sum())


def main() -> None:
    """Print one line per case."""
    arguments = parse_arguments(__doc__)
    device, goal = arguments.device, 10 if arguments.device == "cpu" else 2
    for threads in arguments.threads:
        machine = start_table(threads, device)
        for crowded in (False, True):
            where = "around 50 objects" if crowded else "anywhere"
            for threshold in (0.5, 0.7):
                boxes, scores = make_boxes(10_000, crowded, device)
                calls = [
                    lambda b=boxes, s=scores, t=threshold: nms(b, s, t),
                    lambda b=boxes, s=scores, t=threshold: torchvision.ops.nms(b, s, t),
                ]
                kept = calls[0]()
                assert torch.equal(kept, calls[1]())
                floor = machine.floor(boxes.nbytes + scores.nbytes + kept.nbytes, operations(kept, scores))
                case = f"10,000 boxes {where}, IoU {threshold}"
                report(case, calls, arguments.repeats, goal=goal, floor=floor, device=device)
            boxes, scores = make_boxes(160_000, crowded, device)
            class_ids = torch.arange(160_000, device=device) % 80
            calls = [
                lambda b=boxes, s=scores, c=class_ids: batched_nms(b, s, c, 0.5),
                lambda b=boxes, s=scores, c=class_ids: torchvision.ops.batched_nms(b, s, c, 0.5),
            ]
            kept = calls[0]()
            assert torch.equal(kept, calls[1]())
            moved = boxes.nbytes + scores.nbytes + class_ids.nbytes + kept.nbytes
            floor = machine.floor(moved, operations(kept, scores) / 80)
            case = f"80 classes x 2,000 boxes {where}, IoU 0.5"
            report(case, calls, arguments.repeats, goal=goal, floor=floor, device=device)


if __name__ == "__main__":
    main()
