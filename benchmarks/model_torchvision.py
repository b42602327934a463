"""R50-FPN Mask R-CNN beside torchvision's with the same weights: detection in float32 and bfloat16, a training step.

One random model of torchvision, with the statistics and predictors set so that dozens of detections survive, is
imported; both must find the same before anything is timed. Detection is of one image of 800 x 1066 pixels, up to
masks of its size; a training step of two of 512 x 512 with eight objects each, also with the large maps computed again
in the backward pass. All run in this process by turns. Memory is that of a process of its own for each, beyond what the
imports take: weights, gradients and what a step needs. Ours trains as a worker of maskray does, which gives large
blocks back at once (platform/machine/memory.py), in time and memory; torchvision as its users run it, in memory also
with that. With --model and --shards (of a run: checkpoints/step-N
and data/shards/val) the AP that bfloat16 costs is printed too.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import side_by_side
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from maskray.model.config import ModelSpec
from maskray.model.detections import to_original
from maskray.model.imported import build_imported
from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Detections, Targets
from maskray.model.torchvision_names import read_torchvision
from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.stream import eval_rows
from maskray.platform.evaluation.evaluate import evaluate_rows, merge_parts
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.predictor import Predictor
from maskray.platform.machine.memory import LARGEST_DYNAMIC_BYTES, return_large_blocks

HEIGHT, WIDTH = 800, 1066
TRAIN_SIDE, NUM_OBJECTS = 512, 8
GOALS = {"detection, float32": 1.5, "detection, bfloat16": 2.5, "training step": 1.5, "same, large_maps": 1.5}
SIDES = {"training step": "ours", "same, large_maps": "ours-large-maps"}
MEMORY_SIDES = (*SIDES.values(), "theirs", "theirs-returning")
MEMORY_GOAL = 0.7
SCORE_THRESHOLD = 0.5  # leaves dozens of detections of a random model, fewer than the 100 that are kept


def draw(height: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """An image (3, h, w) uint8 of rectangles on noise, with their boxes (M, 4) and masks (M, h, w) uint8."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(60, 120, (3, height, width), dtype=torch.uint8, generator=generator)
    size = 30 + height / 4 * torch.rand(NUM_OBJECTS, 2, generator=generator)
    corner = torch.rand(NUM_OBJECTS, 2, generator=generator) * (torch.tensor([width, height]) - size)
    boxes = torch.cat([corner, corner + size], 1)
    masks = torch.zeros(NUM_OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
        image[:, y0:y1, x0:x1] = torch.randint(0, 256, (3, 1, 1), dtype=torch.uint8, generator=generator)
    return image, boxes, masks


@torch.no_grad()
def make_theirs(height: int, width: int) -> MaskRCNN:
    """A model of torchvision with frozen batch norm whose features and scores are of a usual size."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    options = {"rpn_post_nms_top_n_train": 1000, "box_score_thresh": SCORE_THRESHOLD}
    model = MaskRCNN(backbone, 91, min_size=min(height, width), max_size=max(height, width), **options).eval()

    def calibrate(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        layer.running_mean = inputs[0].mean(dim=(0, 2, 3))  # type: ignore[assignment]
        layer.running_var = inputs[0].var(dim=(0, 2, 3)) + 1e-3  # type: ignore[assignment]

    norms = [layer for layer in model.modules() if isinstance(layer, torchvision.ops.FrozenBatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(calibrate) for layer in norms]
    image = draw(height, width, 0)[0]
    model.backbone(model.transform([image.float() / 255])[0].tensors)
    for hook in hooks:
        hook.remove()
    predictor = model.roi_heads.box_predictor
    for layer, deviation in ((model.rpn.head.cls_logits, 0.05), (model.rpn.head.bbox_pred, 0.005)):
        layer.weight.normal_(std=deviation)
    predictor.cls_score.weight.normal_(std=0.05)
    predictor.bbox_pred.weight.normal_(std=0.01)
    return model


def our_batch(examples: list[tuple[Tensor, Tensor, Tensor]], train: bool) -> Batch:
    """The images as a batch, padded to whole cells of P5, with targets for training."""
    height, width = examples[0][0].shape[1:]
    padding = (0, -width % 32, 0, -height % 32)
    images = torch.stack([nn.functional.pad(image, padding) for image, _, _ in examples])
    sizes = torch.tensor([[height, width]] * len(examples))
    targets = None
    if train:
        classes = torch.arange(NUM_OBJECTS).expand(len(examples), -1)
        masks = torch.cat([nn.functional.pad(masks, padding) for _, _, masks in examples])
        targets = Targets(torch.stack([boxes for _, boxes, _ in examples]), classes, Outlines.from_bitmaps(masks))
    return Batch(images, sizes, torch.arange(len(examples)), sizes, targets)


def our_model(theirs: MaskRCNN, precision: str = "float32", checkpointing: str = "none") -> Any:
    """Ours with their weights and as few proposals in training, on channels-last weights, in eval mode."""
    imported = read_torchvision(theirs.state_dict())
    inference = imported.model.inference.model_copy(update={"precision": precision, "score_threshold": SCORE_THRESHOLD})
    rpn = imported.model.rpn.model_copy(update={"post_nms_top_n_train": 1000})
    backbone = imported.model.backbone.model_copy(update={"gradient_checkpointing": checkpointing})
    config = imported.model.model_copy(update={"inference": inference, "rpn": rpn, "backbone": backbone})
    return build_imported(dataclasses.replace(imported, model=config)).to(memory_format=torch.channels_last)


def detection_calls() -> dict[str, Callable[[], Any]]:
    """A detection with masks of the image's size: theirs, ours, and ours in bfloat16."""
    theirs = make_theirs(HEIGHT, WIDTH)
    image = draw(HEIGHT, WIDTH, 0)
    pixels = image[0].float() / 255
    batch = our_batch([image], train=False)
    ours, half = (our_model(theirs, precision) for precision in ("float32", "bfloat16"))

    @torch.inference_mode()
    def detect(model: Any) -> Detections:
        found: Detections = model.detect(batch)
        to_original(found, batch, 0, mask_paste="torchvision")
        return found

    @torch.inference_mode()
    def detect_theirs() -> dict[str, Tensor]:
        return theirs([pixels])[0]

    compare(detect(ours), detect_theirs())
    return {"theirs": detect_theirs, "float32": lambda: detect(ours), "bfloat16": lambda: detect(half)}


def compare(ours: Detections, theirs: dict[str, Tensor]) -> None:
    """Print how far apart the detections are; stop where they are not the same."""
    if len(ours.scores) != len(theirs["scores"]):
        raise SystemExit(f"error: {len(ours.scores)} detections, torchvision finds {len(theirs['scores'])}")
    # Those of almost equal score may stand in either order: each of theirs is looked for among ours of its class.
    distance = (ours.boxes - theirs["boxes"][:, None]).abs().amax(dim=2)
    distance[theirs["labels"][:, None] != ours.classes + 1] = torch.inf
    nearest, index = distance.min(dim=1)
    boxes, scores = float(nearest.max()), float((ours.scores[index] - theirs["scores"]).abs().max())
    print(f"{len(ours.scores)} detections, boxes within {boxes:.2g} px, scores within {scores:.2g}")
    if not (len(index.unique()) == len(index) and boxes < 0.01 and scores < 1e-4):
        raise SystemExit("error: the detections are not the same")


def training_call(side: str) -> Callable[[], None]:
    """A forward and backward pass of one side."""
    images = [draw(TRAIN_SIDE, TRAIN_SIDE, seed) for seed in range(2)]
    theirs = make_theirs(TRAIN_SIDE, TRAIN_SIDE).train()
    if side in SIDES.values():
        model = our_model(theirs, checkpointing="large_maps" if side == "ours-large-maps" else "none").train()
        del theirs
        batch = our_batch(images, train=True)

        def step() -> None:
            return_large_blocks()
            model.zero_grad()
            torch.stack(list(model(batch).values())).sum().backward()

        return step
    targets = [{"boxes": b, "labels": torch.arange(NUM_OBJECTS) + 1, "masks": m} for _, b, m in images]
    pixels = [image.float() / 255 for image, _, _ in images]

    def their_step() -> None:
        theirs.zero_grad()
        torch.stack(list(theirs(pixels, targets).values())).sum().backward()

    return their_step


def medians(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, called by turns."""
    times = side_by_side.medians(list(calls.values()), repeats)
    return {name: milliseconds / 1e3 for name, milliseconds in zip(calls, times, strict=True)}


def report(case: str, ours: float, theirs: float) -> None:
    """A line of the table."""
    ratio, goal = theirs / ours, GOALS[case]
    print(f"{case:22} {ours:8.3f} {theirs:8.3f} {ratio:6.2f}x  goal {goal}x {'' if ratio >= goal else 'not '}reached")


def status_mib(name: str) -> float:
    """VmRSS or VmHWM, the present and the highest memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def memory_of_steps(side: str) -> float:
    """Highest MiB of two training steps beyond what the process held before its model was built."""
    if side != "theirs":
        return_large_blocks()
    before = status_mib("VmRSS")
    call = training_call(side)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far was that of building
    call()
    call()
    return status_mib("VmHWM") - before


def measure_memory(threads: int) -> None:
    """Highest memory of two training steps of each side, in processes of their own."""
    mib = {}
    for side in MEMORY_SIDES:
        command = [sys.executable, __file__, "--memory-of", side, "--threads", str(threads)]
        mib[side] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    for case, side in SIDES.items():
        ratio = mib[side] / mib["theirs"]
        print(
            f"memory of a {case}: {mib[side]:.0f} MiB, theirs {mib['theirs']:.0f}, {ratio:.2f} of it; "
            f"goal {MEMORY_GOAL} {'' if ratio <= MEMORY_GOAL else 'not '}reached; where theirs gives back large blocks "
            f"too {mib[side] / mib['theirs-returning']:.2f} of its {mib['theirs-returning']:.0f}"
        )


def measure_ap(folder: str, shards: str) -> None:
    """AP of a trained model in float32 and in bfloat16."""
    manifest = read_manifest(shards)
    metrics = {}
    for precision in ("float32", "bfloat16"):
        model, spec = read_model_folder(folder)
        inference = spec.model.inference.model_copy(update={"precision": precision})
        model.config = spec.model.model_copy(update={"inference": inference})
        spec = ModelSpec(model=model.config, input=spec.input, labels=spec.labels)
        parts = evaluate_rows(Predictor(model, spec), manifest, eval_rows(manifest, 0, 1), ("bbox", "segm"))
        metrics[precision] = merge_parts(parts, manifest, ("bbox", "segm"))
    for name in ("bbox/AP", "segm/AP"):
        before, after = (100 * metrics[precision][name] for precision in ("float32", "bfloat16"))
        print(f"{name}: float32 {before:.2f}, bfloat16 {after:.2f}, lost {before - after:.2f}; goal 0.2")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="Folder of a trained model, for the AP that bfloat16 costs.")
    parser.add_argument("--shards", help="Shards to evaluate it on.")
    parser.add_argument("--memory-of", choices=MEMORY_SIDES, help="Train two steps and print MiB (used inside).")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(memory_of_steps(arguments.memory_of))
        return
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, CPU, {arguments.threads} threads, seconds"
    )
    print(f"{'case':22} {'ours':>8} {'theirs':>8} {'ratio':>7}")
    times = medians(detection_calls(), arguments.repeats)
    report("detection, float32", times["float32"], times["theirs"])
    report("detection, bfloat16", times["bfloat16"], times["theirs"])
    theirs = training_call("theirs")

    def their_step() -> None:
        return_large_blocks(LARGEST_DYNAMIC_BYTES)  # what glibc comes to by itself
        theirs()

    steps = medians({**{side: training_call(side) for side in SIDES.values()}, "theirs": their_step}, arguments.repeats)
    for case, side in SIDES.items():
        report(case, steps[side], steps["theirs"])
    measure_memory(arguments.threads)
    if arguments.model and arguments.shards:
        measure_ap(arguments.model, arguments.shards)


if __name__ == "__main__":
    main()
