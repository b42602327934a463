"""Claim: COCO metrics cost less CPU time than hotcoco's, faster-coco-eval's and pycocotools', from files and in memory.

Every evaluator runs in a process of its own, by turns; all of the same files (evaluation_case.py).
CPU seconds are user and system of all threads, medians of the rounds. `match` is matching and accumulating of what is
in memory (evaluate and accumulate of the peers), `process` all from the start of Python to the metrics. The metrics of
maskray and pycocotools are asserted to be the same to the last bit; those of the others to 1e-9.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS = ("bbox", "segm", "keypoints")
PEERS = {
    "maskray": "numpy",
    "hotcoco": "hotcoco",
    "faster-coco-eval": "faster_coco_eval",
    "pycocotools": "pycocotools",
}
MATCH_GOAL, PROCESS_GOAL, MEMORY_GOAL = 1.0, 1.2, 1.5  # of hotcoco's
PYCOCOTOOLS_GOAL = 30  # times


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_ours(gt: Path, dt: Path, kind: Any) -> tuple[float, list[float]]:
    from maskray.platform.evaluation.coco_ap import merge_columns
    from maskray.platform.evaluation.evaluate_files import match_part
    from maskray.platform.evaluation.file_columns import read_result_columns, read_truth_columns

    truth = read_truth_columns(gt, kind)
    detections = read_result_columns(dt, truth, kind)
    started = cpu_seconds()
    metrics = merge_columns([match_part(truth, detections, kind)], truth.category_ids.tolist(), kind)
    return cpu_seconds() - started, metrics.stats


def run_peer(peer: str, gt_path: Path, dt_path: Path, kind: str) -> tuple[float, list[float]]:
    if peer == "hotcoco":
        from hotcoco import COCO, COCOeval
    elif peer == "faster-coco-eval":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(gt_path))
        evaluation = COCOeval(gt, gt.loadRes(str(dt_path)), kind)
        started = cpu_seconds()
        evaluation.evaluate()
        evaluation.accumulate()
        spent = cpu_seconds() - started
        evaluation.summarize()
    return spent, [float(value) for value in evaluation.stats][: 10 if kind == "keypoints" else 12]


def run_here(peer: str, kind: str, folder: Path) -> None:
    """What one process does: the measured part and the metrics, as the last line of its output."""
    gt, dt = folder / f"gt{'_keypoints' if kind == 'keypoints' else ''}.json", folder / f"{kind}.json"
    spent, stats = run_ours(gt, dt, kind) if peer == "maskray" else run_peer(peer, gt, dt, kind)
    print(f"\n{json.dumps({'match': spent, 'stats': stats})}")


def measure(peer: str, kind: str, folder: Path) -> dict[str, Any]:
    """One process of an evaluator: match and process in CPU seconds, peak in megabytes, stats."""
    command = [sys.executable, __file__, "--run", peer, kind, "--folder", str(folder)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert status == 0, f"{peer} ended with status {status}"
        output.seek(0)
        found = json.loads(output.read().splitlines()[-1])
    return found | {"process": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1e3}


def check_equal(runs: dict[str, list[dict[str, Any]]]) -> None:
    ours = runs["maskray"][0]["stats"]
    for peer, found in runs.items():
        furthest = max(abs(a - b) for one in found for a, b in zip(one["stats"], ours, strict=True))
        assert furthest <= (0 if peer in ("maskray", "pycocotools") else 1e-9), f"{peer} differs by {furthest}"


def report(kind: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    """The lines of a table, then the goals."""
    medians = {
        peer: {key: statistics.median(one[key] for one in found) for key in ("match", "process", "peak")}
        for peer, found in runs.items()
    }
    for peer, one in medians.items():
        print(
            f"{kind:10} {peer:17} {one['match']:8.3f} {one['process']:9.3f} {one['peak']:8.0f}   {len(runs[peer])}",
            flush=True,
        )
    ours = medians["maskray"]
    for peer, key, goal in (
        ("hotcoco", "match", MATCH_GOAL),
        ("hotcoco", "process", PROCESS_GOAL),
        ("hotcoco", "peak", MEMORY_GOAL),
        ("pycocotools", "process", 1 / PYCOCOTOOLS_GOAL),
    ):
        if peer in medians:
            share = ours[key] / medians[peer][key]
            verdict = "reached" if share <= goal else "not reached"
            print(f"{'':10} {key} is {share:.3f} of {peer}'s; goal {goal:.3f} {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="of an image")
    parser.add_argument("--rounds", type=int, default=5, help="of every evaluator but pycocotools, which has one")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--folder", type=Path, help="for the files, which are kept; else a temporary one")
    parser.add_argument("--run", nargs=2, metavar=("PEER", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_here(*arguments.run, arguments.folder)
        return
    from evaluation_case import write_case

    peers = [peer for peer, module in PEERS.items() if importlib.util.find_spec(module)]
    missing = [peer for peer in PEERS if peer not in peers]
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_case(folder, arguments.images, arguments.detections)
        print(f"{arguments.images} images, {arguments.detections} detections each; {os.cpu_count()} cores")
        if missing:
            print(f"not installed, and left out: {', '.join(missing)}")
        print(f"{'kind':10} {'evaluator':17} {'match s':>8} {'process s':>9} {'peak MB':>8}   rounds")
        for kind in arguments.kinds:
            runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
            for number in range(arguments.rounds):
                for peer in peers:
                    if number == 0 or peer != "pycocotools":
                        runs[peer].append(measure(peer, kind, folder))
            check_equal(runs)
            report(kind, runs)


if __name__ == "__main__":
    main()
