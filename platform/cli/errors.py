"""How the command line tells an error: one readable line (one per mistake in a job file), never a bare traceback."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import NoReturn, TextIO

from maskray.platform.job.plain_text import without_controls

HINTS = {
    "ConnectionError": "is the server running, and is this its address?",
    "AuthenticationError": "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN=<the token of the cluster>",
    "OutOfMemoryError": "use fewer images per batch, or a machine with more memory",
    "ObjectStoreFullError": "the shared memory of Ray is full: `maskray doctor` shows its size",
}
# Packages whose errors say what the user can mend; all other surprises are kept with their traceback.
TOLD_MODULES = ("ray.", "mlflow.", "maskray.", "pyarrow.", "httpx", "requests.", "torch.distributed")

# Set by Ray for the driver of a submitted job: what it prints is kept, its temporary files are not.
IN_CLUSTER_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def tell_error(error: BaseException, verbose: bool, stream: TextIO | None = None) -> None:
    """Write an error to a stream (stderr), after its traceback if verbose."""
    stream = sys.stderr if stream is None else stream
    cause = root_cause(error)
    if verbose:
        traceback.print_exception(error, file=stream)
    print(f"error: {without_controls(describe(cause))}", file=stream)
    hint = HINTS.get(type(cause).__name__)
    if hint:
        print(f"hint: {hint}", file=stream)
    if not verbose and not is_told(cause):
        if IN_CLUSTER_JOB in os.environ:
            traceback.print_exception(error, file=stream)
        else:
            print(f"this was not expected; the traceback is in {_save_traceback(error)}", file=stream)


def end_now(line: str, code: int) -> NoReturn:
    """Say a line and end this process without asking anything of Ray, which may be in the middle of something.

    What belongs to this process in a cluster ends with it, and so does a cluster that it has started.
    """
    print(without_controls(line), file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def root_cause(error: BaseException) -> BaseException:
    """The error that a worker, task or actor raised, without the layers that Ray put around it."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        failures = getattr(error, "worker_failures", None)
        inner = next(iter(failures.values()), None) if isinstance(failures, dict) else None
        inner = inner or getattr(error, "cause", None) or getattr(error, "training_failed_error", None)
        if isinstance(inner, BaseException):
            error = inner
    return error


def describe(error: BaseException) -> str:
    """The message of an error, its type in front where the message alone says little."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    text = str(error).strip()
    if type(error) is ValueError and text:
        return text
    first_line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    name = type(error).__name__
    if type(error).__module__.startswith("maskray."):
        return text or name
    return f"{name}: {first_line}" if first_line else name


def is_told(error: BaseException) -> bool:
    """Whether the message is meant for users, so that no traceback needs to be kept."""
    module = type(error).__module__
    return isinstance(error, ValueError | OSError) or any(module.startswith(name) for name in TOLD_MODULES)


def _save_traceback(error: BaseException) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="maskray-", suffix=".traceback", delete=False) as file:
        traceback.print_exception(error, file=file)
    return file.name
