"""Tests of who is let in by a real tracking server, before a run begins."""

from __future__ import annotations

import pytest

from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.access import check_access
from maskray.platform.registry.tracking import Tracking


def test_a_wrong_password_is_told_before_the_run_begins(on_sqlite, tmp_path, monkeypatch):
    """It was found after the data had been prepared, and the name of the run was taken by then."""
    check_access(on_sqlite)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(ValueError, match=r"^tracking\.uri http://.*: .*") as caught:
        check_access(on_sqlite)
    assert "\n" not in str(caught.value)
    check_access(Tracking(TrackingConfig(), tmp_path / "outputs"))
