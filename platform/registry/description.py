"""All that is known of one registered version, and two of them side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from maskray.platform.files.model_files import SPEC_FILE
from maskray.platform.job.yaml_tree import load_yaml
from maskray.platform.registry.gate import Comparison
from maskray.platform.registry.models import URI, ModelVersion, find_version, summarize
from maskray.platform.registry.promotion import Move, alias_moves, comparisons_of
from maskray.platform.registry.registration import JOB_FILE
from maskray.platform.registry.server_errors import readable_errors
from maskray.platform.registry.tracking import Tracking, flatten

CODE_TAGS = ("maskray_version", "git_commit", "git_dirty")
DATA_PREFIXES = ("data_", "evaluation_", "evaluated_")


class VersionDetails(ModelVersion):
    """A version as `maskray models show` tells of it; `files` are those stored with it, with their size in bytes."""

    run_url: str | None
    labels: str
    size_bytes: int | None
    latency: dict[str, Any] | None
    data: dict[str, str]
    code: dict[str, str]
    files: dict[str, int | None]
    comparisons: list[Comparison]
    moves: list[Move]


class VersionDifferences(TypedDict):
    """Two versions side by side: what differs, and every metric; values are (first, second), None where unknown."""

    first: str
    second: str
    metrics: dict[str, tuple[float | None, float | None]]
    config: dict[str, tuple[str | None, str | None]]
    config_file: str
    data: dict[str, tuple[str | None, str | None]]
    code: dict[str, tuple[str | None, str | None]]
    labels: tuple[str, str]
    size_bytes: tuple[int | None, int | None]


def describe_version(tracking: Tracking, uri: str) -> VersionDetails:
    """All that is known of a version, given as models:/NAME@alias or models:/NAME/3."""
    version = find_version(tracking, uri)
    with readable_errors(uri):
        aliases = tracking.client.get_registered_model(version.name).aliases
        files = _list_files(tracking, version)
    tags = version.tags
    return VersionDetails(
        **summarize(version, aliases),
        run_url=tracking.run_url(version.run_id) if version.run_id else None,
        labels=tags.get("labels", ""),
        size_bytes=_size(version),
        latency=json.loads(tags["latency"]) if "latency" in tags else None,
        data=_data(version),
        code=_code(version),
        files=files,
        comparisons=comparisons_of(version),
        moves=alias_moves(tracking, version.name),
    )


def compare_versions(tracking: Tracking, first: str, second: str) -> VersionDifferences:
    """Two versions side by side, each given as models:/NAME@alias or models:/NAME/3.

    `config` are keys of the job that differ, with dotted names, or of model.json where a version carries no job.
    """
    versions = (find_version(tracking, first), find_version(tracking, second))
    metrics = [json.loads(version.tags.get("metrics", "{}")) for version in versions]
    file = JOB_FILE if all(f"sha256_{JOB_FILE}" in version.tags for version in versions) else SPEC_FILE
    configs = [flatten(_read(tracking, version, file)) for version in versions]
    one, other = versions
    return VersionDifferences(
        first=f"{URI}{one.name}/{one.version}",
        second=f"{URI}{other.name}/{other.version}",
        metrics={name: (metrics[0].get(name), metrics[1].get(name)) for name in metrics[0] | metrics[1]},
        config=_differences(*configs),
        config_file=file,
        data=_differences(_data(one), _data(other)),
        code=_differences(_code(one), _code(other)),
        labels=(one.tags.get("labels", ""), other.tags.get("labels", "")),
        size_bytes=(_size(one), _size(other)),
    )


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def _data(version: Any) -> dict[str, str]:
    return {key: value for key, value in sorted(version.tags.items()) if key.startswith(DATA_PREFIXES)}


def _code(version: Any) -> dict[str, str]:
    return {key: version.tags[key] for key in CODE_TAGS if key in version.tags}


def _size(version: Any) -> int | None:
    return int(version.tags["size_bytes"]) if "size_bytes" in version.tags else None


def _list_files(tracking: Tracking, version: Any) -> dict[str, int | None]:
    from mlflow.artifacts import list_artifacts

    folder = tracking.client.get_model_version_download_uri(version.name, version.version)
    listed = list_artifacts(artifact_uri=folder, tracking_uri=tracking.uri)
    return {Path(item.path).name: item.file_size for item in sorted(listed, key=lambda item: str(item.path))}


def _read(tracking: Tracking, version: Any, file: str) -> dict[str, Any]:
    """A YAML or JSON file of a version."""
    from mlflow.artifacts import download_artifacts

    with (
        readable_errors(f"{URI}{version.name}/{version.version}: {file}"),
        tempfile.TemporaryDirectory() as scratch,
    ):
        folder = tracking.client.get_model_version_download_uri(version.name, version.version)
        uris = {"tracking_uri": tracking.uri, "registry_uri": tracking.uri}
        path = download_artifacts(artifact_uri=f"{folder}/{file}", dst_path=scratch, **uris)
        return dict(load_yaml(Path(path).read_text(encoding="utf-8")))
