"""`maskray runs`: what lies in the folder of runs, how far each run came, and to delete one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskray.platform.runs.run_records import RunRecord

app = typer.Typer(help="List, show and delete runs by their folders.", no_args_is_help=True)
Output = Annotated[Path, typer.Option(help="Folder of the runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the run; SWEEP/TRIAL for a trial.", show_default=False)]


@app.command("list")
def list_all(output: Output = Path("outputs"), as_json: AsJson = False) -> None:
    """List all runs with state, step and AP, the newest last; trials of a sweep stand below it.

    Example: maskray runs list --output outputs
    """
    from maskray.platform.runs.run_records import list_runs

    records = list_runs(output)
    if as_json:
        print(json.dumps([record.as_dict() for record in records], indent=1))
    elif records:
        from maskray.platform.cli.run_tables import print_runs

        print_runs(records)
    else:
        print(f"{output}: no runs")


@app.command()
def show(name: Name, output: Output = Path("outputs"), as_json: AsJson = False) -> None:
    """Show a run: its state, checkpoints, metrics and last events.

    Example: maskray runs show demo
    """
    from maskray.platform.runs.run_records import find_run

    record = find_run(output, name)
    if as_json:
        print(json.dumps(record.as_dict(), indent=1))
        return
    from maskray.platform.cli.run_tables import print_run

    print_run(record)


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Of the runs.", show_default=False)],
    output: Output = Path("outputs"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the folders of runs that nobody is at; what they left on the tracking server and the registry stays.

    Example: maskray runs delete first --yes
    """
    from maskray.platform.runs.run_records import delete_run, find_run

    records: list[RunRecord] = [find_run(output, name) for name in dict.fromkeys(names)]
    for record in records:
        if not yes:
            typer.confirm(f"delete {record.folder} ({record.state})?", abort=True)
        size = delete_run(record, lambda line: typer.echo(line, err=True))
        print(f"deleted {record.folder}: {size / 1e6:.1f} MB")
