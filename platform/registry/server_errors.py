"""How errors of MLflow and its database become one line, and which of them pass by waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")
LONGEST_PAUSE_SECONDS = 15.0
# Of MLflow; INTERNAL_ERROR is also what its client says of a server that it cannot reach.
PASSING_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
HINTS = {
    "PERMISSION_DENIED": "permission denied, or not found: the server does not tell which",
    "UNAUTHENTICATED": "the server asks for a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}


class ServerAwayError(ValueError):
    """The tracking server or its database does not answer; the same may succeed when it is back."""


@contextmanager
def readable_errors(what: str) -> Iterator[None]:
    """Turn exceptions of MLflow and its database into a ValueError of one line that says what was being done.

    It is a ServerAwayError where the server could not be reached or failed by itself.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        kind = ServerAwayError if error.error_code in PASSING_CODES else ValueError
        raise kind(f"{what}: {HINTS.get(error.error_code) or _one_line(error.message)}") from error
    except RequestException as error:  # of artifacts, which MLflow hands on as it is
        refused = error.response is not None and error.response.status_code < 500
        kind = ValueError if refused else ServerAwayError
        raise kind(f"{what}: {_one_line(error)}") from error
    except SQLAlchemyError as error:
        kind = ServerAwayError if isinstance(error, OperationalError) else ValueError
        raise kind(f"{what}: the tracking database refuses: {_one_line(error)}") from error
    except ModuleNotFoundError as error:
        raise ValueError(f"{what}: tracking.uri needs a package that is not installed: {error.name}") from error


def wait_for_server(work: Callable[[], Result], seconds: float, tell: Callable[[str], None]) -> Result:
    """Do some work that may be repeated, again and again while the server is away, for at most `seconds`.

    `tell` gets one line when the waiting begins. Raises the last ServerAwayError when time is over.
    """
    end, pause_seconds = time.monotonic() + seconds, 0.5
    while True:
        try:
            return work()
        except ServerAwayError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            if pause_seconds == 0.5:
                tell(f"waiting up to {seconds:.0f} s for the tracking server: {error}")
            time.sleep(min(pause_seconds, left))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:500]
