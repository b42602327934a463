"""`maskray sweep`: the table of a sweep, and its pages on the tracking server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskray.platform.job.sweep_config import SweepConfig
    from maskray.platform.sweep.trial_record import TrialRecord

app = typer.Typer(help="Look at sweeps: their tables, and their trials in MLflow.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the sweep.", show_default=False)]


@app.command()
def table(folder: Folder) -> None:
    """Make the table of a sweep anew from the trials that have finished, also while it runs.

    Example: maskray sweep table outputs/table-2c-small
    """
    from rich.console import Console

    from maskray.platform.sweep.table import build_table
    from maskray.platform.sweep.table_files import print_table, write_table

    sweep, records = _open(folder)
    made = build_table(sweep, records)
    write_table(made, folder)
    print_table(made, folder, Console())


@app.command("open")
def open_pages(
    folder: Folder,
    server: Annotated[str | None, typer.Option(help="MLflow server, where the sweep used a sqlite file.")] = None,
) -> None:
    """Print the address of MLflow's page that compares the trials of a sweep by its first figure.

    Example: maskray sweep open outputs/table-2c-small --server http://127.0.0.1:5000
    """
    from maskray.platform.job.config import TrackingConfig
    from maskray.platform.job.load import public_uri
    from maskray.platform.registry.tracking import Tracking
    from maskray.platform.sweep.parent_run import compare_url, read_parent

    run_id, uri = read_parent(folder)
    tracking = Tracking(TrackingConfig(uri=uri))
    if not tracking.is_server and server is None:
        raise ValueError(
            "--server: the runs are in a database; start a server with "
            f"`mlflow server --backend-store-uri {public_uri(uri)}` and give its address"
        )
    sweep, records = _open(folder)
    print(compare_url(server or uri, tracking.experiment_of(run_id), records, sweep.table.figures[0]))


def _open(folder: Path) -> tuple[SweepConfig, list[TrialRecord]]:
    from maskray.platform.job.load import load_kind
    from maskray.platform.job.sweep_config import SweepConfig
    from maskray.platform.runs.run_folder import SWEEP_FILE
    from maskray.platform.sweep.trial_record import TrialRecord
    from maskray.platform.sweep.trials import list_trials

    path = folder / SWEEP_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: no folder of a sweep (it holds no {SWEEP_FILE})")
    sweep = load_kind(path, {"sweep": SweepConfig})
    # The folder may have been moved since it was written.
    sweep = sweep.model_copy(update={"output": str(folder.absolute().parent), "name": folder.absolute().name})
    return sweep, [TrialRecord(trial) for trial in list_trials(sweep)]
