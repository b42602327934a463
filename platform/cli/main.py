"""The command line: `maskray COMMAND`; every heavy import waits until a command needs it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from maskray.platform.cli import (
    benchmark,
    compare,
    data,
    export,
    import_model,
    inference,
    jobs,
    models,
    new,
    quantize,
    runs,
    serve,
    sweep,
)
from maskray.platform.cli.errors import end_now, tell_error
from maskray.platform.machine.proxies import reach_loopback_directly

app = typer.Typer(
    name="maskray",
    help="Train, evaluate and serve Mask R-CNN on a Ray cluster. A job is a YAML file: `maskray run jobs/demo.yaml`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the job, e.g. train.steps=100; repeatable."),
]

IfStarted = Annotated[
    bool, typer.Option("--resume-if-started", help="Start the run, or continue it, or do nothing where it is finished.")
]


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error; valid anywhere.")] = False,
) -> None:
    """Options of every command; main() takes --verbose out of the arguments before they get here."""


@app.command(rich_help_panel="Jobs")
def run(
    job_file: JobFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run of this name.")] = False,
    if_started: IfStarted = False,
) -> None:
    """Run a job from data to registered model, or a sweep to its table, on this machine or the cluster it names.

    SIGTERM and the interrupt end it with a checkpoint of the present step, exit codes 75 and 130.

    Example: maskray run jobs/demo.yaml --set train.steps=100
    """
    from maskray.platform.cli.plan import print_plan
    from maskray.platform.job.kinds import check_any, load_any, progress_of, run_any

    job = load_any(job_file, overrides or [])
    if if_started:
        progress = progress_of(job)
        resume = resume or progress == "started"
        if progress == "finished":
            print(f"{job.name} is finished already: nothing to do")
            return
    checked = check_any(job, weights=False)
    print_plan(checked)
    if checked.problems:
        raise typer.Exit(1)
    from maskray.platform.machine.ray_cluster import leave
    from maskray.platform.machine.stop_signals import StopRequested

    try:
        run_any(job, resume=resume)
    except StopRequested as stop:
        sets = [part for override in overrides or [] for part in ("--set", override)]
        command = shlex.join(["maskray", "run", str(job_file), *sets, *(["--resume"] if stop.resumable else [])])
        end_now(
            f"{stop}; {'go on' if stop.resumable else 'nothing is kept: begin again'} with: {command}", stop.exit_code
        )
    finally:
        leave()


@app.command(rich_help_panel="Jobs")
def check(
    job_file: JobFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan and the resolved job as JSON.")] = False,
) -> None:
    """Validate a job and show what it is going to do; nothing is started, and exit code 1 says that it cannot work.

    That takes less than a second, or some more where it starts from weights: what it takes of them is shown too.

    Example: maskray check jobs/demo.yaml
    """
    from maskray.platform.cli.plan import print_plan
    from maskray.platform.job.kinds import check_any, load_any

    checked = check_any(load_any(job_file, overrides or []))
    if as_json:
        print(json.dumps(checked.as_dict(), indent=1))
    else:
        print_plan(checked)
    if checked.problems:
        raise typer.Exit(1)


@app.command(rich_help_panel="Jobs")
def submit(
    job_file: JobFile,
    address: Annotated[str, typer.Option(help="Dashboard of the cluster, e.g. http://head:8265.", show_default=False)],
    overrides: Overrides = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the log; exit with the job's exit code.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run of this name.")] = False,
    working_dir: Annotated[
        Path | None, typer.Option(help="Folder to send along; relative paths of the job start there.")
    ] = None,
    wheel: Annotated[Path | None, typer.Option(help="Wheel of maskray, for machines that do not have it.")] = None,
    if_started: IfStarted = False,
) -> None:
    """Send a job to a Ray cluster. With token authentication export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN first.

    With --wait the exit code is that of the job, or 69 where the dashboard was lost and nobody knows.

    Example: maskray submit jobs/demo.yaml --address http://head:8265 --wait
    """
    from maskray.platform.job.kinds import load_any

    job = load_any(job_file, overrides or [])
    from maskray.platform.job.submission import LOST_CODE, DashboardLostError, follow_job, submit_job

    submission_id = submit_job(job, address, resume, working_dir, wheel, if_started)
    print(f"submitted {submission_id}", flush=True)
    if wait:
        try:
            raise typer.Exit(follow_job(submission_id, address))
        except DashboardLostError as error:
            tell_error(error, verbose=False)
            raise typer.Exit(LOST_CODE) from None


# Registered here for the order of the help: jobs, models and data, set-up.
app.command("new", rich_help_panel="Jobs")(new.new)
app.command("evaluate", rich_help_panel="Models and data")(inference.evaluate)
app.command("compare", rich_help_panel="Models and data")(compare.compare)
app.command("predict", rich_help_panel="Models and data")(inference.predict)
app.command("benchmark", rich_help_panel="Models and data")(benchmark.benchmark)
app.command("serve", rich_help_panel="Models and data")(serve.serve)
models.app.command("import")(import_model.import_model)
models.app.command("export")(export.export)
models.app.command("quantize")(quantize.quantize)
app.add_typer(jobs.app, name="jobs", rich_help_panel="Jobs")
app.add_typer(runs.app, name="runs", rich_help_panel="Jobs")
app.add_typer(sweep.app, name="sweep", rich_help_panel="Jobs")
app.add_typer(models.app, name="models", rich_help_panel="Models and data")
app.add_typer(data.app, name="data", rich_help_panel="Models and data")
app.add_typer(serve.keys, name="keys", rich_help_panel="Set-up")


@app.command(rich_help_panel="Set-up")
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; none prints it.", show_default=False)] = None,
) -> None:
    """Write the JSON schema of job files, with which editors complete and check them.

    Example: maskray schema --out jobs/schema.json
    """
    from maskray.platform.job.schema import schema_text, write_schema

    if out is None:
        print(schema_text(), end="")
    else:
        write_schema(out)


@app.command(rich_help_panel="Set-up")
def doctor(
    output: Annotated[Path, typer.Option(help="Folder that runs are going to be written to.")] = Path("outputs"),
    ray: Annotated[bool, typer.Option("--ray", help="Also start a Ray cluster and stop it (10 s).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine: versions, compiled ops, memory, disk; exit code 1 when something is wrong.

    Example: maskray doctor --ray
    """
    from maskray.platform.cli.tables import print_findings
    from maskray.platform.machine.doctor import examine

    findings = examine(output, start_ray=ray)
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        print_findings(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and leave with its exit code: 0 done, 1 error, 2 usage, 75 SIGTERM, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    reach_loopback_directly(os.environ)
    verbose = "--verbose" in arguments
    try:
        app([argument for argument in arguments if argument != "--verbose"], prog_name="maskray")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        tell_error(error, verbose)
        sys.exit(1)


if __name__ == "__main__":
    main()
