"""A new version of a registered model: uploaded whole with all that is known about it, before it can be seen."""

from __future__ import annotations

import importlib.metadata
import json
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskray.model.config import ModelSpec
from maskray.platform.files.model_files import SPEC_FILE, WEIGHTS_FILE
from maskray.platform.files.model_folder import read_model_spec, read_weights
from maskray.platform.job.data_config import CocoSource, FilesSource, Source, SyntheticSource
from maskray.platform.job.plain_text import shown_name
from maskray.platform.machine.environment import describe_commit
from maskray.platform.registry.models import FILES, all_pages, check_names, sha256_of
from maskray.platform.registry.server_errors import readable_errors
from maskray.platform.registry.signature import write_mlmodel
from maskray.platform.registry.tracking import LONGEST_DIGEST, MOST_METRICS, Tracking

JOB_FILE = "job.yaml"
LABELS_FILE = "labels.json"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
LONGEST_TAG = 8000
LOGGED_MODEL = "logged_model"  # tag of a version, as its record in a database forgets which model it is


@dataclass(frozen=True)
class Evidence:
    """What a version carries besides its model and metrics, as far as it is known.

    `job` is its YAML; `digests` are those of the data by split; the evaluation set is where the metrics come from: its
    name, the digest of its source and the number of images that were evaluated.
    """

    job: str | None = None
    report: Path | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    evaluation_set: str | None = None
    evaluation_digest: str | None = None
    evaluated_images: int | None = None

    def tags(self) -> dict[str, str]:
        """What of it is known in a few words."""
        known = {f"data_{split}_sha256": digest for split, digest in self.digests.items()}
        evaluation = {
            "evaluation_set": self.evaluation_set,
            "evaluation_digest": self.evaluation_digest,
            "evaluated_images": self.evaluated_images,
        }
        return known | {key: str(value) for key, value in evaluation.items() if value is not None}


def evaluation_set_name(source: Source) -> str:
    """The name of a source: that of its annotation file or folder, with its split, or what was drawn."""
    if isinstance(source, SyntheticSource):
        drawn = "synthetic" if source.scene == "shapes" else f"synthetic-{source.scene}"
        return f"{drawn}-{source.num_images}-seed{source.seed}"
    if isinstance(source, FilesSource):
        return f"{Path(source.path).name}-{source.split}" if source.split else Path(source.path).name
    return Path(source.annotations).stem if isinstance(source, CocoSource) else Path(source.path).name


def register_model(
    tracking: Tracking,
    run_id: str,
    name: str,
    folder: str | Path,
    metrics: Mapping[str, float],
    evidence: Evidence | None = None,
) -> str:
    """Upload a model folder as a new version of a registered model and return the version.

    The version appears only after its files are complete, with all its tags. A model that this run has registered
    before under this name is not registered again: its version is returned. Uploaded are the two files of the folder,
    checked before, an MLmodel with the signature, metrics, label map, job and report; tags hold the digest of each,
    the evidence, size and code. Raises ValueError for a bad folder or name, or where the server refuses.
    """
    evidence = evidence or Evidence()
    check_names(name)
    if Path(folder).is_file():
        raise ValueError(f"{folder}: a model folder is registered, not a file")
    if evidence.report is not None and not evidence.report.is_file():
        raise ValueError(f"{evidence.report}: no report to register")
    spec = read_model_spec(folder)
    read_weights(folder)
    with tempfile.TemporaryDirectory() as scratch, readable_errors(f"registering {name}"):
        files = _write_files(Path(scratch), Path(folder), spec, metrics, evidence)
        tags = _tags(files, spec, metrics) | evidence.tags()
        tracking.check_server()
        client = tracking.client
        _create_name(client, name)
        version = _registered_before(client, name, run_id, tags)
        if version is None:
            logged = _upload(client, run_id, name, [*files, Path(scratch) / "MLmodel"], spec)
            # Without a server MLflow would look the URI up in the process-wide tracking URI, not the client's.
            source = logged.model_uri if tracking.is_server else logged.artifact_location
            known = tags | {LOGGED_MODEL: logged.model_id}
            client.create_model_version(
                name, source, run_id=run_id, tags=known, model_id=logged.model_id, await_creation_for=0
            )
            # Not what was answered: MLflow's client repeats a request whose answer was lost, and makes a second one.
            version = _registered_before(client, name, run_id, tags)
            assert version is not None
        _link(client, run_id, client.get_model_version(name, version).tags.get(LOGGED_MODEL), metrics, evidence)
        finite = {f"registered/{key}": value for key, value in metrics.items() if math.isfinite(value)}
        tracking.log_changed_metrics(run_id, finite, step=0)
    return version


def _write_files(
    scratch: Path, folder: Path, spec: ModelSpec, metrics: Mapping[str, float], evidence: Evidence
) -> list[Path]:
    """All files of the version but MLmodel; those that tell of the model are written to a scratch folder."""
    texts = {LABELS_FILE: spec.labels.model_dump_json(indent=1), METRICS_FILE: json.dumps(_finite(metrics), indent=1)}
    if evidence.job is not None:
        texts[JOB_FILE] = evidence.job
    if evidence.report is not None:
        texts[REPORT_FILE] = evidence.report.read_text(encoding="utf-8")
    for file, text in texts.items():
        (scratch / file).write_text(text, encoding="utf-8")
    return [*(folder / file for file in FILES), *(scratch / file for file in texts)]


def _registered_before(client: Any, name: str, run_id: str, tags: Mapping[str, str]) -> str | None:
    """The version that holds the same model of the same run: left by a process that died before it could tell."""
    same = [f"sha256_{file}" for file in (WEIGHTS_FILE, SPEC_FILE)]
    found = all_pages(client.search_model_versions, filter_string=f"name='{name}' and run_id='{run_id}'")
    versions = [int(v.version) for v in found if all(v.tags.get(key) == tags[key] for key in same)]
    return str(min(versions)) if versions else None


def _upload(client: Any, run_id: str, name: str, files: list[Path], spec: ModelSpec) -> Any:
    """Store the files as a logged model of the run and return its record; a failed upload is marked as such."""
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, model_type="mask_rcnn")
    try:
        write_mlmodel(files[-1].parent, spec, run_id, logged.model_id)
        for path in files:
            client.log_model_artifact(logged.model_id, str(path))
    except BaseException:
        # What went wrong before is what has to be told.
        with suppress(ValueError), readable_errors(f"end the upload {logged.model_id}"):
            client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    return client.finalize_logged_model(logged.model_id, "READY")


def _link(client: Any, run_id: str, model_id: str | None, metrics: Mapping[str, float], evidence: Evidence) -> None:
    """Say of a logged model that the run made it, and which metrics it has on which data: MLflow's pages show both."""
    from mlflow.entities import LoggedModelOutput, Metric

    if model_id is None:
        return
    outputs = client.get_run(run_id).outputs
    said = [] if outputs is None else [output.model_id for output in outputs.model_outputs]
    if model_id not in said:  # by a process that came that far; twice is an error
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    if client.get_logged_model(model_id).metrics:
        return
    digest = evidence.digests.get("val")
    data = {} if digest is None else {"dataset_name": "val", "dataset_digest": digest[:LONGEST_DIGEST]}
    now = int(time.time() * 1000)
    defined = [(name, float(value)) for name, value in metrics.items() if math.isfinite(value) and value > -1]
    entities = [Metric(name, value, now, 0, model_id=model_id, run_id=run_id, **data) for name, value in defined]
    for start in range(0, len(entities), MOST_METRICS):
        client.log_batch(run_id, metrics=entities[start : start + MOST_METRICS])


def _create_name(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(files: list[Path], spec: ModelSpec, metrics: Mapping[str, float]) -> dict[str, str]:
    sizes = {path.name: path.stat().st_size for path in files}
    tags = {f"sha256_{path.name}": sha256_of(path) for path in files}
    tags |= {
        "metrics": json.dumps(_finite(metrics)),
        "labels": ", ".join(map(shown_name, spec.labels.names))[:LONGEST_TAG],
    }
    tags |= {"size_bytes": str(sizes[WEIGHTS_FILE]), "maskray_version": importlib.metadata.version("maskray")}
    if len(tags["metrics"]) > LONGEST_TAG:
        raise ValueError(f"{len(metrics)} metrics are too many to register with a model; give those that sum it up")
    return tags | describe_commit()


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in metrics.items()}
