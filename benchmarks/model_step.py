"""R50-FPN Mask R-CNN beside torchvision's on one CPU thread: a training step, and a detection with pasted masks.

Same picture, same numbers of anchors, proposals and samples, random weights, frozen batch norm, 80 classes. Both run in
this process by turns. The figures are medians of CPU seconds, which other programs on the machine change little; the
ratio is torchvision's time over ours.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from maskray.model.build import build_model
from maskray.model.config import InferenceConfig, InputConfig, ModelConfig
from maskray.model.detections import to_original
from maskray.model.structures import Batch, Targets

HEIGHT, WIDTH, NUM_OBJECTS = 320, 416, 8
# Random weights score every class alike: without a threshold both sides go through NMS and masks of 100 detections.
THRESHOLD = 0.0


def make_targets() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A picture of noise with boxes, classes and full masks of NUM_OBJECTS objects."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    size = 30 + 100 * torch.rand(NUM_OBJECTS, 2, generator=generator)
    corner = torch.rand(NUM_OBJECTS, 2, generator=generator) * (torch.tensor([WIDTH, HEIGHT]) - size)
    boxes = torch.cat([corner, corner + size], 1)
    masks = torch.zeros(NUM_OBJECTS, HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    return image, boxes, torch.arange(NUM_OBJECTS), masks


def our_calls() -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step and a detection of maskray."""
    config = ModelConfig(inference=InferenceConfig(score_threshold=THRESHOLD))
    training, detecting = (build_model(config, InputConfig(), 80) for _ in range(2))
    detecting.eval()
    image, boxes, classes, masks = make_targets()
    size = torch.tensor([[HEIGHT, WIDTH]])
    batch = Batch(image[None], size, torch.tensor([0]), size, Targets(boxes[None], classes[None], masks))

    def step() -> None:
        training.zero_grad()
        torch.stack(list(training(batch).values())).sum().backward()

    return step, lambda: to_original(detecting.detect(batch), batch, 0)


def their_calls() -> tuple[Callable[[], object], Callable[[], object]]:
    """The same of torchvision, whose own resizing is given nothing to do."""
    models = [
        MaskRCNN(
            resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3),  # frozen batch norm
            num_classes=81,
            min_size=HEIGHT,
            max_size=WIDTH,
            rpn_pre_nms_top_n_train=2000,
            rpn_post_nms_top_n_train=1000,
            rpn_pre_nms_top_n_test=1000,
            box_score_thresh=THRESHOLD,
        )
        for _ in range(2)
    ]
    training, detecting = models[0], models[1].eval()
    image, boxes, classes, masks = make_targets()
    pixels = image.float() / 255
    target = {"boxes": boxes, "labels": classes + 1, "masks": masks}

    def step() -> None:
        training.zero_grad()
        torch.stack(list(training([pixels], [target]).values())).sum().backward()

    def detect() -> None:
        with torch.no_grad():
            detecting([pixels])

    return step, detect


def medians(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of each function, called by turns; one round before that is not counted."""
    times: list[list[float]] = [[] for _ in functions]
    for round_number in range(repeats + 1):
        for record, function in zip(times, functions, strict=True):
            start = time.process_time()
            function()
            if round_number:
                record.append(time.process_time() - start)
    return [statistics.median(record) for record in times]


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, 1 thread, {HEIGHT} x {WIDTH}, CPU seconds"
    )
    print(f"{'case':20} {'ours':>8} {'theirs':>8} {'ratio':>6}")
    for case, ours, theirs in zip(("training step", "detection"), our_calls(), their_calls(), strict=True):
        mine, other = medians([ours, theirs], arguments.repeats)
        print(f"{case:20} {mine:8.3f} {other:8.3f} {other / mine:6.2f}")


if __name__ == "__main__":
    main()
