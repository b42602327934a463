"""Where a run took place: versions, hardware and the commit of the code, as text that goes beside its metrics."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("maskray", "torch", "torchvision", "ray", "mlflow", "numpy", "pyarrow", "safetensors", "pycocotools")
# That decide how fast convolutions are, and in which precision; virtual machines often hide the model behind one name.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe_environment() -> dict[str, str]:
    """Versions of Python and of the packages that move metrics, and the hardware of this machine, as key and text."""
    import torch  # 2 s: those who only look at runs and versions do without

    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts = {"python": platform.python_version(), "system": platform.platform()}
    facts |= {package: importlib.metadata.version(package) for package in PACKAGES}
    facts |= {
        "cpu": _cpu_name(),
        "cpu_count": str(os.cpu_count()),
        "memory_gib": f"{memory_bytes / 2**30:.1f}",
        "cuda": str(torch.version.cuda) if torch.cuda.is_available() else "none",
        "gpus": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none",
    }
    return facts


def describe_commit(file: str = __file__) -> dict[str, str]:
    """`git_commit` and `git_dirty` (true or false) of the repository that tracks a file; empty where none does.

    A wheel unpacked inside somebody else's repository is not tracked there and so has no commit.
    """
    folder = Path(file).resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", str(Path(file).resolve())) is None:
        return {}
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {"git_commit": commit, "git_dirty": "true" if changes else "false"}


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, None where git is absent or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def processor_name() -> str:
    """Model name of the processor and what it has for inference, such as "AMD EPYC (avx512f, avx512_bf16)"."""
    has = [name for name in INSTRUCTIONS if name in _cpu_info("flags").split()]
    return _cpu_name() + (f" ({', '.join(has)})" if has else "")


def has_vnni() -> bool:
    """Whether 8-bit products are added in 32 bits here: older processors of Intel and AMD add two of them in 16."""
    flags = _cpu_info("flags").split()
    return "avx2" not in flags or not {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(flags)


def _cpu_name() -> str:
    """Model name of the processor as Linux tells it, else the architecture."""
    return _cpu_info("model name") or platform.machine()


def _cpu_info(name: str) -> str:
    """What Linux says of the first processor under a name; empty where it says nothing."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""
