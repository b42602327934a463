"""Where a job runs and what it reads: for its way to a cluster, every node of which has to see the same paths."""

from __future__ import annotations

from collections.abc import Iterator

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource, ShardSource


def move_job(job: JobConfig, address: str) -> JobConfig:
    """The job for the cluster at an address."""
    return job.model_copy(update={"resources": job.resources.model_copy(update={"address": address})})


def read_paths(job: JobConfig) -> Iterator[tuple[str, str]]:
    """Dotted key and path of everything that a job reads."""
    for split in ("train", "val"):
        source = getattr(job.data, split)
        if isinstance(source, CocoSource):
            yield f"data.{split}.annotations", source.annotations
            yield f"data.{split}.images", source.images
        if isinstance(source, ShardSource | FilesSource):
            yield f"data.{split}.path", source.path
        if isinstance(source, FilesSource) and source.images is not None:
            yield f"data.{split}.images", source.images
    weights = job.train.initial_weights
    if weights is not None and not weights.startswith(("torchvision:", "models:/")):
        yield "train.initial_weights", weights
