"""The losses of a tiny seeded model over five steps stay what they were: tests/golden/tiny_losses.txt.

A change that should not move numbers leaves them alone; one that should replaces the file and says by how much. To
write it anew: MASKRAY_WRITE_GOLDEN=1 python -m pytest tests/model/test_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tiny_losses.txt"
TOLERANCE = 1e-4  # of sums in another order on another processor, grown over five steps


def train_five_steps(model: MaskRCNN, batch: Batch) -> list[dict[str, float]]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    records = []
    for _ in range(5):
        losses = model(batch, generator=generator)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        records.append({name: loss.item() for name, loss in losses.items()})
    return records


def test_losses_are_the_golden_ones(tiny_model: MaskRCNN, two_images: Batch) -> None:
    records = train_five_steps(tiny_model, two_images)
    if os.environ.get("MASKRAY_WRITE_GOLDEN"):
        lines = [" ".join(["step", *records[0]])]
        lines += [" ".join([str(step), *(f"{value:.7f}" for value in r.values())]) for step, r in enumerate(records)]
        GOLDEN.write_text("\n".join(lines) + "\n")
        pytest.skip(f"wrote {GOLDEN.name}")
    header, *rows = (line.split() for line in GOLDEN.read_text().splitlines())
    assert len(rows) == len(records)
    for row, record in zip(rows, records):
        golden = dict(zip(header[1:], map(float, row[1:])))
        assert record == pytest.approx(golden, abs=TOLERANCE), f"step {row[0]}"
