"""`maskray models`: what is registered, and which version carries which alias."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskray.platform.registry.tracking import Tracking

app = typer.Typer(help="List and promote registered models.", no_args_is_help=True)

TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow server or sqlite:///FILE; none is the file of --output.", envvar="MLFLOW_TRACKING_URI"),
]
Output = Annotated[str, typer.Option(help="Folder of the runs, which holds the registry when there is no server.")]


@app.command("list")
def list_versions(
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
    as_json: Annotated[bool, typer.Option("--json", help="Print the versions as JSON.")] = False,
) -> None:
    """List every version of every registered model."""
    from maskray.platform.cli_tables import print_versions
    from maskray.platform.registry.models import list_models

    versions = list_models(open_tracking(tracking_uri, output))
    if as_json:
        print(json.dumps(versions, indent=1, default=str))
    else:
        print_versions(versions)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Registered name.", show_default=False)],
    version: Annotated[str, typer.Argument(help="Version number.", show_default=False)],
    alias: Annotated[str, typer.Argument(help="Alias to move to it, e.g. champion.", show_default=False)],
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Give an alias to a version, so that models:/NAME@ALIAS means it from now on."""
    from maskray.platform.registry.models import promote as move_alias

    move_alias(open_tracking(tracking_uri, output), name, version, alias)
    print(f"models:/{name}@{alias} is version {version} now")


def open_tracking(uri: str | None, output: str) -> Tracking:
    """The registry at a URI, or the one that the runs of an output folder share."""
    from maskray.platform.config import TrackingConfig
    from maskray.platform.registry.tracking import Tracking

    return Tracking(TrackingConfig(uri=uri), output)


def model_folder(model: str, uri: str | None, output: str) -> str:
    """The local folder of a model that is a folder already or a models:/ URI; opens the registry only for a URI."""
    from maskray.platform.registry.models import resolve_model

    tracking = open_tracking(uri, output) if model.startswith("models:/") else None
    return resolve_model(model, tracking)


def model_name(model: str, uri: str | None, output: str) -> tuple[str | None, str]:
    """Registered name and version of a models:/ URI; none for a folder."""
    if not model.startswith("models:/"):
        return None, ""
    from maskray.platform.registry.models import version_of_alias

    name, at, alias = model.removeprefix("models:/").partition("@")
    if at:
        return name, version_of_alias(open_tracking(uri, output), name, alias)
    name, _, version = name.partition("/")
    return name, version
