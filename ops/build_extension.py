"""Builds the C++ and CUDA extension: `_C` (schemas, CPU kernels) and `_coco` (evaluation, without torch), and `_C_cuda`
(CUDA kernels) where it can be.

setuptools imports this file while torch may not be importable (an isolated build environment does not see it), so
nothing here imports torch: its headers, libraries and version are found as files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

# The oldest torch whose stable ABI the library may use; one binary then serves it and every later one.
TORCH_TARGET_VERSION = "0x020b000000000000"  # 2.11
CUDA_ARCHITECTURES = "8.0;9.0+PTX"
# No contraction into fused multiply-add: the same numbers on every instruction set, and on CPU as on CUDA.
CXX_FLAGS = ["-std=c++20", "-O3", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wno-psabi"]
NVCC_FLAGS = ["-std=c++20", "-O3", "-fmad=false", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-DUSE_CUDA"]
# A source named *_isa.cpp is compiled once per instruction set (ISA); the one the machine has is chosen when loaded.
X86_ISAS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


@dataclass(frozen=True)
class Torch:
    """Where torch is installed and what it was built with."""

    folder: Path
    version: str
    cuda: str | None

    @property
    def includes(self) -> list[str]:
        """Compiler flags that find torch's headers."""
        root = self.folder / "include"
        return [f"-I{root}", f"-I{root / 'torch/csrc/api/include'}"]


@dataclass(frozen=True)
class Compilation:
    """One object file: the source, the command without source and output, and what else its content depends on."""

    source: Path
    command: list[str]
    headers: list[Path] = field(default_factory=list)
    isa: str = ""

    def object_file(self, folder: Path, toolchain: str) -> Path:
        """Path of the object; its name holds a digest of everything that it is made from."""
        digest = hashlib.sha256("\0".join([toolchain, *self.command]).encode())
        for path in [self.source, *self.headers]:
            digest.update(path.read_bytes())
        name = f"{self.source.parent.name}_{self.source.stem}{'_' + self.isa if self.isa else ''}"
        return folder / f"{name}-{digest.hexdigest()[:16]}.o"


def find_torch() -> Torch:
    """Find the torch of this environment without importing it; RuntimeError when there is none."""
    spec = importlib.util.find_spec("torch")
    folders = [Path(spec.origin).parent] if spec is not None and spec.origin else []
    folders += [Path(sysconfig.get_paths()[scheme]) / "torch" for scheme in ("platlib", "purelib")]
    for folder in folders:
        if (folder / "include/torch/csrc/stable/library.h").exists():
            values = runpy.run_path(str(folder / "version.py"))
            return Torch(folder, str(values["__version__"]), values.get("cuda"))
    raise RuntimeError(
        f"maskray's extension needs torch >= 2.11 installed beside {sys.executable}: install torch first, then run "
        "`pip install --no-build-isolation --no-deps .`"
    )


def find_cuda(torch: Torch) -> tuple[Path | None, str]:
    """The CUDA toolkit that fits torch, or None and the reason why there is none."""
    if torch.cuda is None:
        return None, f"torch {torch.version} is a CPU build"
    # Not from the nvcc on the PATH: it may be a link or a wrapper outside its toolkit, whose libraries would be missed.
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    home = Path(named or "/usr/local/cuda")
    nvcc = home / "bin/nvcc"
    if not nvcc.exists():
        return None, f"no CUDA toolkit at {home} (set CUDA_HOME)"
    text = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    if found is None or found[1] != torch.cuda.split(".")[0]:
        version = f"{found[1]}.{found[2]}" if found else "unknown"
        return None, f"the toolkit at {home} is CUDA {version}, torch was built with CUDA {torch.cuda}"
    return home, ""


def architecture_flags(architectures: str) -> list[str]:
    """The nvcc flags of a list such as "8.0;9.0+PTX" (the form of TORCH_CUDA_ARCH_LIST)."""
    flags = []
    for name in re.split(r"[;\s]+", architectures.strip()):
        found = re.fullmatch(r"(\d+)\.(\d+[af]?)(\+PTX)?", name)
        if found is None:
            raise ValueError(f"TORCH_CUDA_ARCH_LIST: {name!r} is not of the form 9.0 or 9.0+PTX")
        number = found[1] + found[2]
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if found[3]:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


class BuildOps(build_ext):
    """Compiles the sources of `_C` and `_C_cuda`; objects are kept in build/ops and made again only when changed."""

    def finalize_options(self) -> None:
        """Leave out `_C_cuda` where there is no fitting toolkit, and say why."""
        super().finalize_options()
        self.torch = find_torch()
        self.cuda_home, reason = find_cuda(self.torch)
        if self.cuda_home is None:
            print(f"maskray: building without CUDA kernels: {reason}")
            kept = [ext for ext in self.distribution.ext_modules if not ext.name.endswith("_cuda")]
            self.distribution.ext_modules = kept
            self.extensions = kept

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one library; libtorch is already in the process when it is loaded, so no path is stored."""
        cuda = ext.name.endswith("_cuda")
        compilations = self._cuda_compilations(ext) if cuda else self._cpu_compilations(ext)
        folder = Path("build/ops")
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda item: self._compile(item, folder), compilations))
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [self._cxx(), "-shared", "-o", str(target), *map(str, objects), "-Wl,-s"]
        if not ext.name.endswith("_coco"):
            command += [f"-L{self.torch.folder / 'lib'}", "-ltorch_cpu", "-ltorch"]
        if cuda:
            # Some distributions' linkers drop a library that no symbol names yet; the CUDA ones must be loaded.
            command += ["-Wl,--no-as-needed", "-ltorch_cuda", f"-L{self.cuda_home}/lib64", "-lcudart"]
        self._run(command)

    def copy_extensions_to_source(self) -> None:
        """Put the libraries into ops/ by renaming: processes that run with the old file keep it."""
        build_py = self.get_finalized_command("build_py")
        for ext in self.extensions:
            inplace, regular = self._get_inplace_equivalent(build_py, ext)
            temporary = f"{inplace}.{os.getpid()}.new"
            shutil.copyfile(regular, temporary)
            os.replace(temporary, inplace)

    def _cpu_compilations(self, ext: Extension) -> list[Compilation]:
        base = [self._cxx(), *CXX_FLAGS, f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}ULL", *self.torch.includes]
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        isas = X86_ISAS if x86 else {"baseline": []}
        headers = sorted(Path("ops/csrc").rglob("*.h"))
        result = []
        for source in map(Path, ext.sources):
            if source.stem.endswith("_isa"):
                for isa, flags in isas.items():
                    command = [*base, *flags, f"-DMASKRAY_ISA={isa}"]
                    result.append(Compilation(source, command, headers, isa))
            else:
                result.append(Compilation(source, base, headers))
        return result

    def _cuda_compilations(self, ext: Extension) -> list[Compilation]:
        command = [f"{self.cuda_home}/bin/nvcc", *NVCC_FLAGS, f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}ULL"]
        command += architecture_flags(os.environ.get("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHITECTURES)
        command += self.torch.includes
        headers = sorted(Path("ops/csrc").rglob("*.h"))
        return [Compilation(source, command, headers) for source in map(Path, ext.sources)]

    def _cxx(self) -> str:
        return os.environ.get("CXX", "c++")

    def _compile(self, compilation: Compilation, folder: Path) -> Path:
        target = compilation.object_file(folder, self.torch.version)
        if not target.exists():
            temporary = target.with_suffix(f".{os.getpid()}.tmp.o")
            self._run([*compilation.command, "-c", str(compilation.source), "-o", str(temporary)])
            temporary.rename(target)
        return target

    def _run(self, command: list[str]) -> None:
        print(" ".join(command))
        done = subprocess.run(command, capture_output=True, text=True)
        if done.stdout or done.stderr:
            print(done.stdout, done.stderr, sep="")
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise RuntimeError(f"{Path(command[0]).name} failed: {lines[0] if lines else done.returncode}")
