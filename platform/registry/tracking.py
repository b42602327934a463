"""Runs on an MLflow tracking server, always by explicit run id; without a server a sqlite file in the output folder."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml

from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.job.data_config import DataConfig
from maskray.platform.job.load import public_job
from maskray.platform.machine.environment import describe_commit, describe_environment
from maskray.platform.registry.server_errors import ServerAwayError, readable_errors

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
MetricRow = tuple[int, int, Mapping[str, float]]  # step, milliseconds since 1970, metrics

MOST_METRICS = 1000  # of one request, a limit of the server
MOST_PARAMS = 100
LONGEST_PARAM = 6000  # characters
LONGEST_DIGEST = 36
SQLITE = "sqlite:///"
# So that MLflow opens an experiment with its runs, and not with the traces of a language model; and who made a run.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
PARENT = "mlflow.parentRunId"
TRAINING_VIEW = "workflowType=machine_learning"  # of an address in MLflow's pages, which begin with the other one
SOURCE = {"mlflow.source.name": "maskray run", "mlflow.source.type": "LOCAL"}


def status_after(error: BaseException) -> RunStatus:
    """How a run ends by this error: the interrupt, and SIGTERM, of which Ray makes an exit, kill it."""
    return "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"


class Tracking:
    """An MLflow tracking server and the experiment of a job.

    Holds no connection and no active run: it can be made again in any process from a URI alone,
    `Tracking(TrackingConfig(uri=uri))`, and every method names the run it means.
    """

    def __init__(self, config: TrackingConfig, output_folder: str | Path | None = None) -> None:
        """Where `config.uri` is none, mlflow.db lies in `output_folder`, which must then be given.

        Artifacts of any sqlite file lie in mlartifacts/ beside it.
        """
        if config.uri is None and output_folder is None:
            raise ValueError("tracking.uri: give a tracking server, or an output folder for the sqlite file")
        self.config = config
        # A database URI ends its path at ? and #, and reads % as the beginning of a quoted letter.
        folder = re.sub("[%?#]", lambda sign: urllib.parse.quote(sign[0]), str(Path(output_folder or ".").absolute()))
        self.uri = config.uri or f"{SQLITE}{folder}/mlflow.db"

    @property
    def client(self) -> Any:
        """An mlflow.MlflowClient of this server. MLflow is imported here: it takes a second."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # Who can wait for a server that is away does so by himself and says it; MLflow's seven tries take minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient

        if self.uri.startswith(SQLITE):
            self._sqlite_folder.mkdir(parents=True, exist_ok=True)
            if "%" in self.uri:
                _leave_folders_to_us()
        for chatty in ("mlflow.store.db.utils", "alembic"):  # one screen of table migrations for a new sqlite file
            logging.getLogger(chatty).setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @property
    def is_server(self) -> bool:
        """Whether it is an HTTP server and not a database that this process opens itself."""
        return self.uri.startswith(("http://", "https://"))

    def check_server(self, timeout_seconds: float = 10.0) -> None:
        """Raise ServerAwayError at once where an HTTP server does not answer (the client alone would try again)."""
        if not self.is_server:
            return
        if "@" in urllib.parse.urlsplit(self.uri).netloc:
            raise ValueError("tracking.uri: say user and password in MLFLOW_TRACKING_USERNAME and _PASSWORD, not in it")
        try:
            with urllib.request.urlopen(f"{self.uri.rstrip('/')}/health", timeout=timeout_seconds):
                return
        except urllib.error.HTTPError:
            return  # it does answer; what it dislikes is told by the request that follows
        except (http.client.InvalidURL, ValueError) as error:
            raise ValueError(f"tracking.uri: {self.uri}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServerAwayError(f"tracking.uri: the server {self.uri} does not answer: {reason}") from None

    def start_run(
        self,
        job: JobConfig,
        digests: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
        parent_run_id: str | None = None,
    ) -> str:
        """Create the run of a job, status RUNNING, and return its id.

        Logged with it: the resolved job as artifact job.yaml and as params with dotted names (values cut at 6000
        characters), `digests` (split such as train -> sha256 of its data) as data sets and tags, commit, versions and
        hardware. Raises ValueError where the server is away or refuses.
        """
        self.check_server()
        text = public_job(job)
        all_tags = {"job_sha256": hashlib.sha256(text.encode()).hexdigest(), "seed": str(job.seed)}
        all_tags |= SOURCE | {f"data_{split}_sha256": digest for split, digest in digests.items()}
        commit = describe_commit()
        all_tags |= commit
        if commit:
            all_tags["mlflow.source.git.commit"] = commit["git_commit"]
        if parent_run_id:
            all_tags[PARENT] = parent_run_id
        environment = describe_environment()
        with readable_errors(f"starting run {job.name}"):
            client = self.client
            run = client.create_run(self._experiment_id(client), run_name=job.name, tags=all_tags | dict(tags or {}))
            run_id = str(run.info.run_id)
            try:
                self._log_params(client, run_id, flatten(yaml.safe_load(text)))
                _log_datasets(client, run_id, [_dataset(split, digest, job.data) for split, digest in digests.items()])
                client.log_text(run_id, text, "job.yaml")
                client.log_text(run_id, json.dumps(environment, indent=2), "environment.json")
                client.log_batch(run_id, tags=_entities("RunTag", {f"env.{k}": v for k, v in environment.items()}))
            except BaseException:
                # What went wrong before is what has to be told.
                with suppress(ValueError), readable_errors(f"end run {run_id}"):
                    client.set_terminated(run_id, "FAILED")
                raise
        return run_id

    def start_group(self, name: str, tags: Mapping[str, str], parent_run_id: str | None = None) -> str:
        """Create a run of no training, such as one that others belong to, status RUNNING, and return its id."""
        self.check_server()
        all_tags = SOURCE | dict(tags) | ({PARENT: parent_run_id} if parent_run_id else {})
        with readable_errors(f"starting run {name}"):
            client = self.client
            return str(client.create_run(self._experiment_id(client), run_name=name, tags=all_tags).info.run_id)

    def resume_run(self, run_id: str) -> None:
        """Set a run that ended early back to RUNNING; ValueError where there is no such run."""
        self.check_server()
        with readable_errors(f"resuming run {run_id}"):
            self.client.update_run(run_id, status="RUNNING")

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one step in one request."""
        self.log_metric_rows(run_id, [(step, int(time.time() * 1000), metrics)])

    def log_changed_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Log those metrics of which the run has another value, or none, as its newest: for what may be said again."""
        with readable_errors(f"reading metrics of run {run_id}"):
            newest = self.client.get_run(run_id).data.metrics
        changed = {name: value for name, value in metrics.items() if newest.get(name) != value}
        if changed:
            self.log_metrics(run_id, changed, step)

    def log_metric_rows(self, run_id: str, rows: Iterable[MetricRow]) -> None:
        """Log the metrics of many steps in as few requests as the server allows (1000 values each)."""
        from mlflow.entities import Metric

        entities = [
            Metric(name, float(value), timestamp, step) for step, timestamp, row in rows for name, value in row.items()
        ]
        with readable_errors(f"logging metrics of run {run_id}"):
            client = self.client
            for start in range(0, len(entities), MOST_METRICS):
                client.log_batch(run_id, metrics=entities[start : start + MOST_METRICS])

    def log_artifact(self, run_id: str, path: str | Path, folder: str | None = None) -> None:
        """Upload a file, or a folder with all it holds, into a run's artifacts (below `folder` there)."""
        path = Path(path)
        if not path.exists():
            raise ValueError(f"{path}: no such file to log")
        with readable_errors(f"logging {path}"):
            log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
            log(run_id, str(path), folder)

    def log_text(self, run_id: str, text: str, file: str) -> None:
        """Write a text as a file of a run's artifacts."""
        with readable_errors(f"logging {file}"):
            self.client.log_text(run_id, text, file)

    def finish_run(self, run_id: str, status: RunStatus = "FINISHED") -> None:
        """Set the end time and the final status of a run."""
        with readable_errors(f"finishing run {run_id}"):
            self.client.set_terminated(run_id, status)

    def experiment_of(self, run_id: str) -> str:
        """Id of the experiment that a run belongs to."""
        with readable_errors(f"looking up run {run_id}"):
            return str(self.client.get_run(run_id).info.experiment_id)

    def run_url(self, run_id: str) -> str | None:
        """Page of a run in the server's own pages; None for a sqlite file, which has no pages of its own."""
        if not self.is_server:
            return None
        return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_of(run_id)}/runs/{run_id}?{TRAINING_VIEW}"

    @property
    def _sqlite_folder(self) -> Path:
        path = self.uri.removeprefix(SQLITE).partition("?")[0]
        return Path(urllib.parse.unquote(path)).absolute().parent

    def _experiment_id(self, client: Any) -> str:
        """Id of the experiment, made where it is not there yet."""
        from mlflow.exceptions import MlflowException

        name = self.config.experiment
        found = client.get_experiment_by_name(name)
        if found is None:
            location = (self._sqlite_folder / "mlartifacts").as_uri() if self.uri.startswith(SQLITE) else None
            try:
                return str(client.create_experiment(name, artifact_location=location, tags={KIND_TAG: KIND}))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another run was quicker
        if found.lifecycle_stage != "active":
            raise ValueError(f"tracking.experiment: {name!r} was deleted on the server; restore it or rename")
        if KIND_TAG not in found.tags:
            with suppress(MlflowException):  # it may be another's; how a page opens is no reason to stop
                client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
        return str(found.experiment_id)

    def _log_params(self, client: Any, run_id: str, params: Mapping[str, str]) -> None:
        cut = {name: value[:LONGEST_PARAM] for name, value in params.items()}
        entities = _entities("Param", cut)
        for start in range(0, len(entities), MOST_PARAMS):
            client.log_batch(run_id, params=entities[start : start + MOST_PARAMS])


def _leave_folders_to_us() -> None:
    """MLflow makes the folder of a database by the letters of its URI, quoted ones too: an empty one beside it."""
    from mlflow.store.db import utils

    if hasattr(utils, "_make_parent_dirs_if_sqlite"):
        utils._make_parent_dirs_if_sqlite = lambda uri: None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, with dotted names; lists stay one value, as JSON."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _dataset(split: str, digest: str, data: DataConfig) -> Any:
    """MLflow's record of a data set that a run has read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = getattr(data, split, None)
    described = json.dumps(source.model_dump(mode="json")) if source is not None else "{}"
    kind = source.kind if source is not None else "shards"
    dataset = Dataset(name=split, digest=digest[:LONGEST_DIGEST], source_type=kind, source=described)
    context = {"train": "training", "val": "validation"}.get(split, split)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _log_datasets(client: Any, run_id: str, inputs: list[Any]) -> None:
    """Log the data of a run, of which another one may be the first user at this very moment.

    MLflow looks for a data set and then enters it; where two do so the database refuses one, and finds it at once then.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if "unique constraint" not in error.message.lower():
            raise
        client.log_inputs(run_id, inputs)


def _entities(kind: Literal["Param", "RunTag"], values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import Param, RunTag

    entity = {"Param": Param, "RunTag": RunTag}[kind]
    return [entity(name, value) for name, value in values.items()]
