"""The registry on sqlite and on a real server: register, promote, fetch, and every way in which that goes wrong."""

import json
import math
from pathlib import Path

import pytest

from maskray.platform.files.model_folder import read_model_spec, read_weights
from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.models import (
    check_names,
    list_models,
    resolve_model,
    version_of_alias,
)
from maskray.platform.registry.promotion import promote
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking

pytestmark = pytest.mark.slow  # MLflow opens a database in each

METRICS = {"bbox/AP": 0.31, "segm/AP50": 0.62, "segm/APl": float("nan")}


@pytest.fixture
def name(tmp_path):
    return f"model-{tmp_path.name}"  # the server of the session is shared


@pytest.fixture
def registered(tracking, job, model_folder, name):
    run_id = tracking.start_run(job, {})
    (model_folder / "trainer.pt").write_bytes(b"not for the registry")
    version = register_model(tracking, run_id, name, model_folder, METRICS)
    promote(tracking, name, version, "champion")
    return run_id, version


@pytest.mark.usefixtures("registered")
def test_fetched_files_are_those_registered(tracking, name, model_folder, tmp_path):
    for uri in (f"models:/{name}@champion", f"models:/{name}/1"):
        folder = Path(resolve_model(uri, tracking, tmp_path / "cache"))
        for file in ("model.safetensors", "model.json"):
            assert (folder / file).read_bytes() == (model_folder / file).read_bytes()
        assert not (folder / "trainer.pt").exists()
    assert len(list((tmp_path / "cache").iterdir())) == 1, "one download for both names, no temporary folder"
    assert read_model_spec(folder) == read_model_spec(model_folder)
    assert read_weights(folder).keys() == read_weights(model_folder).keys()


def test_version_carries_metrics_labels_checksums_and_run(tracking, name, registered):
    run_id, version = registered
    assert version == "1"
    listed = [found for found in list_models(tracking) if found["name"] == name]
    assert len(listed) == 1
    found = listed[0]
    assert found["aliases"] == ["champion"]
    assert found["run_id"] == run_id
    assert found["metrics"] == {"bbox/AP": 0.31, "segm/AP50": 0.62, "segm/APl": None}
    assert len(found["sha256"]) == 64
    assert json.loads(json.dumps(listed)) == listed
    stored = tracking.client.get_model_version(name, version)
    assert stored.tags["labels"] == "circle, square"
    assert tracking.client.get_run(run_id).data.metrics["registered/segm/AP50"] == 0.62


@pytest.mark.usefixtures("registered")
def test_signature_is_readable_by_mlflow(tracking, name, tmp_path):
    from mlflow.models import Model

    folder = resolve_model(f"models:/{name}@champion", tracking, tmp_path / "cache")
    signature = Model.load(folder).signature
    assert signature.inputs.inputs[0].shape == (-1, -1, 3)
    assert [column.name for column in signature.outputs] == ["category_id", "category", "bbox", "score", "segmentation"]


@pytest.mark.usefixtures("registered")
def test_alias_moves_between_versions(tracking, job, name, model_folder):
    for version in ("2", "3"):
        assert register_model(tracking, tracking.start_run(job, {}), name, model_folder, {}) == version
    promote(tracking, name, "2", "champion")
    assert version_of_alias(tracking, name, "champion") == "2"
    promote(tracking, name, "1", "champion")
    assert version_of_alias(tracking, name, "champion") == "1"
    listed = [(v["version"], v["aliases"]) for v in list_models(tracking) if v["name"] == name]
    assert listed == [("3", []), ("2", []), ("1", ["champion"])]


@pytest.mark.usefixtures("registered")
def test_what_is_not_there_is_an_error_of_one_line(tracking, name, tmp_path):
    cache = tmp_path / "cache"
    for uri, message in (
        (f"models:/{name}@nobody", "nobody not found"),
        (f"models:/{name}/9", "not found"),
        ("models:/absent@champion", "absent.* not found"),
        ("models:/absent/1", "absent.* not found"),
        (f"models:/{name}", "write a registered model as"),
        (f"models:/{name}/latest", "write a registered model as"),
        ("models:/../x/1", "write a registered model as"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            resolve_model(uri, tracking, cache)
        assert "\n" not in str(caught.value)
        assert "models:/" in str(caught.value)
    with pytest.raises(ValueError, match=r"version=9.* not found"):
        promote(tracking, name, "9", "champion")
    assert version_of_alias(tracking, name, "champion") == "1"


@pytest.mark.usefixtures("registered")
def test_damaged_cache_is_noticed_and_heals_when_removed(tracking, name, tmp_path):
    folder = Path(resolve_model(f"models:/{name}/1", tracking, tmp_path / "cache"))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"SHA-256.*remove the folder"):
        resolve_model(f"models:/{name}/1", tracking, tmp_path / "cache")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert Path(resolve_model(f"models:/{name}/1", tracking, tmp_path / "cache"), weights.name).read_bytes() == whole


def test_file_that_changed_on_the_server_is_refused(job, model_folder, tmp_path):
    tracking = Tracking(TrackingConfig(), tmp_path / "outputs")
    register_model(tracking, tracking.start_run(job, {}), "m", model_folder, {})
    stored = next((tmp_path / "outputs/mlartifacts").rglob("model.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ValueError, match="on the server is not what was registered"):
        resolve_model("models:/m/1", tracking, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_failed_upload_leaves_no_version(job, model_folder, tmp_path):
    """The store of artifacts is a file, so that the upload itself fails, after the run was found."""
    tracking = Tracking(TrackingConfig(), tmp_path / "outputs")
    register_model(tracking, tracking.start_run(job, {}), "m", model_folder, {})
    run_id = tracking.start_run(job, {})
    models = tmp_path / "outputs/mlartifacts/models"
    models.rename(models.with_name("moved"))
    models.write_text("in the way")
    with pytest.raises((ValueError, OSError)):
        register_model(tracking, run_id, "m", model_folder, {})
    assert [v["version"] for v in list_models(tracking)] == ["1"]


@pytest.mark.usefixtures("registered")
def test_version_registered_by_others_is_refused(tracking, name, tmp_path):
    client = tracking.client
    first = client.get_model_version(name, "1")
    logged = first.source.rpartition("/")[2] if tracking.is_server else None
    client.create_model_version(name, first.source, run_id=first.run_id, model_id=logged)
    with pytest.raises(ValueError, match=r"version 2 was not registered by maskray"):
        resolve_model(f"models:/{name}/2", tracking, tmp_path / "cache")


def test_bad_folder_is_refused_before_the_registry_knows(job, model_folder, tmp_path):
    tracking = Tracking(TrackingConfig(), tmp_path / "outputs")
    run_id = tracking.start_run(job, {})
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="damaged or cut short"):
        register_model(tracking, run_id, "m", model_folder, {})
    assert list_models(tracking) == []


@pytest.mark.parametrize(
    ("name", "alias"), [("a/b", None), ("", None), ("m", "latest"), ("m", "v3"), ("m", "a b"), ("m", "a.b")]
)
def test_names_that_mlflow_reads_otherwise_are_refused(name, alias):
    with pytest.raises(ValueError, match=r"is not a plain model name|cannot be an alias"):
        check_names(name, alias)
    check_names("mask-rcnn.r50", "champion")


def test_folder_resolves_to_itself(model_folder, monkeypatch):
    monkeypatch.chdir(model_folder.parent)
    assert resolve_model("model") == str(model_folder)
    with pytest.raises(ValueError, match="no such model folder"):
        resolve_model("absent")
    with pytest.raises(ValueError, match="needs a tracking server"):
        resolve_model("models:/m/1")


def test_metrics_that_fill_more_than_a_tag_are_refused(job, model_folder, tmp_path):
    tracking = Tracking(TrackingConfig(), tmp_path / "outputs")
    with pytest.raises(ValueError, match="900 metrics are too many"):
        register_model(tracking, "f" * 32, "m", model_folder, {f"per_class/{k:04d}": math.pi for k in range(900)})
