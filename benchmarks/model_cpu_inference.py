"""How a CPU is given the same work: images one by one beside a batch of four, heads on 16 boxes at a time beside all.

Untrained models that find 100 objects everywhere, on images of 480 x 640 pixels. All four ways run in this process by
turns. Ratios are to the first way, the platform's without an accelerator: above 1, that one is quicker.
"""

from __future__ import annotations

import argparse
from functools import partial
from unittest.mock import patch

import torch
from model_torchvision import draw, medians, our_batch

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, BoxHeadConfig, InputConfig, ModelConfig
from maskray.model.heads import chunks
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

HEIGHT, WIDTH, IMAGES = 480, 640, 4
ALL = 10**9  # boxes at a time
EVERYTHING = {"score_threshold": 0.0, "detections_per_image": 100}
MODELS = {
    "R50-FPN": ModelConfig(inference=EVERYTHING),
    "R50-FPN, keypoints": ModelConfig(inference=EVERYTHING, masks=False, keypoints=True),
    "R50-C4": ModelConfig(
        backbone=BackboneConfig(features="c4"),
        anchors={"sizes": [32, 64, 128, 256, 512]},
        rpn={"post_nms_top_n_test": 300},  # as in the paper, section 3.1 ("Inference")
        box_head=BoxHeadConfig(name="res5", pool_size=14),
        inference=EVERYTHING,
    ),
}


@torch.inference_mode()
def detect(model: MaskRCNN, batches: list[Batch], chunk: int) -> None:
    """Everything that is found, with so many boxes at a time."""
    with patch.object(chunks, "CHUNK", chunk):
        for batch in batches:
            model.detect(batch)


def main() -> None:
    """Print median seconds of each way, and its ratio to the platform's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = [draw(HEIGHT, WIDTH, seed) for seed in range(IMAGES)]
    single = [our_batch([image], train=False) for image in images]
    together = [our_batch(images, train=False)]
    print(f"torch {torch.__version__}, {arguments.threads} threads; seconds for {IMAGES} images of {HEIGHT} x {WIDTH}")
    for name in arguments.models:
        torch.manual_seed(0)
        model = build_model(MODELS[name], InputConfig(shorter_edge=HEIGHT), num_classes=80).eval()
        ways = {
            f"one by one, {chunks.CHUNK} boxes at a time": partial(detect, model, single, chunks.CHUNK),
            "one by one, all boxes at once": partial(detect, model, single, ALL),
            f"a batch, {chunks.CHUNK} boxes at a time": partial(detect, model, together, chunks.CHUNK),
            "a batch, all boxes at once": partial(detect, model, together, ALL),
        }
        times = medians(ways, arguments.repeats)
        ours = next(iter(times.values()))
        print(name)
        for way, seconds in times.items():
            print(f"  {way:32} {seconds:6.2f} s  {seconds / ours:.2f}x", flush=True)


if __name__ == "__main__":
    main()
