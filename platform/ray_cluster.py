"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os


def connect(address: str | None = None, local_cpus: int = 4) -> None:
    """Join the cluster at an address, or in RAY_ADDRESS, or start one on this machine; nothing if already joined.

    A cluster started here listens on this machine only and asks for no token unless RAY_AUTH_MODE says otherwise: the
    mode has to be the same on all sides, so it is set and not left to Ray's default. Raises ConnectionError where no
    cluster answers. What workers print goes to Ray's log files: their failures come back as errors, and progress is
    shown by the stages themselves.
    """
    import ray

    if ray.is_initialized():
        return
    for chatty in ("ray.data", "ray.train", "ray.serve"):  # they tell what they do, at each call
        logging.getLogger(chatty).setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=local_cpus, include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    else:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
