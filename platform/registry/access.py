"""Whether a tracking server lets this user in, asked before hours are spent on what it would refuse."""

from __future__ import annotations

from maskray.platform.registry.server_errors import readable_errors
from maskray.platform.registry.tracking import Tracking


def check_access(tracking: Tracking) -> None:
    """Raise ValueError of one line where an HTTP server does not answer, or not to this user and password."""
    tracking.check_server()
    if tracking.is_server:
        with readable_errors(f"tracking.uri {tracking.uri}"):
            tracking.client.search_experiments(max_results=1)
