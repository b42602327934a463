"""What this machine offers for training and serving, and what is wrong with it: the findings of `maskray doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

GIB = 2**30
# RoIAlign of the numbers 0..24 as a 5x5 map, box (1, 1, 3, 3), output 4x4: the first row, by hand.
ROI_ALIGN_ROW = (4.5, 5.0, 5.5, 6.0)
PORTS = {8000: "maskray serve", 8265: "the dashboard of a Ray cluster"}


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `remedy` says how to mend what is not ok."""

    name: str
    state: Literal["ok", "warning", "wrong"]
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The same as plain values for JSON."""
        return asdict(self)


def examine(output: Path, start_ray: bool = False) -> list[Finding]:
    """Examine this machine; nothing is changed, but which precision pays is remembered for this user.

    `output` is where runs would be written, `start_ray` takes ten seconds.

    A check that fails in a way that was not foreseen is a finding too, so that the others are still made.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        check_python,
        check_packages,
        check_gpu,
        check_ops,
        check_precision,
        check_memory,
        lambda: check_output(output),
        lambda: check_ports(PORTS),
        check_authentication,
    ]
    if start_ray:
        checks.append(check_ray)
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:
            name = getattr(check, "__name__", "check").removeprefix("check_")
            findings.append(Finding(name, "wrong", f"{type(error).__name__}: {error}".splitlines()[0]))
    return findings


def check_python() -> Iterator[Finding]:
    """Python's version, and that `import platform` means the standard library here."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("python", "ok" if good else "wrong", version, "" if good else "use Python 3.11 or 3.12")
    import platform

    if not hasattr(platform, "system"):
        yield Finding("import platform", "wrong", "is a folder of this directory", "delete platform/__init__.py")


def check_packages() -> Iterator[Finding]:
    """Every dependency that maskray declares: installed, and in a version that it is made for."""
    shown = ("torch", "torchvision", "ray", "mlflow")
    for line in importlib.metadata.requires("maskray") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "wrong", "not installed", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wanted = f"{version}, maskray is made for {requirement.specifier}"
            yield Finding(requirement.name, "wrong", wanted, f"pip install '{requirement}'")
        elif requirement.name in shown:
            yield Finding(requirement.name, "ok", version)


def check_gpu() -> Iterator[Finding]:
    """GPUs that torch can use, their driver, and the toolkit that would compile the CUDA kernels."""
    import torch

    if torch.version.cuda is None:
        yield Finding("GPU", "ok", "none: this torch is built for CPU")
        return
    driver = _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("GPU", "ok", f"{names}, driver {driver}, torch for CUDA {torch.version.cuda}")
    elif driver:
        remedy = f"install a driver for CUDA {torch.version.cuda}"
        yield Finding("GPU", "wrong", f"driver {driver}, but torch cannot use it", remedy)
    else:
        yield Finding("GPU", "ok", f"none (torch is built for CUDA {torch.version.cuda})")
    home = Path(os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda")
    release = _output_of(str(home / "bin/nvcc"), "--version")
    found = next((line.strip() for line in release.splitlines() if "release" in line), None)
    yield Finding("CUDA toolkit", "ok", found or f"none at {home}: CUDA kernels can not be compiled here")


def check_ops() -> Iterator[Finding]:
    """The compiled operations: they load, and give the known value of RoIAlign on each device."""
    import torch

    rebuild = "build them: pip install --no-build-isolation --no-deps -e ."
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        name = f"compiled ops, {device}"
        try:
            row = _roi_align_row(device)
        except (ImportError, OSError, RuntimeError) as error:
            yield Finding(name, "wrong", str(error).splitlines()[0], rebuild)
            continue
        good = all(abs(value - known) < 1e-5 for value, known in zip(row, ROI_ALIGN_ROW, strict=True))
        shown = ", ".join(f"{value:g}" for value in row)
        detail = f"RoIAlign gives {shown}" + ("" if good else f" and not {ROI_ALIGN_ROW}")
        yield Finding(name, "ok" if good else "wrong", detail, "" if good else rebuild)


def check_precision() -> Iterator[Finding]:
    """What `inference.precision: auto` takes on this processor, and what the other one would cost."""
    from maskray.platform.machine.precision import measured_precision

    yield Finding("precision auto", "ok", str(measured_precision()))


def check_memory() -> Iterator[Finding]:
    """Cores, memory that this process may use, and the shared memory that Ray keeps objects in."""
    yield Finding("cores", "ok", str(len(os.sched_getaffinity(0))))
    memory = _memory_bytes()
    yield _size("memory", memory, 6 * GIB, 3 * GIB, "use fewer workers, smaller images or a larger machine")
    shared = shutil.disk_usage("/dev/shm").total
    remedy = "start the container with --shm-size=4g; until then Ray keeps objects on disk, slowly"
    yield _size("/dev/shm", shared, min(2 * GIB, memory // 4), 0, remedy)


def check_output(output: Path) -> Iterator[Finding]:
    """The folder that runs are written to: writable, with room."""
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Finding("output", "ok", f"{output} can be written")
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding("output", "wrong", f"{folder}: {reason.lower()}", "choose another folder: --set output=...")
    yield _size("disk", shutil.disk_usage(folder).free, 10 * GIB, 2 * GIB, "make room, or choose another output")


def check_ports(ports: dict[int, str]) -> Iterator[Finding]:
    """Whether the usual ports are free on this machine."""
    for port, purpose in ports.items():
        with socket.socket() as probe:
            busy = probe.connect_ex(("127.0.0.1", port)) == 0
        detail = f"in use, and it is the usual port of {purpose}" if busy else f"free for {purpose}"
        yield Finding(f"port {port}", "warning" if busy else "ok", detail, "name another with --port" if busy else "")


def check_authentication() -> Iterator[Finding]:
    """Ray's token authentication: the mode has to be the same on all sides, and a token needs the mode."""
    mode = os.environ.get("RAY_AUTH_MODE")
    token = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode == "token" and not token and not (Path.home() / ".ray/auth_token").exists():
        yield Finding("RAY_AUTH_MODE", "wrong", "token, but there is no token", "export RAY_AUTH_TOKEN=<token>")
    else:
        yield Finding("RAY_AUTH_MODE", "ok", mode or "not set: clusters started here ask for a token")


def check_ray() -> Iterator[Finding]:
    """Start a Ray cluster on this machine, run one task, stop it."""
    import ray

    from maskray.platform.machine.ray_cluster import connect, leave

    started = time.perf_counter()
    connect(None, 1)
    try:
        answer = ray.get(ray.remote(lambda: 1).remote(), timeout=60)
    finally:
        leave()
    seconds = time.perf_counter() - started
    yield Finding("Ray", "ok" if answer == 1 else "wrong", f"started, ran a task and stopped in {seconds:.0f} s")


def _size(name: str, size: int, enough: int, least: int, remedy: str) -> Finding:
    state: Literal["ok", "warning", "wrong"] = "ok" if size >= enough else "warning" if size >= least else "wrong"
    return Finding(name, state, f"{size / GIB:.1f} GiB", "" if state == "ok" else remedy)


def _memory_bytes() -> int:
    """Memory of the machine, or of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # another kind of cgroup, or "max"
            total = min(total, int(Path(path).read_text()))
    return total


def _output_of(*command: str) -> str:
    """What a program prints, or nothing where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _roi_align_row(device: str) -> list[float]:
    import torch

    from maskray.ops.roi_align import roi_align

    features = torch.arange(25, dtype=torch.float32, device=device).reshape(1, 1, 5, 5)
    box = torch.tensor([[0.0, 1.0, 1.0, 3.0, 3.0]], device=device)
    row: list[float] = roi_align(features, box, (4, 4))[0, 0, 0].tolist()
    return row
