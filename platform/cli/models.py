"""`maskray models`: what is registered, how versions compare, and which version carries which alias."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Compare, promote and move models between registry, files and libraries.", no_args_is_help=True)

TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow server or sqlite:///FILE; none is the file of --output.", envvar="MLFLOW_TRACKING_URI"),
]
Output = Annotated[str, typer.Option(help="Folder of the runs, which holds the registry when there is no server.")]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Version = Annotated[str, typer.Argument(help="NAME@alias or NAME/3, with or without models:/.", show_default=False)]
Name = Annotated[str, typer.Argument(help="Registered name.", show_default=False)]
Alias = Annotated[str, typer.Argument(help="Alias to move, e.g. champion.", show_default=False)]


@app.command("list")
def list_versions(tracking_uri: TrackingUri = None, output: Output = "outputs", as_json: Json = False) -> None:
    """List every version of every registered model.

    Example: maskray models list
    """
    from maskray.platform.cli.tables import print_versions
    from maskray.platform.registry.models import list_models, open_tracking

    versions = list_models(open_tracking(tracking_uri, output))
    if as_json:
        print(json.dumps(versions, indent=1, default=str))
    else:
        print_versions(versions)


@app.command()
def show(version: Version, tracking_uri: TrackingUri = None, output: Output = "outputs", as_json: Json = False) -> None:
    """Show all that is known of a version: metrics, data, code, files, what gates found, where its aliases were.

    Example: maskray models show demo@champion
    """
    from maskray.platform.cli.version_tables import print_details
    from maskray.platform.registry.description import describe_version
    from maskray.platform.registry.models import open_tracking

    details = describe_version(open_tracking(tracking_uri, output), _uri(version))
    if as_json:
        print(json.dumps(details, indent=1))
    else:
        print_details(details)


@app.command()
def compare(
    first: Version, second: Version, tracking_uri: TrackingUri = None, output: Output = "outputs", as_json: Json = False
) -> None:
    """Show two versions side by side: every metric, and in which keys of the job, data and code they differ.

    Example: maskray models compare demo/1 demo/2
    """
    from maskray.platform.cli.version_tables import print_differences
    from maskray.platform.registry.description import compare_versions
    from maskray.platform.registry.models import open_tracking

    differences = compare_versions(open_tracking(tracking_uri, output), _uri(first), _uri(second))
    if as_json:
        print(json.dumps(differences, indent=1))
    else:
        print_differences(differences)


@app.command()
def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Version number.", show_default=False)],
    alias: Alias,
    gate: Annotated[Path | None, typer.Option(help="YAML file that says what to pass.", show_default=False)] = None,
    without_gate: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Pass a guarded alias by; the reason is kept.", show_default=False),
    ] = None,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
    as_json: Json = False,
) -> None:
    """Give an alias to a version, so that models:/NAME@ALIAS means it from now on; exit code 1 if the gate refuses.

    Example: maskray models promote demo 2 champion --gate gate.yaml
    """
    from maskray.platform.cli.tables import print_compared
    from maskray.platform.cli.version_tables import print_comparison
    from maskray.platform.job.load import load_gate
    from maskray.platform.registry.gate import GateRefusedError
    from maskray.platform.registry.models import open_tracking
    from maskray.platform.runs.publication import promote_version

    asked = None if gate is None else load_gate(gate)
    tracking = open_tracking(tracking_uri, output)
    try:
        tell = None if as_json else print_compared
        comparison = promote_version(tracking, name, version, alias, asked, without_gate, tell)
    except GateRefusedError as error:
        print(json.dumps(error.comparison, indent=1)) if as_json else print_comparison(error.comparison)
        raise
    if as_json:
        print(json.dumps(comparison or {"name": name, "version": version, "alias": alias, "passed": None}, indent=1))
        return
    if comparison is not None:
        print_comparison(comparison)
    print(f"models:/{name}@{alias} is version {version} now")


@app.command()
def rollback(
    name: Name,
    alias: Alias,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the move.", show_default=False)] = None,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
    as_json: Json = False,
) -> None:
    """Give an alias back to the version that had it before; once more goes back further.

    Example: maskray models rollback demo champion --reason "misses small ones"
    """
    from maskray.platform.registry.models import open_tracking
    from maskray.platform.registry.promotion import rollback as give_back

    move = give_back(open_tracking(tracking_uri, output), name, alias, reason)
    if as_json:
        print(json.dumps(move, indent=1))
    else:
        print(f"models:/{name}@{alias} is version {move['version']} again, it was {move['before']}")


def _uri(version: str) -> str:
    return version if version.startswith("models:/") else f"models:/{version}"
