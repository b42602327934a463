"""Registered models: versions with figures, checksums and aliases, and the way back to a folder on this machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from maskray.model.config import ModelSpec
from maskray.platform.config import NAME
from maskray.platform.registry.folder import SPEC_FILE, WEIGHTS_FILE, read_model_spec, read_weights
from maskray.platform.registry.signature import write_mlmodel
from maskray.platform.registry.tracking import Tracking, readable_errors

URI = "models:/"
FILES = (WEIGHTS_FILE, SPEC_FILE)
RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)  # MLflow reads them as versions
LONGEST_TAG = 8000


class ModelVersion(TypedDict):
    """One version of a registered model; `created` is ISO 8601 in UTC, `metrics` are those of its registration."""

    name: str
    version: str
    aliases: list[str]
    created: str
    run_id: str
    metrics: dict[str, float | None]
    sha256: str


def register_model(
    tracking: Tracking,
    run_id: str,
    name: str,
    folder: str | Path,
    metrics: Mapping[str, float],
    alias: str | None = None,
) -> str:
    """Upload a model folder as a new version of a registered model and return the version.

    The version appears only after its files are complete; the alias, if one is given, moves last. Uploaded are the two
    files of the folder, checked before, and an MLmodel with the signature; figures, label map and SHA-256 become tags.
    Raises ValueError for a bad folder, name or alias, or where the server refuses.
    """
    check_names(name, alias)
    if Path(folder).is_file():
        raise ValueError(f"{folder}: a model folder is registered, not a file")
    spec = read_model_spec(folder)
    read_weights(folder)
    tags = _tags(Path(folder), spec, metrics)
    tracking.check_server()
    with readable_errors(f"registering {name}"):
        logged = _upload(tracking, run_id, name, Path(folder), spec, metrics)
        client = tracking.client
        _create_name(client, name)
        # Without a server MLflow would look the model's URI up in the process-wide tracking URI, not the client's.
        source = logged.model_uri if tracking.is_server else logged.artifact_location
        version = client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=logged.model_id)
        if alias:
            client.set_registered_model_alias(name, alias, str(version.version))
    return str(version.version)


def check_names(name: str, alias: str | None = None) -> None:
    """Raise ValueError where a name or alias cannot be registered, before hours are spent on what should bear it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain model name: letters, digits, . _ - only, not first . _ or -")
    if alias is not None and (not NAME.fullmatch(alias) or RESERVED_ALIAS.fullmatch(alias)):
        raise ValueError(f"{alias!r} cannot be an alias: a plain name, and not 'latest' or 'v' with a number")


def resolve_model(uri_or_folder: str, tracking: Tracking | None = None, cache_folder: str | Path | None = None) -> str:
    """Absolute path of a model on this machine, for its folder or file, "models:/NAME@alias" or "models:/NAME/3".

    A registered model is downloaded once into the cache (`cache_folder`, else maskray/models in the user's cache
    folder) and its SHA-256 is compared each time. Raises ValueError where it does not exist, is not whole, or a URI is
    given without `tracking`.
    """
    if not uri_or_folder.startswith(URI):
        read_model_spec(uri_or_folder)
        return str(Path(uri_or_folder).absolute())
    if tracking is None:
        raise ValueError(f"{uri_or_folder}: a registered model needs a tracking server or its sqlite file")
    version = _find_version(tracking, uri_or_folder)
    wanted = {file: version.tags.get(f"sha256_{file}") for file in FILES}
    if None in wanted.values():
        raise ValueError(f"{uri_or_folder}: version {version.version} was not registered by maskray, it has no SHA-256")
    cache = Path(cache_folder) if cache_folder else _user_cache()
    folder = cache.absolute() / f"{version.name}-{version.version}-{_short_digest(wanted)}"
    if not folder.is_dir():
        with readable_errors(uri_or_folder):
            source = tracking.client.get_model_version_download_uri(version.name, version.version)
        _download(tracking, source, wanted, folder)
    for file in FILES:
        if not (folder / file).is_file() or _sha256(folder / file) != wanted[file]:
            raise ValueError(f"{folder / file}: not what was registered (SHA-256); remove the folder and try again")
    return str(folder)


def list_models(tracking: Tracking) -> list[ModelVersion]:
    """Every version of every registered model, by name, the newest version first."""
    tracking.check_server()
    with readable_errors("listing models"):
        client = tracking.client
        listed: list[ModelVersion] = []
        for model in _pages(client.search_registered_models):
            versions = list(_pages(client.search_model_versions, filter_string=f"name='{model.name}'"))
            newest_first = sorted(versions, key=lambda version: -int(version.version))
            listed += [_summary(version, model.aliases) for version in newest_first]
    return sorted(listed, key=lambda version: version["name"])


def promote(tracking: Tracking, name: str, version: str, alias: str) -> None:
    """Move an alias to a version; ValueError where name or version does not exist or the alias is not allowed."""
    check_names(name, alias)
    tracking.check_server()
    with readable_errors(f"promoting {name} version {version}"):
        tracking.client.set_registered_model_alias(name, alias, version)


def version_of_alias(tracking: Tracking, name: str, alias: str) -> str:
    """The version that carries an alias; ValueError where the name or the alias does not exist."""
    return str(_find_version(tracking, f"{URI}{name}@{alias}").version)


def _upload(
    tracking: Tracking, run_id: str, name: str, folder: Path, spec: ModelSpec, metrics: Mapping[str, float]
) -> Any:
    """Store the files as a logged model of the run and return its record; a failed upload is marked as such."""
    from mlflow.entities import Metric

    client = tracking.client
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, model_type="mask_rcnn")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            card = write_mlmodel(scratch, spec, run_id, logged.model_id)
            for path in (*(folder / file for file in FILES), card):
                client.log_model_artifact(logged.model_id, str(path))
        now = int(time.time() * 1000)
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        client.log_batch(run_id, [Metric(f"registered/{key}", value, now, 0) for key, value in finite.items()])
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    return client.finalize_logged_model(logged.model_id, "READY")


def _create_name(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(folder: Path, spec: ModelSpec, metrics: Mapping[str, float]) -> dict[str, str]:
    finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
    tags = {f"sha256_{file}": _sha256(folder / file) for file in FILES}
    tags |= {"metrics": json.dumps(finite), "labels": ", ".join(spec.labels.names)[:LONGEST_TAG]}
    if len(tags["metrics"]) > LONGEST_TAG:
        raise ValueError(f"{len(metrics)} figures are too many to register with a model; give those that sum it up")
    return tags


def _find_version(tracking: Tracking, uri: str) -> Any:
    """MLflow's record of the version that a models:/ URI means."""
    rest = uri.removeprefix(URI)
    name, at, alias = rest.partition("@")
    number = ""
    if not at:
        name, _, number = rest.partition("/")
    if not NAME.fullmatch(name) or not (NAME.fullmatch(alias) if at else number.isdecimal()):
        raise ValueError(f"{uri}: write a registered model as models:/NAME@alias or models:/NAME/3")
    tracking.check_server()
    with readable_errors(uri):
        client = tracking.client
        return client.get_model_version_by_alias(name, alias) if at else client.get_model_version(name, number)


def _download(tracking: Tracking, source: str, wanted: Mapping[str, str | None], folder: Path) -> None:
    """Fetch the files of a version under a temporary name, check them and rename."""
    from mlflow.artifacts import download_artifacts

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with readable_errors(f"downloading {source}"):
            uris = {"tracking_uri": tracking.uri, "registry_uri": tracking.uri}
            fetched = Path(download_artifacts(source, dst_path=str(temporary), **uris))  # may be a folder within
        for file, digest in wanted.items():
            if not (fetched / file).is_file() or _sha256(fetched / file) != digest:
                raise ValueError(f"{source}: {file} on the server is not what was registered (SHA-256)")
        try:
            fetched.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was quicker with the same download
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _summary(version: Any, aliases: Mapping[str, Any]) -> ModelVersion:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    return ModelVersion(
        name=version.name,
        version=str(version.version),
        aliases=sorted(alias for alias, number in aliases.items() if str(number) == str(version.version)),
        created=created,
        run_id=version.run_id or "",
        metrics=json.loads(version.tags.get("metrics", "{}")),
        sha256=version.tags.get(f"sha256_{WEIGHTS_FILE}", ""),
    )


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """All results of a search that answers page by page."""
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskray" / "models"


def _short_digest(digests: Mapping[str, str | None]) -> str:
    return hashlib.sha256("".join(str(digests[file]) for file in FILES).encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
