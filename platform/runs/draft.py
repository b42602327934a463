"""Draws up a job for a data set: input size, anchors, schedule and batch from its numbers and from the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from maskray.model.config import InputConfig, ModelConfig
from maskray.model.presets import merge
from maskray.platform.data.facts import DataFacts
from maskray.platform.job.config import COCO_KEYPOINTS, DATA_CPUS

Task = Literal["masks", "boxes", "keypoints"]
WANTED_SIDE = 48.0  # pixels of the median object at the network's input: below 32 COCO calls it small
ANCHOR_OCTAVES = 5  # one size for each level P2 to P6
# Images seen: of fine-tuning and of training from random weights; and the fewest and most epochs.
IMAGES_SEEN = {"weights": 12_000, "nothing": 40_000}
EPOCHS = {"weights": (8, 60), "nothing": (20, 75)}
LARGE_DATA = {"weights": 12, "nothing": 72}  # epochs where there are 10,000 images and more


@dataclass(frozen=True)
class Machine:
    """What there is to train on."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Start:
    """Weights to begin from, and the architecture and input that they need; None where nothing tells them."""

    name: str
    model: ModelConfig | None = None
    input: InputConfig | None = None


def choose_task(facts: DataFacts) -> Task:
    """Keypoints where the objects have them, else masks where they have those, else boxes."""
    return "keypoints" if facts.has_keypoints else "masks" if facts.has_masks else "boxes"


def draft_job(
    name: str,
    data: Mapping[str, Any],
    facts: DataFacts,
    task: Task,
    machine: Machine,
    start: Start | None,
    without_mask: int = 0,
) -> str:
    """The text of a job file, complete and with a reason beside each choice.

    `data` are the sources under train and val, `without_mask` how many of their annotations have no mask though masks
    are to be trained. What is not written has its default. ValueError where the data cannot be used for the task.
    """
    if task == "masks" and not facts.has_masks:
        raise ValueError(
            f"task masks: only {facts.with_mask} of {facts.objects} objects have a mask; take --task boxes"
        )
    if task == "keypoints" and not facts.has_keypoints:
        raise ValueError(
            "task keypoints: the data need one class, with names of its keypoints, that half of the objects have"
        )
    size, size_why = input_size(facts, machine)
    parts = [
        _header(name, facts, task, start),
        _block({"name": name, "seed": 1}),
        _data(data, without_mask),
        _block({"input": _input(size, facts, start)}, size_why),
        _block({"model": _model(task, facts, size, machine, start)}, _model_why(start)),
        _schedule(facts, task, machine, start),
        _block({"resources": _resources(machine)}, f"Of this machine: {machine.cpus} CPUs, {machine.gpus} GPUs."),
        _block({"evaluation": {"iou_types": _iou_types(task, facts), "report_images": 12}}),
        _block(
            {"tracking": {"experiment": name, "register_as": name, "alias": "champion"}},
            "The best checkpoint becomes a version of this registered model.",
        ),
    ]
    return "\n".join(parts)


def input_size(facts: DataFacts, machine: Machine) -> tuple[int, str]:
    """Shorter edge in pixels, a multiple of 32, and why: as large as the objects need, and as the machine allows."""
    shorter = facts.edges[0]
    most = 800 if machine.gpus else 320
    wanted = max(shorter, shorter * WANTED_SIDE / max(1.0, facts.sides[1]))
    size = int(min(most, max(128, 32 * round(wanted / 32))))
    scale = size / shorter
    return size, (
        f"Images are {facts.edges[0]:.0f} x {facts.edges[1]:.0f} pixels (medians), objects {facts.sides[1]:.0f} "
        f"(median), which become {facts.sides[1] * scale:.0f}."
    )


def anchor_sizes(facts: DataFacts, scale: float) -> list[int]:
    """One size for each level, doubling; the smallest is near the small objects at the network's input, 8 to 32."""
    small = max(1.0, facts.sides[0] * scale)
    first = min(32, max(8, 2 ** round(math.log2(small))))
    return [first * 2**octave for octave in range(ANCHOR_OCTAVES)]


def epochs_of(images: int, begins: Literal["weights", "nothing"]) -> int:
    """Epochs to train: as many images seen for small data sets, as the usual schedules for large ones."""
    if images >= 10_000:
        return LARGE_DATA[begins]
    fewest, most = EPOCHS[begins]
    return int(min(most, max(fewest, math.ceil(IMAGES_SEEN[begins] / images))))


def _header(name: str, facts: DataFacts, task: Task, start: Start | None) -> str:
    rarest = min(facts.classes, key=lambda label: facts.classes[label])
    lines = [
        f"# {task.capitalize()} of {len(facts.classes)} classes: {facts.images} images, {facts.objects} objects to "
        f"learn from; fewest of {rarest!r}, {facts.classes[rarest]}.",
        f"# Begins with {'random weights' if start is None else start.name}.",
        f"# Look at it: maskray check {name}.yaml; run it: maskray run {name}.yaml",
    ]
    if start is None:
        lines.insert(2, "# With weights that have seen other images it needs far fewer: maskray new --weights.")
    return "\n".join(lines)


def _block(tree: Mapping[str, Any], why: str = "") -> str:
    # A leaf in one line, but never the file itself.
    flow = None if any(isinstance(value, dict | list) for value in tree.values()) else False
    text = yaml.safe_dump(dict(tree), sort_keys=False, default_flow_style=flow, width=110, allow_unicode=True)
    return (f"# {why}\n" if why else "") + text.rstrip()


def _data(sources: Mapping[str, Any], without_mask: int) -> str:
    keys: dict[str, Any] = {**sources, "flip": 0.5, "min_box_pixels": 2.0}
    why = "Where the images are, and how they are drawn."
    if without_mask:
        keys["objects_without_masks"] = "boxes_only"
        why += f" {without_mask} annotations have no mask: they train boxes alone."
    return _block({"data": keys}, why)


def _input(size: int, facts: DataFacts, start: Start | None) -> dict[str, Any]:
    longest = int(32 * math.ceil(size * min(2.5, max(1.34, facts.longest)) / 32))
    values: dict[str, Any] = {"shorter_edge": size, "longer_edge_max": longest}
    if start is not None and start.input is not None:
        default = InputConfig()
        for key in ("resize", "channel_order", "pixel_mean", "pixel_std"):
            value = getattr(start.input, key)
            if value != getattr(default, key):
                values[key] = list(value) if isinstance(value, tuple) else value
    return values


def _model(task: Task, facts: DataFacts, size: int, machine: Machine, start: Start | None) -> dict[str, Any]:
    heads: dict[str, Any] = {"masks": task == "masks", "keypoints": task == "keypoints"}
    if task == "keypoints":
        heads["keypoint_head"] = {"num_keypoints": len(facts.keypoints)}
    if start is not None and start.model is not None:
        return merge(_changed(start.model), heads)
    anchors = {"sizes": anchor_sizes(facts, size / facts.edges[0])}
    if start is not None:
        network = start.name.partition(":")[2] if start.name.startswith("torchvision:") else "resnet50"
        return {"backbone": {"name": network}, "anchors": anchors, **heads}
    if machine.gpus:
        return {"backbone": {"name": "resnet50", "norm": "group_norm", "freeze_stages": 0}, "anchors": anchors, **heads}
    small: dict[str, Any] = {
        "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 128},
        "anchors": anchors,
        "rpn": {"samples_per_image": 128, "pre_nms_top_n_train": 500, "post_nms_top_n_train": 300,
                "pre_nms_top_n_test": 500, "post_nms_top_n_test": 300},
        "box_head": {"hidden_channels": 512, "samples_per_image": 128},
        **heads,
    }  # fmt: skip
    if task == "masks":
        small["mask_head"] = {"channels": 128}
    return small


def _changed(model: ModelConfig) -> dict[str, Any]:
    """The keys of a model that are not the defaults, as the weights need them."""
    tree: dict[str, Any] = model.model_dump(mode="json", exclude_defaults=True)
    tree.pop("masks", None)
    tree.pop("keypoints", None)
    return tree


def _model_why(start: Start | None) -> str:
    if start is None:
        return "Group norm trains from random weights; anchors begin near the smallest objects."
    if start.model is None:
        return "The network that the weights are of; anchors begin near the smallest objects."
    return "The architecture that the weights are of, with the heads of this task."


def _schedule(facts: DataFacts, task: Task, machine: Machine, start: Start | None) -> str:
    begins: Literal["weights", "nothing"] = "nothing" if start is None else "weights"
    epochs = epochs_of(facts.images, begins)
    workers = max(1, machine.gpus)
    batch = max(workers, min(workers * (4 if machine.gpus else 2), facts.images // workers * workers))
    per_epoch = facts.images / batch
    steps = max(1, round(epochs * per_epoch))
    every = max(1, round(steps / 10))
    train: dict[str, Any] = {
        "epochs": epochs,
        "decay_at_epochs": [round(0.75 * epochs, 2), round(0.92 * epochs, 2)],
        "images_per_batch": batch,
        "base_lr": 0.02 if start is None else 0.01,
        "reference_images_per_batch": 4 if not machine.gpus and start is None else 16,
        "warmup_steps": min(500, max(1, steps // 10)),
        "clip_gradient_norm": 10.0,
        "precision": "bfloat16" if machine.gpus else "float32",
        "checkpoint_every": every,
        "evaluate_every": every,
        "best_metric": {"masks": "segm/AP", "boxes": "bbox/AP", "keypoints": _best_of_keypoints(facts)}[task],
        "patience": 5,
    }
    if start is not None:
        train["initial_weights"] = start.name
    why = (
        f"{epochs} epochs are about {steps} steps of {batch} images. Ten evaluations; training ends before where five "
        "of them bring nothing better."
    )
    return _block({"train": train}, why)


def _best_of_keypoints(facts: DataFacts) -> str:
    return "keypoints/AP" if len(facts.keypoints) == COCO_KEYPOINTS else "bbox/AP"


def _iou_types(task: Task, facts: DataFacts) -> list[str]:
    if task == "keypoints":
        return ["bbox", "keypoints"] if _best_of_keypoints(facts).startswith("keypoints") else ["bbox"]
    return ["bbox", "segm"] if task == "masks" else ["bbox"]


def _resources(machine: Machine) -> dict[str, Any]:
    if machine.gpus:
        workers = machine.gpus
        return {"num_workers": workers, "gpus_per_worker": 1, "cpus_per_worker": 1, "num_evaluators": workers,
                "local_cpus": max(machine.cpus, 2 * workers + int(DATA_CPUS) + 1)}  # fmt: skip
    cpus = max(1, machine.cpus)
    return {"num_workers": 1, "cpus_per_worker": cpus, "num_evaluators": min(2, cpus), "local_cpus": cpus + 2}
