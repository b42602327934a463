"""The run on the tracking server that the trials of a sweep belong to, and where its pages are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.load import public_job
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.registry.server_errors import wait_for_server
from maskray.platform.registry.tracking import TRAINING_VIEW, RunStatus, Tracking
from maskray.platform.sweep.table import SweepTable
from maskray.platform.sweep.table_files import TABLE_FILES
from maskray.platform.sweep.trial_record import TrialRecord
from maskray.platform.sweep.trials import slug

STATE_FILE = "sweep.json"
Result = TypeVar("Result")


@dataclass(frozen=True)
class ParentRun:
    """A run of the tracking server at `uri`; a server that is away is waited for, and `tell` says so."""

    tracking: Tracking
    run_id: str
    tell: Callable[[str], None]

    @property
    def uri(self) -> str:
        """The tracking server."""
        return self.tracking.uri

    def end_child(self, run_id: str | None, status: RunStatus) -> None:
        """End the run of a trial whose own process is gone, if it had one."""
        if run_id is not None:
            self.wait(lambda: self.tracking.finish_run(run_id, status))

    def give_up(self, begun: Sequence[str | None], status: RunStatus) -> None:
        """End the run of a sweep that could not go on, and those of the trials under way, if the server is there."""
        try:
            self.tracking.check_server()
            for run_id in filter(None, [*begun, self.run_id]):
                self.tracking.finish_run(run_id, status)
        except ValueError as error:
            self.tell(f"not on the tracking server: the end of the sweep's run: {error}")

    def wait(self, work: Callable[[], Result]) -> Result:
        """Do what needs the tracking server, and wait for it as long as the sweep allows."""
        return wait_for_server(work, self.tracking.config.wait_seconds, self.tell)


def start_parent(sweep: SweepConfig, config: TrackingConfig, folder: Path, tell: Callable[[str], None]) -> ParentRun:
    """Create the sweep's run, or take up the one that was created before."""
    tracking, seconds = Tracking(config, sweep.output), config.wait_seconds
    path = folder / STATE_FILE
    if path.is_file():
        run_id, _ = read_parent(folder)
        wait_for_server(lambda: tracking.resume_run(run_id), seconds, tell)
    else:
        tags = {"sweep": sweep.name, "variant": "(all)"}
        run_id = wait_for_server(lambda: tracking.start_group(sweep.name, tags), seconds, tell)
        write_whole(path, json.dumps({"run_id": run_id, "uri": tracking.uri}))
    return ParentRun(tracking, run_id, tell)


def read_parent(folder: Path) -> tuple[str, str]:
    """Run id and tracking server of the sweep in a folder; ValueError where none was begun there."""
    path = folder / STATE_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: no sweep was begun here (no {STATE_FILE})")
    state = json.loads(path.read_text(encoding="utf-8"))
    return str(state["run_id"]), str(state["uri"])


def finish_parent(parent: ParentRun, sweep: SweepConfig, table: SweepTable, folder: Path) -> None:
    """Log means of all variants, the table's files and the sweep itself, and end the run; may be repeated."""
    means = {
        f"{slug(row.label)}/{metric}": row.mean(metric)
        for row in table.rows
        for metric in table.metrics
        if not math.isnan(row.mean(metric))
    }
    if means:
        parent.tracking.log_changed_metrics(parent.run_id, means, 0)
    parent.tracking.log_text(parent.run_id, public_job(sweep), "sweep.yaml")
    for name in TABLE_FILES:
        parent.tracking.log_artifact(parent.run_id, folder / name)
    complete = all(len(row.seeds) + row.stopped == row.num_trials for row in table.rows)
    parent.tracking.finish_run(parent.run_id, "FINISHED" if complete else "FAILED")


def compare_url(server: str, experiment_id: str, records: Sequence[TrialRecord], metric: str) -> str:
    """MLflow's page of a metric of the trials which have a run, such as segm/AP; ValueError where none has.

    Its page of all metrics is one step from there, and begins with the loss.
    """
    runs = [record.run_id for record in records if record.run_id is not None]
    if not runs:
        raise ValueError("no trial of this sweep has begun")
    named = json.dumps(f"final/{metric}")
    asked = {
        "runs": json.dumps(runs),
        "metric": named,
        "experiments": json.dumps([experiment_id]),
        "plot_metric_keys": f"[{named}]",
        "plot_layout": "{}",
        "x_axis": "step",
        "y_axis_scale": "linear",
        "line_smoothness": "1",
        "show_point": "true",
        "deselected_curves": "[]",
        "last_linear_y_axis_range": "[]",
    }
    return f"{server.rstrip('/')}/#/metric?{urlencode(asked, quote_via=quote)}&{TRAINING_VIEW}"
