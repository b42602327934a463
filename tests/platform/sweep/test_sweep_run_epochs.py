"""A sweep whose length is in epochs: each trial runs the steps that its own images and batch come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import write_manifest
from maskray.platform.data.shards import SCHEMA, _describe, _pack_records, _write_part
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.sweep_plan import plan_sweep
from maskray.platform.sweep.sweep_run import _share_data
from maskray.platform.sweep.trials import list_trials


def write_shards_alone(folder: Path, num_images: int) -> str:
    """Shards of drawn images, made in this process."""
    paths = synthesize(folder / "drawn", num_images, seed=1, height=64, width=64)
    dataset = read_dataset(paths.annotations, paths.images)
    item = {"index": 0, "total": 1, "records": _pack_records(dataset.images)}
    (folder / "shards").mkdir()
    part = _write_part(item, str(paths.images), str(folder / "shards"), SCHEMA)
    write_manifest(folder / "shards", _describe(dataset, [part], []))
    return str(folder / "shards")


def test_trials_get_their_steps_with_their_data(
    make_sweep: Callable[..., SweepConfig], tree: dict[str, Any], tmp_path: Path
) -> None:
    source = {"kind": "shards", "path": write_shards_alone(tmp_path, 6)}
    tree["base"]["data"] |= {"train": source, "val": source}
    del (
        tree["base"]["train"]["steps"],
        tree["base"]["train"]["checkpoint_every"],
        tree["base"]["train"]["evaluate_every"],
    )
    tree["base"]["train"] |= {"epochs": 2, "checkpoint_every_epochs": 1, "evaluate_every_epochs": 1}
    variants = {"two": {}, "three": {"train.images_per_batch": 3}, "longer": {"train.epochs": 4}}
    sweep = make_sweep(variants=variants, seeds=[0], scheduler={"name": "asha"})
    assert plan_sweep(sweep).problems == ()
    trials = _share_data(sweep, list_trials(sweep))
    assert {t.label: (t.job.train.steps, t.job.train.evaluate_every) for t in trials} == {
        "two": (6, 3), "three": (4, 2), "longer": (12, 3)
    }  # fmt: skip
    assert trials == _share_data(sweep, trials)
