"""Aliases on real servers with passwords, on sqlite and PostgreSQL: gate, guard, rollback, promotions at once."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from maskray.platform.cli.main import main
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import GateConfig
from maskray.platform.job.load import public_job
from maskray.platform.registry.description import compare_versions, describe_version
from maskray.platform.registry.gate import GateRefusedError
from maskray.platform.registry.models import list_models, resolve_model, version_of_alias
from maskray.platform.registry.promotion import CLAIM, alias_moves, check_guard, promote, rollback
from maskray.platform.registry.registration import Evidence, register_model

GATE = GateConfig(evaluation_set="val2017", metrics={"segm/AP": 0.01, "bbox/AP": 0.0}, max_bytes=10_000)


@pytest.fixture
def make_version(spec, job, tmp_path):
    """A function that registers a version of the model `m-...` with these metrics and says which it is."""
    name, run_ids = f"m-{tmp_path.name}", []

    def make(tracking, segm, bbox=0.5, digest="d" * 64, **job_changes):
        folder = write_model_folder(tmp_path / f"folder-{time.time_ns()}", nn.Conv2d(3, 2, 3), spec)
        (tmp_path / "report.html").write_text("<p>report</p>")
        evidence = Evidence(
            public_job(job.model_copy(update=job_changes)),
            tmp_path / "report.html",
            {"train": "a" * 64, "val": digest},
            evaluation_set="val2017",
            evaluation_digest=digest,
            evaluated_images=5,
        )
        if not run_ids:
            run_ids.append(tracking.start_run(job, {}))
        return name, register_model(tracking, run_ids[0], name, folder, {"segm/AP": segm, "bbox/AP": bbox}, evidence)

    return make


def test_register_gate_promote_resolve_list_roll_back(on_server, make_version, tmp_path, as_reader):
    """The way of three versions, on each server."""
    name, first = make_version(on_server, segm=0.30)
    check_guard(on_server, f"{name}-of-the-future", "champion")
    assert promote(on_server, name, first, "champion", GATE)["holder"] is None
    _, second = make_version(on_server, segm=0.295)
    comparison = promote(on_server, name, second, "champion", GATE)
    assert comparison["passed"]
    assert (comparison["holder"], comparison["evaluation_digest"]) == (first, "d" * 64)
    metrics = {"candidate": 0.295, "holder": 0.30, "least": pytest.approx(0.29), "most": None}
    assert comparison["checks"][0] == {"name": "segm/AP", **metrics, "passed": True}
    _, third = make_version(on_server, segm=0.28, bbox=0.49, seed=7)
    with pytest.raises(GateRefusedError, match=r"version 3 does not get alias champion.*segm/AP is 0.28, below 0.285"):
        promote(on_server, name, third, "champion", GATE)
    assert version_of_alias(on_server, name, "champion") == second

    details = describe_version(on_server, f"models:/{name}/{third}")
    assert [kept["passed"] for kept in details["comparisons"]] == [False]
    assert len(details["comparisons"][0]["refusals"]) == 2
    assert details["comparisons"][0]["gate"] == GATE.model_dump(mode="json")
    assert json.loads(json.dumps(details)) == details
    with pytest.raises(ValueError, match=r"is guarded by a gate.*--without-gate REASON"):
        promote(on_server, name, third, "champion")
    with pytest.raises(ValueError, match="is guarded by a gate"):
        check_guard(on_server, name, "champion")
    promote(on_server, name, third, "champion", without_gate="the old data set was wrong: größer")
    promote(on_server, name, third, "next")
    folder = resolve_model(f"models:/{name}@champion", on_server, tmp_path / "cache")
    assert folder.startswith(str(tmp_path / "cache" / f"{name}-3-"))

    assert rollback(on_server, name, "champion")["version"] == second
    assert rollback(on_server, name, "champion", "again")["version"] == first
    with pytest.raises(ValueError, match="no version is known that had the alias before 1"):
        rollback(on_server, name, "champion")
    moves = alias_moves(on_server, name, "champion")
    assert [(move["before"], move["version"]) for move in moves] == [
        (None, "1"), ("1", "2"), ("2", "3"), ("3", "2"), ("2", "1")
    ]  # fmt: skip
    assert [move["way"] for move in moves] == ["gate", "gate", "without gate", "rollback", "rollback"]
    assert {move["by"] for move in moves} == {"trainer"}
    assert moves[2]["reason"] == "the old data set was wrong: größer"
    listed = [(v["version"], v["aliases"]) for v in list_models(on_server) if v["name"] == name]
    assert listed == [("3", ["next"]), ("2", []), ("1", ["champion"])]

    as_reader()
    assert resolve_model(f"models:/{name}/2", on_server, tmp_path / "cache")
    for forbidden in (lambda: promote(on_server, name, second, "champion"), lambda: rollback(on_server, name, "next")):
        with pytest.raises(ValueError, match="permission denied"):
            forbidden()
    assert version_of_alias(on_server, name, "champion") == first


def test_version_carries_everything_and_is_compared(on_sqlite, make_version):
    name, first = make_version(on_sqlite, segm=0.30)
    _, second = make_version(on_sqlite, segm=0.35, digest="e" * 64, seed=7)
    details = describe_version(on_sqlite, f"models:/{name}/{first}")
    files = {"MLmodel", "job.yaml", "labels.json", "metrics.json", "model.json", "model.safetensors", "report.html"}
    assert set(details["files"]) == files
    assert details["size_bytes"] == details["files"]["model.safetensors"] > 0
    assert details["data"] == {
        "data_train_sha256": "a" * 64,
        "data_val_sha256": "d" * 64,
        "evaluated_images": "5",
        "evaluation_digest": "d" * 64,
        "evaluation_set": "val2017",
    }
    assert details["code"]["maskray_version"]
    assert details["labels"] == "circle, square"
    differences = compare_versions(on_sqlite, f"models:/{name}/{first}", f"models:/{name}/{second}")
    assert differences["metrics"] == {"segm/AP": (0.30, 0.35), "bbox/AP": (0.5, 0.5)}
    assert differences["config"] == {"seed": ("0", "7")}
    assert differences["data"].keys() == {"data_val_sha256", "evaluation_digest"}
    assert differences["code"] == {}
    with pytest.raises(ValueError, match=r"models:/.*/9: .*not found"):
        compare_versions(on_sqlite, f"models:/{name}/{first}", f"models:/{name}/9")


def test_metrics_of_other_data_are_not_compared(on_sqlite, make_version):
    name, first = make_version(on_sqlite, segm=0.30)
    promote(on_sqlite, name, first, "champion", GATE)
    _, better = make_version(on_sqlite, segm=0.90, digest="e" * 64)
    with pytest.raises(GateRefusedError, match=r"other data than those of version 1.*dddddddddddd") as caught:
        promote(on_sqlite, name, better, "champion", GATE)
    assert "\n" not in str(caught.value)
    other = GATE.model_copy(update={"evaluation_set": "test-dev"})
    with pytest.raises(GateRefusedError, match="was evaluated on val2017, the gate asks for test-dev"):
        promote(on_sqlite, name, better, "champion", other)


def test_limits_hold_for_the_first_version_too(on_sqlite, make_version):
    name, first = make_version(on_sqlite, segm=-1.0)
    gate = GateConfig.model_validate(
        {
            "evaluation_set": "val2017",
            "metrics": {"segm/AP": 0.0, "bbox/AP75": 0.0},
            "latency": {"seconds": 0.2},
            "max_bytes": 10,
        }
    )
    slow = lambda uri, limit: {"seconds": 0.25, "measured": f"{uri} {limit.height}"}  # noqa: E731
    with pytest.raises(GateRefusedError) as caught:
        promote(on_sqlite, name, first, "champion", gate, measure=slow)
    comparison = caught.value.comparison
    assert [check["passed"] for check in comparison["checks"]] == [False] * 4
    assert comparison["refusals"][:3] == [
        "segm/AP of the version is not known",
        "bbox/AP75 of the version is not known",
        "latency, seconds is 0.25, more than 0.2",
    ]
    assert describe_version(on_sqlite, f"models:/{name}/1")["latency"] == {
        "seconds": 0.25, "measured": f"models:/{name}/1 480"
    }  # fmt: skip


def test_rollback_sees_through_a_move_that_was_never_made_and_one_made_by_others(on_sqlite, make_version):
    for segm in (0.1, 0.2, 0.3, 0.4):
        name, _ = make_version(on_sqlite, segm)
    for version in ("1", "2", "3"):
        promote(on_sqlite, name, version, "champion")
    client = on_sqlite.client
    client.set_registered_model_alias(name, "champion", "2")  # as the process that promoted 3 had died before
    promote(on_sqlite, name, "4", "champion")
    assert rollback(on_sqlite, name, "champion")["version"] == "2"
    client.set_registered_model_alias(name, "champion", "3")  # in MLflow's pages
    assert rollback(on_sqlite, name, "champion")["version"] == "2"
    assert rollback(on_sqlite, name, "champion")["version"] == "1"
    client.delete_model_version(name, "1")
    promote(on_sqlite, name, "03", "champion")
    promote(on_sqlite, name, "3", "champion")  # has it already: no move
    with pytest.raises(ValueError, match=r"models:/.*/1: .*not found"):
        rollback(on_sqlite, name, "champion")
    assert version_of_alias(on_sqlite, name, "champion") == "3"


def test_of_two_promotions_at_once_the_worse_never_wins(on_server, make_version):
    """Both pass beside the first version; whichever comes second must be held against the other."""
    name, first = make_version(on_server, segm=0.30)
    promote(on_server, name, first, "champion", GATE)
    versions = [make_version(on_server, segm)[1] for segm in (0.40, 0.60, 0.50)]

    def attempt(version):
        try:
            return promote(on_server, name, version, "champion", GATE)["passed"]
        except GateRefusedError:
            return False

    with ThreadPoolExecutor(3) as pool:
        passed = list(pool.map(attempt, versions))
    assert version_of_alias(on_server, name, "champion") == versions[1]
    assert passed[1]
    moves = alias_moves(on_server, name, "champion")
    assert [move["before"] for move in moves[1:]] == [move["version"] for move in moves[:-1]]


def test_claim_of_a_killed_promotion_expires(on_sqlite, make_version):
    name, first = make_version(on_sqlite, segm=0.30)
    dead = f"{CLAIM}.champion.0123"
    on_sqlite.client.set_registered_model_tag(name, dead, str(time.time() - 3600))
    promote(on_sqlite, name, first, "champion")
    assert not [key for key in on_sqlite.client.get_registered_model(name).tags if key.startswith(CLAIM)]


def test_command_line_refuses_and_shows(tmp_path, on_sqlite, make_version, monkeypatch, capsys):
    """As users see it: exit codes, JSON, and one line for an error."""
    name, first = make_version(on_sqlite, segm=0.30)
    _, second = make_version(on_sqlite, segm=0.20)
    gate = tmp_path / "gate.yaml"
    gate.write_text("evaluation_set: val2017\nmetrics: {segm/AP: 0.01}\n")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", on_sqlite.uri)

    def maskray(*arguments):
        """Exit code, output and the last line of errors."""
        code = 0
        try:
            main(["models", *arguments])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code or 0, captured.out, captured.err.strip().rpartition("\n")[2]

    code, out, _ = maskray("promote", name, first, "champion", "--gate", str(gate))
    assert (code, out.splitlines()[-1]) == (0, f"models:/{name}@champion is version 1 now")
    code, out, error = maskray("promote", name, second, "champion", "--gate", str(gate), "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)
    assert error.startswith(f"error: {name} version 2 does not get alias champion")
    code, out, _ = maskray("show", f"{name}/2")
    assert "segm/AP is 0.2, below 0.29" in " ".join(out.split())
    code, out, _ = maskray("compare", f"{name}@champion", f"{name}/2", "--json")
    assert json.loads(out)["metrics"]["segm/AP"] == [0.3, 0.2]
    assert "-0.1000" in maskray("compare", f"models:/{name}/1", f"{name}/2")[1]
    code, out, error = maskray("rollback", name, "champion")
    assert (code, error) == (1, f"error: models:/{name}@champion: no version is known that had the alias before 1")
    gate.write_text("evaluation_set: val2017\nmetrics: {segm/AP: -1}\n")
    code, _, error = maskray("promote", name, second, "champion", "--gate", str(gate))
    assert code == 1
    assert error.startswith(f"error: {gate}: metrics.segm/AP: ")
