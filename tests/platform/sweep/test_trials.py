"""Which trials a sweep has, and what is refused before any of them starts."""

from __future__ import annotations

import pytest
import yaml

from maskray.platform.job.config import JobConfig
from maskray.platform.job.kinds import load_any
from maskray.platform.job.load import dump_job, load_job
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.sweep_plan import plan_sweep
from maskray.platform.sweep.trials import list_trials, slug


def test_every_variant_at_every_point_for_every_seed(make_sweep):
    trials = list_trials(make_sweep(grid={"train.base_lr": [0.1, 0.2]}))
    assert [trial.name for trial in trials[:4]] == [
        "RoIPool-max-base-lr-0.1-seed-1",
        "RoIPool-max-base-lr-0.2-seed-1",
        "RoIAlign-mean-base-lr-0.1-seed-1",
        "RoIAlign-mean-base-lr-0.2-seed-1",
    ]
    assert [trial.seed for trial in trials] == [1] * 4 + [2] * 4
    last = trials[-1]
    assert last.label == "RoIAlign mean, base_lr=0.2"
    assert (last.job.train.base_lr, last.job.seed, last.job.model.roi_op.name) == (0.2, 2, "roi_align")
    assert trials[0].job.model.roi_op.name == "roi_pool"
    assert last.job.output.endswith("/tiny/trials")


def test_one_trial_does_not_change_another(make_sweep):
    trials = list_trials(make_sweep(grid={"model.mask_head.channels": [8, 16]}))
    assert [trial.job.model.mask_head.channels for trial in trials] == [8, 16] * 4


def test_a_grid_alone_and_seeds_alone(make_sweep):
    assert [
        trial.label for trial in list_trials(make_sweep(variants={}, grid={"train.base_lr": [0.1]}, seeds=[0]))
    ] == ["base_lr=0.1"]
    assert [trial.label for trial in list_trials(make_sweep(variants={}))] == ["base", "base"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"a": {"model.roi_op.nam": "x"}}}, r"variants\.a: model\.roi_op\.nam: unknown key; did you"),
        ({"variants": {"a": {"train.steps.x": 3}}}, r"variants\.a: train\.steps is a value, not a group of keys"),
        ({"variants": {"a": {"seed": 3}}}, r"variants\.a: seed: a sweep gives it to its trials"),
        ({"variants": {"a b": {}, "a-b": {}}}, "'a-b' and 'a b' would share a folder"),
        ({"grid": {"model.roi_op.name": ["roi_align"]}}, "model.roi_op.name is in the grid too"),
    ],
)  # fmt: skip
def test_mistakes_in_variants_name_them(make_sweep, changes, message):
    with pytest.raises(ValueError, match=message):
        list_trials(make_sweep(**changes))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 3, "base.seed: a sweep gives it to its trials; set seeds"),
        ("name", "x", "base.name: a sweep gives it"),
        ("tracking", {"register_as": "x"}, "tracking.register_as: a sweep registers none of its trials"),
        ("serve", {"check_after_training": True}, "base.serve.check_after_training"),
        ("evaluation", {"expect": {"bbox/AP": 0.5}}, "base.evaluation.expect: a sweep keeps whatever"),
        ("kind", "sweep", "base.kind: a sweep varies a job of kind train, not of kind sweep"),
        ("trian", {}, "^base: trian: unknown key; did you mean train"),
    ],
)
def test_a_base_that_does_not_fit_a_sweep(make_sweep, tree, key, value, message):
    with pytest.raises(ValueError, match=message):
        list_trials(make_sweep(base=tree["base"] | {key: value}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds: one stands twice"),
        ({"seeds": [-1]}, r"seeds\.0: .* greater than or equal to 0"),
        ({"variants": {"a\nb": {}, "c": {}}}, "is no label: 1 to 100 characters of one line"),
        ({"variants": {"a" * 101: {}, "c": {}}}, "is no label"),
        ({"grid": {f"model.k{i}": list(range(10)) for i in range(9)}}, "make 4000000000 trials; at most 10000"),
        ({"grid": {"train.base_lr": []}}, "train.base_lr has no values"),
        ({"grid": {"train.base_lr": [1, 1]}}, "a value stands twice"),
        ({"variants": {}, "seeds": [1]}, "nothing is varied"),
        ({"name": "../x"}, "is not a plain name"),
        ({"schedule": "x"}, "schedule: unknown key; did you mean scheduler"),
        ({"table": {"findings": [{"text": "x", "terms": [{"variant": "a", "figure": "b"}]}]}}, "set at_least or"),
    ],
)  # fmt: skip
def test_mistakes_of_the_sweep_itself(make_sweep, changes, message):
    with pytest.raises(ValueError, match=message):
        make_sweep(**changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"max_concurrent": 2}, "local_cpus 4 is too few, trials would wait for ever: max_concurrent 2"),
        ({"table": {"baseline": "x"}}, "table.baseline: no variant 'x'; there are RoIPool max, RoIAlign mean"),
        ({"table": {"figures": ["keypoints/AP"]}}, "keypoints/AP is evaluated in no trial"),
        ({"table": {"figures": ["segm/AP51"]}}, "table.figures: no metric 'segm/AP51'"),
        ({"table": {"paper": "2z"}}, "table.paper: table '2z' is none of the paper's"),
        ({"table": {"paper": "2c", "paper_rows": {"RoIPool max": "x"}}}, "table.paper_rows: no row 'x' in table 2c"),
        ({"metric": "bbox/AQ"}, "metric: no metric 'bbox/AQ'"),
    ],
)
def test_problems_of_the_plan(make_sweep, changes, problem):
    assert any(problem in line for line in plan_sweep(make_sweep(**changes)).problems)


def test_a_scheduler_needs_evaluations(make_sweep, tree):
    base = tree["base"] | {"train": tree["base"]["train"] | {"evaluate_every": 0}}
    (problem,) = plan_sweep(make_sweep(base=base, scheduler={"name": "asha"})).problems
    assert "set base.train.evaluate_every" in problem


def test_tracking_of_the_sweep_is_that_of_its_trials(make_sweep):
    sweep = make_sweep(tracking={"experiment": "mine", "wait_seconds": 3})
    assert {trial.job.tracking for trial in list_trials(sweep)} == {sweep.tracking}


def test_long_labels_keep_apart(make_sweep):
    stem = "x" * 80
    names = [trial.name for trial in list_trials(make_sweep(variants={f"{stem}a": {}, f"{stem}b": {}}, seeds=[1]))]
    assert len(set(names)) == 2
    assert all(len(name) < 90 for name in names)


def test_base_may_be_a_job_file_beside(tmp_path, tree):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(tree["base"] | {"name": "x", "output": "y"}))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tree | {"base": "job.yaml"}))
    sweep = load_any(tmp_path / "sweep.yaml", ["base.train.steps=6", "seeds=[5]"])
    assert isinstance(sweep, SweepConfig)
    assert {trial.job.train.steps for trial in list_trials(sweep)} == {6}
    assert sweep.seeds == (5,)
    (tmp_path / "again.yaml").write_text(dump_job(sweep))
    assert load_any(tmp_path / "again.yaml") == sweep


def test_kinds_of_jobs_are_told_apart(tmp_path, tree):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match="kind is sweep; this takes a job of kind train"):
        load_job(path)
    with pytest.raises(ValueError, match="kind: 'swep' is none of train, sweep"):
        load_any(path, ["kind=swep"])
    for odd in ("[sweep]", "{a: 1}", "null"):  # what no table can be asked for
        with pytest.raises(ValueError, match=r"kind: .* is none of train, sweep"):
            load_any(path, [f"kind={odd}"])
    path.write_text(yaml.safe_dump(tree["base"] | {"name": "x"}))
    assert isinstance(load_any(path), JobConfig)


def test_slugs_are_file_names():
    assert slug("MLP 1024-1024, base_lr=0.1 /x") == "MLP-1024-1024-base-lr-0.1-x"
    assert slug("///").startswith("trial-")
    assert len({slug(label) for label in ("///", ".", "漢字", "文字")}) == 4
