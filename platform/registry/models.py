"""Registered models as they are found: versions, aliases, and the way back to a folder on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from maskray.platform.files.atomic import move_folder
from maskray.platform.files.model_files import SPEC_FILE, WEIGHTS_FILE
from maskray.platform.job.config import NAME, TrackingConfig
from maskray.platform.registry.server_errors import readable_errors
from maskray.platform.registry.tracking import Tracking

URI = "models:/"
FILES = (WEIGHTS_FILE, SPEC_FILE)
ALIAS = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,99}")
RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)  # MLflow reads them as versions


class ModelVersion(TypedDict):
    """One version of a registered model; `created` is ISO 8601 in UTC, `metrics` are those of its registration."""

    name: str
    version: str
    aliases: list[str]
    created: str
    run_id: str
    metrics: dict[str, float | None]
    sha256: str


def check_names(name: str, alias: str | None = None) -> None:
    """Raise ValueError where a name or alias cannot be registered, before hours are spent on what should bear it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain model name: letters, digits, . _ - only, not first . _ or -")
    if alias is not None and (not ALIAS.fullmatch(alias) or RESERVED_ALIAS.fullmatch(alias)):
        raise ValueError(f"{alias!r} cannot be an alias: letters, digits, _ - only, not 'latest' or 'v3'")


def resolve_model(uri_or_folder: str, tracking: Tracking | None = None, cache_folder: str | Path | None = None) -> str:
    """Absolute path of a model on this machine, for its folder or file, "models:/NAME@alias" or "models:/NAME/3".

    A registered model is downloaded once into the cache (`cache_folder`, else maskray/models in the user's cache
    folder) and its SHA-256 is compared each time. Raises ValueError where it does not exist, is not whole, or a URI is
    given without `tracking`.
    """
    if not uri_or_folder.startswith(URI):
        from maskray.platform.files.model_folder import read_model_spec  # torch, which downloads need not

        read_model_spec(uri_or_folder)
        return str(Path(uri_or_folder).absolute())
    if tracking is None:
        raise ValueError(f"{uri_or_folder}: a registered model needs a tracking server or its sqlite file")
    version = find_version(tracking, uri_or_folder)
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
        if not (folder / file).is_file() or sha256_of(folder / file) != wanted[file]:
            raise ValueError(f"{folder / file}: not what was registered (SHA-256); remove the folder and try again")
    return str(folder)


def open_tracking(uri: str | None, output: str | Path) -> Tracking:
    """The registry at a URI, or the one that the runs of an output folder share."""
    return Tracking(TrackingConfig(uri=uri), output)


def model_folder(model: str, uri: str | None, output: str | Path) -> str:
    """The local folder of a model that is a folder already or a models:/ URI; opens the registry only for a URI."""
    return resolve_model(model, tracking_of(model, uri, output))


def tracking_of(model: str, uri: str | None, output: str | Path) -> Tracking | None:
    """The registry that a models:/ URI is looked for in; None for what is a folder or file."""
    return open_tracking(uri, output) if model.startswith(URI) else None


def list_models(tracking: Tracking) -> list[ModelVersion]:
    """Every version of every registered model, by name, the newest version first."""
    tracking.check_server()
    with readable_errors("listing models"):
        client = tracking.client
        listed: list[ModelVersion] = []
        for model in all_pages(client.search_registered_models):
            versions = list(all_pages(client.search_model_versions, filter_string=f"name='{model.name}'"))
            newest_first = sorted(versions, key=lambda version: -int(version.version))
            listed += [summarize(version, model.aliases) for version in newest_first]
    return sorted(listed, key=lambda version: version["name"])


def version_of_alias(tracking: Tracking, name: str, alias: str) -> str:
    """The version that carries an alias; ValueError where the name or the alias does not exist."""
    return str(find_version(tracking, f"{URI}{name}@{alias}").version)


def find_version(tracking: Tracking, uri: str) -> Any:
    """MLflow's record of the version that a models:/ URI means; ValueError where there is none."""
    rest = uri.removeprefix(URI)
    name, at, alias = rest.partition("@")
    number = ""
    if not at:
        name, _, number = rest.partition("/")
    if not NAME.fullmatch(name) or not (ALIAS.fullmatch(alias) if at else number.isdecimal()):
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
            if not (fetched / file).is_file() or sha256_of(fetched / file) != digest:
                raise ValueError(f"{source}: {file} on the server is not what was registered (SHA-256)")
        try:
            move_folder(fetched, folder)
        except OSError:
            if not folder.is_dir():  # another process was quicker with the same download
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def summarize(version: Any, aliases: Mapping[str, Any]) -> ModelVersion:
    """What a list shows of MLflow's record of a version, given the versions by alias of its model."""
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


def all_pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """Yield all results of a search that answers page by page."""
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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
