"""Two workers with frozen parts, AdamW, a cosine, an average and every augmentation: alike, exact after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.job.config import JobConfig
from maskray.platform.train.checkpoint import read_checkpoint
from maskray.platform.train.launch import train
from maskray.platform.train.run_context import Validation
from maskray.platform.train.run_files import RunFiles

AUGMENTATION = {
    "scale_range": [0.5, 1.5], "crop_size": 96, "random_crop": 0.5, "vertical_flip": 0.5, "quarter_turns": True,
    "copy_paste": 0.7, "color_jitter": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> str:
    folder = tmp_path_factory.mktemp("data")
    paths = synthesize(folder, num_images=12, seed=1, height=64, width=96, max_objects=3)
    return write_shards(
        read_dataset(paths.annotations, paths.images), str(paths.images), str(folder / "shards")
    ).location


def make_validation() -> Validation:
    """Never better, and only where both ranks have the same weights; local, so that it travels by value."""

    class StandingValidation:
        def evaluate(self, model: MaskRCNN, rank: int, num_ranks: int) -> list[Any]:
            return [torch.stack([p.detach().double().square().sum() for p in model.parameters()]).sum().item()]

        def merge(self, parts: list[Any]) -> dict[str, float]:
            assert len(parts) == 2
            assert parts[0] == parts[1]
            return {"segm/AP": 0.5, "size": parts[0]}

    return StandingValidation()


def test_two_workers_end_together_and_go_on_exactly(
    make_job: Callable[..., JobConfig], shards: str, tmp_path: Path
) -> None:
    def job(patience: int) -> JobConfig:
        return make_job(
            resources={"num_workers": 2},
            data={"augmentation": AUGMENTATION},
            steps=20,
            images_per_batch=4,
            checkpoint_every=2,
            evaluate_every=2,
            patience=patience,
            base_lr=0.001,
            optimizer={"name": "adamw"},
            schedule="cosine",
            layer_decay=0.9,
            clip_gradient_norm=1.0,
            ema={"decay": 0.5},
            freeze=["pyramid", "rpn"],
        )

    whole = train(job(2), shards, str(tmp_path / "whole"), validate=make_validation())
    assert whole.early_stop is not None
    assert (whole.step, whole.early_stop.best_step, Path(whole.best).name) == (6, 2, "step-000002")

    first = train(job(1), shards, str(tmp_path / "cut"), validate=make_validation())
    assert first.step == 4
    record = RunFiles(tmp_path / "cut")
    num_events = len(record.events())
    assert train(job(1), shards, str(tmp_path / "cut"), validate=make_validation(), resume=True) == first
    assert len(record.events()) == num_events, "no worker is started for what is over"
    again = train(job(2), shards, str(tmp_path / "cut"), validate=make_validation(), resume=True)
    assert again.step == 6
    found, expected = (read_checkpoint(Path(result.last)) for result in (again, whole))
    assert all(torch.equal(tensor, expected.weights[name]) for name, tensor in found.weights.items())
    assert found.state["weights"].keys() == expected.state["weights"].keys()
    assert all(torch.equal(t, expected.state["weights"][name]) for name, t in found.state["weights"].items())
    assert not any(name.startswith(("rpn.", "backbone.output.")) for name in found.state["weights"])
    sizes = [
        {line["step"]: line["val/size"] for line in RunFiles(tmp_path / name).history() if "val/size" in line}
        for name in ("whole", "cut")
    ]
    assert sizes[0] == sizes[1]
