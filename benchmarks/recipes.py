"""Do the recipes help? Large-scale jitter, copy-paste and an average of the weights, each by itself and all together.

As one begins with few images of one's own: a small Mask R-CNN that knows other shapes (400 images) goes on with 40
synthetic ones, three seeds each, the recipes of a seed one after the other, and is asked for AP on 60 others. Prints a
table in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from small_training import BASE, draw_data, mean_and_interval, metrics_of, new_model, pretrain, train_model

from maskray.model.presets import merge
from maskray.model.transfer import transfer
from maskray.platform.job.config import JobConfig

PRETRAINED = ("circle", "square", "triangle", "cross")
CLASSES = ("square", "triangle", "star", "ring")
# Objects of the synthetic images have one scale: a jitter of 0.1 to 2, made for COCO, would train on other ones.
JITTER = {"data": {"augmentation": {"scale_range": [0.6, 1.6], "crop_size": 160}}}
PASTE = {"data": {"augmentation": {"copy_paste": 0.5}}}
AVERAGE = {"train": {"ema": {"decay": 0.99}}}
RECIPES: dict[str, dict[str, Any]] = {
    "none": {},
    "large-scale jitter": JITTER,
    "copy-paste": PASTE,
    "average of weights": AVERAGE,
    "all": merge(merge(JITTER, PASTE), AVERAGE),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pretraining-steps", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RECIPES}
    with tempfile.TemporaryDirectory() as name:
        source = pretrain(draw_data(Path(name) / "pretrain", 400, 100, PRETRAINED), arguments.pretraining_steps)
        train = draw_data(Path(name) / "train", 40, 1, CLASSES)
        val = draw_data(Path(name) / "val", 60, 2, CLASSES)
        for seed in range(1, arguments.seeds + 1):
            for recipe, changes in RECIPES.items():
                decay = {"decay_at": [3 * arguments.steps // 4]}
                tree = merge(BASE, {"seed": seed, "train": {"steps": arguments.steps, **decay}})
                job = JobConfig.model_validate(merge(tree, changes))
                model = new_model(job, train.labels)
                transfer(model, job.input, train.labels, source, {})
                trainer = train_model(job, model, train, arguments.steps)
                with trainer.kept_weights():
                    found[recipe].append(metrics_of(model, job, val))
                print(f"# seed {seed}, {recipe}: {found[recipe][-1]}", flush=True)
    names = ("bbox/AP", "bbox/AP50", "segm/AP", "segm/AP50")
    print(f"\n| {arguments.steps} steps | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for recipe, results in found.items():
        cells = [mean_and_interval([result[name] for result in results]) for name in names]
        print(f"| {recipe} | " + " | ".join(f"{mean:.1f} ± {half:.1f}" for mean, half in cells) + " |")


if __name__ == "__main__":
    main()
