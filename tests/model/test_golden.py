"""The losses of a tiny seeded model stay what they were: tests/golden/tiny_*.txt, computed in float64.

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
STEPS = 6
# Of each column. What differs between processors is float32 alone: torch draws the first weights in it, by another
# formula for each instruction set. Measured with SSE4.1, AVX2 and AVX-512: 1.5e-6 at step 5,
# and 1.4e-6 with weights moved by a rounding at random.
TOLERANCE = 1e-5
# In float32 one step's rounding makes the next step's, tenfold in three steps, and turns into other samples at last.
# So many steps, with noise of a rounding on the output of every layer, stay within 1e-6 of float64.
FLOAT32_STEPS = {"tiny_sampled": 2, "tiny_all_boxes": 4}


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


def read_golden(name: str) -> list[dict[str, float]]:
    header, *rows = (line.split() for line in (GOLDEN / f"{name}.txt").read_text().splitlines())
    assert [int(row[0]) for row in rows] == list(range(STEPS))
    return [dict(zip(header[1:], map(float, row[1:]), strict=True)) for row in rows]


def write_golden(name: str, records: list[dict[str, float]]) -> None:
    lines = [" ".join(["step", *records[0]])]
    lines += [" ".join([str(step), *(f"{loss:.12g}" for loss in r.values())]) for step, r in enumerate(records)]
    (GOLDEN / f"{name}.txt").write_text("\n".join(lines) + "\n")


def tiny_model_of(name: str, config: ModelConfig) -> MaskRCNN:
    """The model of a golden file, in float32."""
    torch.manual_seed(0)
    config = config if name == "tiny_sampled" else every_box_counts(config)
    return build_model(config, InputConfig(), num_classes=2)


@pytest.mark.parametrize("name", FLOAT32_STEPS)
def test_losses_are_the_golden_ones(name: str, tiny_config: ModelConfig, two_images: Batch, float64: None) -> None:
    assert two_images.targets is not None
    two_images.targets.boxes = two_images.targets.boxes.double()
    records = train(tiny_model_of(name, tiny_config).double(), two_images, STEPS)
    if os.environ.get("MASKRAY_WRITE_GOLDEN"):
        write_golden(name, records)
        pytest.skip(f"wrote {name}.txt")
    for step, (record, golden) in enumerate(zip(records, read_golden(name), strict=True)):
        assert record == pytest.approx(golden, rel=TOLERANCE, abs=0), f"step {step}"


@pytest.mark.parametrize("name", FLOAT32_STEPS)
def test_losses_in_float32_are_those_of_float64(name: str, tiny_config: ModelConfig, two_images: Batch) -> None:
    steps = FLOAT32_STEPS[name]
    records = train(tiny_model_of(name, tiny_config), two_images, steps)
    for step, (record, golden) in enumerate(zip(records, read_golden(name)[:steps], strict=True)):
        assert record == pytest.approx(golden, rel=TOLERANCE, abs=0), f"step {step}"
