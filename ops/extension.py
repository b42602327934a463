"""Loads the compiled operators into torch: `_C` always, `_C_cuda` beside a CUDA build of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

HOW_TO_BUILD = "build it with `make setup` (or `pip install --no-build-isolation --no-deps -e .`)"


def load_extension() -> None:
    """Register torch.ops.maskray.*; ImportError that says how to build it when the library is missing or does not fit.

    Loading twice does nothing. Without `_C_cuda` the operators work on the CPU, and torch names the missing backend
    when they are given CUDA tensors.
    """
    folder = Path(__file__).parent
    _load(folder / "_C.abi3.so")
    cuda = folder / "_C_cuda.abi3.so"
    if torch.version.cuda is not None and cuda.exists():
        _load(cuda)


@contextmanager
def refusals(*names: str) -> Iterator[None]:
    """Turn what a kernel refuses, whose message begins with one of these argument names, into ValueError.

    Kernels check contents that no shape shows (text, offsets) where they read them; torch hands their exceptions on as
    RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(tuple(f"{name}: " for name in names)):
            raise ValueError(str(error)) from None
        raise


def _load(library: Path) -> None:
    if not library.exists():
        raise ImportError(f"maskray's operators are not built: {library} is missing; {HOW_TO_BUILD}")
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise ImportError(
            f"{library.name} does not load beside torch {torch.__version__}: {error}; {HOW_TO_BUILD}"
        ) from error
