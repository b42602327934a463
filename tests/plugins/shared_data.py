"""Where the data that no checkout holds lie, and how many tests were skipped for want of them.

The folder beside the checkout, or the one that MASKRAY_SHARED names: it holds data/ and schemas/.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("MASKRAY_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
ABSENT = "shared data are not there: "


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Gives the path of a file or folder below it; where that is absent, the test is skipped and counted."""

    def find(name: str) -> Path:
        path = FOLDER / name
        if not path.exists():
            pytest.skip(f"{ABSENT}{path}")
        return path

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("data")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())]
    absent = sum(ABSENT in reason for reason in reasons)
    if absent:
        terminalreporter.section("shared data", yellow=True)
        terminalreporter.line(f"{absent} tests skipped: they need files that are not in {FOLDER}")
