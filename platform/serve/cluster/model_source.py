"""Where a served model comes from: a folder, a registered version, or an alias that is followed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskray.platform.registry.models import URI, resolve_model, version_of_alias
from maskray.platform.registry.tracking import Tracking
from maskray.platform.serve.model.rollout import Target


@dataclass(frozen=True)
class Source:
    """The version to begin with, and the alias to follow in a registry if there is one."""

    first: Target
    alias: str | None = None
    tracking_uri: str = ""


def find_source(model: str, tracking: Tracking | None) -> Source:
    """The source that a folder, "models:/NAME/3" or "models:/NAME@alias" means; downloads a registered version.

    Raises ValueError where the model does not exist or is not whole.
    """
    if not model.startswith(URI):
        return folder_source(model)
    name, at, alias = model.removeprefix(URI).partition("@")
    if not at:
        name, _, version = name.partition("/")
        return Source(Target(name, version, resolve_model(model, tracking)))
    if tracking is None:
        raise ValueError(f"{model}: a registered model needs a tracking server or its sqlite file")
    version = version_of_alias(tracking, name, alias)  # first, so that the folder is that of this very version
    folder = resolve_model(f"{URI}{name}/{version}", tracking)
    return Source(Target(name, version, folder), alias, tracking.uri)


def folder_source(folder: str | Path, name: str | None = None, version: str = "") -> Source:
    """A model that is in no registry, called by the name of its folder unless another is given."""
    path = Path(folder).absolute()
    return Source(Target(name or path.name.removesuffix(".safetensors"), version, str(path)))
