"""The losses of a tiny seeded model stay what they were: tests/golden/tiny_*.txt.

A change that should not move numbers leaves them alone; one that should replaces the file and says by how much. To
write them anew: MASKRAY_WRITE_GOLDEN=1 python -m pytest tests/model/test_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOLERANCE = 1e-4  # of sums in another order on another processor


def every_box_counts(config: ModelConfig) -> ModelConfig:
    """The same model without any choice of boxes, in which one rounding would turn into another draw."""
    everything = {"samples_per_image": 10_000, "positive_fraction": 1.0}
    unlimited = {"pre_nms_top_n_train": 10_000, "post_nms_top_n_train": 10_000, "nms_iou": 1.0}
    rpn = config.rpn.model_copy(update={**everything, **unlimited})
    return config.model_copy(update={"rpn": rpn, "box_head": config.box_head.model_copy(update=everything)})


def train(model: MaskRCNN, batch: Batch, num_steps: int) -> list[dict[str, float]]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    records = []
    for _ in range(num_steps):
        losses = model(batch, generator=generator)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        records.append({name: loss.item() for name, loss in losses.items()})
    return records


@pytest.mark.parametrize(("name", "num_steps"), [("tiny_sampled", 1), ("tiny_all_boxes", 5)])
def test_losses_are_the_golden_ones(name: str, num_steps: int, tiny_config: ModelConfig, two_images: Batch) -> None:
    config = tiny_config if name == "tiny_sampled" else every_box_counts(tiny_config)
    torch.manual_seed(0)
    records = train(build_model(config, InputConfig(), num_classes=2), two_images, num_steps)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MASKRAY_WRITE_GOLDEN"):
        lines = [" ".join(["step", *records[0]])]
        lines += [" ".join([str(step), *(f"{value:.7f}" for value in r.values())]) for step, r in enumerate(records)]
        path.write_text("\n".join(lines) + "\n")
        pytest.skip(f"wrote {path.name}")
    header, *rows = (line.split() for line in path.read_text().splitlines())
    assert len(rows) == len(records)
    for row, record in zip(rows, records):
        golden = dict(zip(header[1:], map(float, row[1:])))
        assert record == pytest.approx(golden, abs=TOLERANCE), f"step {row[0]}"
