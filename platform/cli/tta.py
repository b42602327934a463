"""The option of test-time augmentation: the sizes in which images are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from maskray.platform.job.tta_config import TTAConfig, read_scales

MOST_SIZES = 100  # of FROM:STEP:TO, more than TTAConfig takes, which says how many it does
TTAOption = Annotated[
    str | None,
    typer.Option(
        "--tta",
        metavar="SIZES",
        help="Test-time augmentation: look at each image with these shorter edges and mirrored, such as 640,800,960 or "
        "400:100:1200 (from, step, to); the answer is of all views together.",
        show_default=False,
    ),
]


def read_tta(text: str | None) -> TTAConfig | None:
    """The views that --tta names: shorter edges with commas, or FROM:STEP:TO; ValueError naming what is wrong."""
    if text is None:
        return None
    try:
        sizes: Sequence[int] = [int(part) for part in text.split(":" if ":" in text else ",")]
        if ":" in text:
            first, step, last = sizes
            if step < 1 or last < first:
                raise ValueError("a range that leads nowhere")
            sizes = range(first, last + 1, step)[:MOST_SIZES]
    except ValueError:
        raise ValueError(f"--tta {text}: neither sizes as 640,800 nor from, step and to as 400:100:1200") from None
    return read_scales(sizes, f"--tta {text}")
