"""`maskray jobs`: the jobs that were submitted to a Ray cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List, read, stop and resume jobs on a Ray cluster.", no_args_is_help=True)
Address = Annotated[str, typer.Option(help="Dashboard of the cluster, e.g. http://head:8265.", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="ID", help="As `submit` and `jobs list` print it.", show_default=False)]


@app.command("list")
def list_all(
    address: Address, as_json: Annotated[bool, typer.Option("--json", help="Print the jobs as JSON.")] = False
) -> None:
    """List the jobs of maskray, the newest last.

    Example: maskray jobs list --address http://head:8265
    """
    from maskray.platform.job.cluster_jobs import list_jobs

    jobs = list_jobs(address)
    if as_json:
        print(json.dumps([job.as_dict() for job in jobs], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    from maskray.platform.machine.terminal import escape

    table = Table("id", "run", "status", "began", "minutes", "exit code")
    for job in jobs:
        began = "-" if job.began is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(job.began))
        minutes = "-" if job.began is None else f"{((job.ended or time.time()) - job.began) / 60:.1f}"
        code = "-" if job.exit_code is None else str(job.exit_code)
        table.add_row(escape(job.submission_id), escape(job.name), job.status, began, minutes, code)
    Console().print(table)


@app.command()
def logs(
    submission_id: Id,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends, with its exit code.")] = False,
) -> None:
    """Print what a job has printed.

    Example: maskray jobs logs demo-0123456789 --address http://head:8265 --follow
    """
    from maskray.platform.job.cluster_jobs import read_log
    from maskray.platform.job.submission import follow_job

    if follow:
        raise typer.Exit(follow_job(submission_id, address))
    print(read_log(submission_id, address), end="")


@app.command()
def stop(submission_id: Id, address: Address) -> None:
    """Stop a job after a checkpoint and wait for its end.

    Example: maskray jobs stop demo-0123456789 --address http://head:8265
    """
    from maskray.platform.job.cluster_jobs import stop_job

    print(f"{submission_id}: {stop_job(submission_id, address)}")


@app.command()
def resume(
    submission_id: Id,
    address: Address,
    working_dir: Annotated[Path | None, typer.Option(help="Folder to send along, as of `submit`.")] = None,
    wheel: Annotated[Path | None, typer.Option(help="Wheel of maskray, as of `submit`.")] = None,
) -> None:
    """Go on with the run of a job that has ended.

    Example: maskray jobs resume demo-0123456789 --address http://head:8265
    """
    from maskray.platform.job.cluster_jobs import resume_job

    print(f"submitted {resume_job(submission_id, address, working_dir, wheel)}")
