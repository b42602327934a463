"""Tests of platform/job/load.py: job text to configuration and back, overrides, and an error line for every mistake."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import CocoSource, SyntheticSource
from maskray.platform.job.load import dump_job, load_gate, load_job, parse_job

MINIMAL = """
name: a
data:
  train: {kind: synthetic, num_images: 8}
  val: {kind: coco, annotations: a.json, images: images}
train: {steps: 10, images_per_batch: 4}
"""


def mistakes(text: str = MINIMAL, *overrides: str) -> list[str]:
    with pytest.raises(ValueError) as caught:
        parse_job(text, overrides)
    return str(caught.value).splitlines()


def test_minimal_job():
    job = parse_job(MINIMAL)
    assert isinstance(job.data.train, SyntheticSource)
    assert isinstance(job.data.val, CocoSource)
    assert job.train.lr == 0.02 * 4 / 16
    assert job.input.shorter_edge == 800


def test_file_is_named_in_errors(tmp_path):
    path = tmp_path / "job.yaml"
    with pytest.raises(ValueError, match=r"job\.yaml: no such job file"):
        load_job(path)
    path.write_text("name: a")
    with pytest.raises(ValueError, match=r"job\.yaml: data: missing\ntrain: missing"):
        load_job(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"job\.yaml: not readable as text"):
        load_job(path)
    with pytest.raises(ValueError, match="not readable as text"):
        load_job(tmp_path)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.stepz=3", "train.stepz: unknown key; did you mean steps? valid here: accumulate_steps, "),
        ("modell.masks=true", "modell: unknown key; did you mean model? valid here: data, evaluation, input, "),
        ("data.train.num_image=3", "data.train.num_image: unknown key; did you mean num_images? valid here: classes, "),
        ("data.val.num_images=3", "data.val.num_images: unknown key; did you mean images? valid here: annotations, "),
        ("model.rpn.nms_iou=1.5", "model.rpn.nms_iou: Input should be less than or equal to 1 (got 1.5)"),
        ("model.backbone.name=vgg", "model.backbone.name: Input should be 'resnet18', "),
        ("model.inference.nms={name: soft, sigm: 1}", "model.inference.nms.sigm: unknown key; did you mean sigma?"),
        ("model.inference.nms={name: soft, sigma: 0}", "model.inference.nms.sigma: Input should be greater than 0"),
        ("model.inference.nms={sigma: 1}", "model.inference.nms.sigma: unknown key; valid here: name"),
        ("model.backbone={name: timm:convnext_tiny, stem_channels: 8}", "model: backbone.stem_channels 8 has no"),
        ("train.steps=0", "train.steps: Input should be greater than or equal to 1 (got 0)"),
        ("train.steps=many", "train.steps: Input should be a valid integer"),
        ("data.train.kind=voc", "data.train: Input tag 'voc' found using 'kind' does not match any of the"),
        ("name=.hidden", "name: '.hidden' is not a plain name"),
        ("train.decay_at=[5, 3]", "train: decay_at must increase, not [5, 3]"),
        ("train.decay_at=[10]", "train: decay_at 10 is not before the last step 10"),
        ("train.evaluate_every=500", "train: evaluate_every must be a multiple of checkpoint_every"),
        ("model.roi_op.name=roi_pool", "model.roi_op: roi_pool takes the maximum: set reduction to max"),
        ("input.longer_edge_max=100", "input: longer_edge_max 100 is below shorter_edge 800"),
    ],
)  # fmt: skip
def test_mistake_names_key_and_reason(override, line):
    (found,) = mistakes(MINIMAL, override)
    assert found.startswith(line)


def test_batch_must_divide():
    (line,) = mistakes(MINIMAL, "resources.num_workers=3")
    assert "train.images_per_batch 4 does not divide into resources.num_workers 3 x train.accumulate_steps 1" in line


def test_every_mistake_has_a_line():
    lines = mistakes(MINIMAL, "train.steps=0", "seed=-1", "tracking.url=x", f"data.train.seed={2**63}")
    assert sorted(line.split(":")[0] for line in lines) == ["data.train.seed", "seed", "tracking.url", "train.steps"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a job file holds keys and values"),
        ("- a", "a job file holds keys and values"),
        ("a: [", "not valid YAML"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("name: a\nname: b", "line 2: key 'name' stands twice"),
        ("train: {steps: 1, steps: 2}", "line 1: key 'steps' stands twice"),
        ("1: a", "line 1: key 1 is not text"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_text_that_is_no_job(text, reason):
    (line,) = mistakes(text)
    assert reason in line


@pytest.mark.parametrize("override", ["train.steps", "=3", "name.first=a", "train.steps=[", "seed={a: 1, a: 2}"])
def test_override_that_is_none(override):
    (line,) = mistakes(MINIMAL, override)
    assert line.startswith(f"--set {override!r}: ")


def test_overrides_are_yaml_and_the_last_wins():
    overrides = ["train.steps=5", "train.decay_at=[2, 3]", "tracking.uri=null", "model.masks=no", "train.steps=6"]
    job = parse_job(MINIMAL, overrides)
    assert (job.train.steps, job.train.decay_at, job.tracking.uri, job.model.masks) == (6, (2, 3), None, False)
    whole = parse_job(MINIMAL, ["data.val={kind: shards, path: s3://bucket/val}"])
    assert whole.data.val.model_dump() == {"kind": "shards", "path": "s3://bucket/val"}


def test_configuration_is_frozen():
    job = parse_job(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        job.seed = 3


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**40),
    lr=st.floats(1e-8, 10, allow_nan=False),
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    sizes=st.lists(st.floats(1, 1e4), min_size=5, max_size=5),
)
def test_dumped_job_reads_back_the_same(seed, lr, text, sizes):
    tree = yaml.safe_load(MINIMAL) | {"seed": seed, "tracking": {"experiment": text}}
    tree["train"]["base_lr"] = lr
    tree["model"] = {"anchors": {"sizes": sizes}}
    job = JobConfig.model_validate(tree)
    assert parse_job(dump_job(job)) == job
    assert json.loads(job.model_dump_json()) == yaml.safe_load(dump_job(job))


def test_gate_file_is_read_or_refused_by_name(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("evaluation_set: val\nmetrics: {segm/AP: 0.01}\nlatency: {seconds: 0.5, height: 320}\n")
    gate = load_gate(path)
    assert (gate.metrics, gate.latency.height, gate.latency.width) == ({"segm/AP": 0.01}, 320, 640)
    for text, message in (
        ("evaluation_set: val\nmetrics: {}\n", "metrics: "),
        ("evaluation_set: val\nmetrics: {segm/AP: 0}\nmetric: 3\n", "metric: unknown key; did you mean metrics"),
        ("evaluation_set: val\nevaluation_set: val\n", "key 'evaluation_set' stands twice"),
        ("evaluation_set: [", "not valid YAML"),
        ("3", "a gate file holds keys and values"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            load_gate(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"absent\.yaml: no such gate file"):
        load_gate(tmp_path / "absent.yaml")


def test_what_yaml_takes_for_a_comment_is_not_lost_in_silence():
    """`--set "output=/data/my runs #1"` wrote to `/data/my runs`."""
    lost = {"output=/data/my runs #1": "#1", "name=#a": "#a", "train.decay_at=[2] # two": "# two"}
    for override, comment in lost.items():
        with pytest.raises(ValueError, match=re.escape(f"--set {override!r}: {comment!r} is a comment in YAML")):
            parse_job(MINIMAL, [override])
    for quoted in ("'/data/my runs #1'", '"/data/my runs #1"'):
        assert parse_job(MINIMAL, [f"output={quoted}"]).output == "/data/my runs #1"
    assert parse_job(MINIMAL, ["output=/data/a#1"]).output == "/data/a#1"


@pytest.mark.parametrize("output", ["s3://bucket/runs", "gs://b", "file:///tmp/runs", "s3:/bucket"])
def test_an_output_that_is_a_uri_is_refused(output):
    """It was made a local folder named `s3:`, with exit code 0."""
    told = re.escape(f"output: {output!r} is a URI: runs are written to a path")
    with pytest.raises(ValueError, match=told) as caught:
        parse_job(MINIMAL, [f"output={output}"])
    assert "\n" not in str(caught.value)
