"""Does transfer pay? A detector of some shapes as the start of one for other shapes, beside random weights.

Pretrains on PRETRAINED for a whole schedule, then trains on 60 images of FINE_TUNED, two of which are known, and asks
for AP on 60 others after a quarter of the steps: from the weights, by class name, and from nothing; five seeds each,
the two of a seed one after the other. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from small_training import (
    draw_data,
    job_of,
    mean_and_interval,
    metrics_of,
    new_model,
    pretrain,
    train_model,
)

from maskray.model.transfer import transfer

PRETRAINED = ("circle", "square", "triangle", "cross")
FINE_TUNED = ("square", "triangle", "star", "ring")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of a whole schedule")
    parser.add_argument("--pretraining-steps", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = pretrain(draw_data(folder / "pretrain", 400, 100, PRETRAINED), arguments.pretraining_steps)
        train = draw_data(folder / "train", 60, 1, FINE_TUNED)
        val = draw_data(folder / "val", 60, 2, FINE_TUNED)
        found: dict[str, list[dict[str, float]]] = {"from the weights": [], "from nothing": []}
        for seed in range(1, arguments.seeds + 1):
            for start, results in found.items():
                job = job_of(seed, arguments.steps)
                model = new_model(job, train.labels)
                if start == "from the weights":
                    transfer(model, job.input, train.labels, source, {})
                train_model(job, model, train, arguments.steps // 4)
                results.append(metrics_of(model, job, val))
                print(f"# seed {seed}, {start}: {results[-1]}", flush=True)
    names = ("bbox/AP", "bbox/AP50", "segm/AP", "segm/AP50")
    print(
        f"\n| {arguments.steps // 4} of {arguments.steps} steps | "
        + " | ".join(names)
        + " |\n|---|"
        + "---|" * len(names)
    )
    for start, results in found.items():
        cells = [mean_and_interval([result[name] for result in results]) for name in names]
        print(f"| {start} | " + " | ".join(f"{mean:.1f} ± {half:.1f}" for mean, half in cells) + " |")


if __name__ == "__main__":
    main()
