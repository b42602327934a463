"""How a CPU is given the same work: images one by one beside a batch of four, heads on 16 boxes at a time beside all.

Untrained models that find 100 objects everywhere, on noise of 480 x 640 pixels. All four ways run in this process by
turns. Ratios are theirs over ours: above 1, what the platform does without an accelerator is quicker.
"""

from __future__ import annotations

import argparse
from functools import partial
from unittest.mock import patch

import torch
from side_by_side import medians

from maskray.model.build import build_model
from maskray.model.config import BackboneConfig, BoxHeadConfig, InputConfig, ModelConfig
from maskray.model.heads import chunks
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

HEIGHT, WIDTH, IMAGES = 480, 640, 4
SPARSE = {"score_threshold": 0.0, "detections_per_image": 100}
MODELS = {
    "R50-FPN": ModelConfig(inference=SPARSE),
    "R50-FPN, keypoints": ModelConfig(inference=SPARSE, masks=False, keypoints=True),
    "R50-C4": ModelConfig(
        backbone=BackboneConfig(features="c4"),
        anchors={"sizes": [32, 64, 128, 256, 512]},
        rpn={"post_nms_top_n_test": 300},  # as in the paper, section 3.1 ("Inference")
        box_head=BoxHeadConfig(name="res5", pool_size=14),
        inference=SPARSE,
    ),
}


def make_batch(images: torch.Tensor) -> Batch:
    """Images (N, 3, H, W) uint8 as they are."""
    sizes = torch.tensor([[HEIGHT, WIDTH]]).expand(len(images), 2)
    return Batch(images=images, image_sizes=sizes, image_ids=torch.arange(len(images)), original_sizes=sizes)


@torch.inference_mode()
def detect(model: MaskRCNN, batches: list[Batch], chunk: int) -> None:
    """Everything that is found, with so many boxes at a time."""
    with patch.object(chunks, "CHUNK", chunk):
        for batch in batches:
            model.detect(batch)


def main() -> None:
    """Print seconds of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = torch.randint(0, 256, (IMAGES, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    single, together = [make_batch(image[None]) for image in images], [make_batch(images)]
    print(f"torch {torch.__version__}, {arguments.threads} threads; seconds for {IMAGES} images of {HEIGHT} x {WIDTH}")
    for name in arguments.models:
        torch.manual_seed(0)
        model = build_model(MODELS[name], InputConfig(shorter_edge=HEIGHT), num_classes=80).eval()
        ways = [(single, chunks.CHUNK), (single, 10**9), (together, chunks.CHUNK), (together, 10**9)]
        times = [ms / 1e3 for ms in medians([partial(detect, model, *way) for way in ways], arguments.repeats)]
        ours = times[0]
        print(f"{name}: {ours:.2f} one by one, {chunks.CHUNK} boxes at a time", flush=True)
        for way, theirs in zip(("all boxes at once", "a batch", "a batch, all boxes at once"), times[1:], strict=True):
            print(f"  {theirs:.2f} {way}, ratio of medians {theirs / ours:.2f}x", flush=True)


if __name__ == "__main__":
    main()
