"""Where a job runs and what it reads: for its way to a cluster, every node of which has to see the same paths."""

from __future__ import annotations

from collections.abc import Iterator

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource, ImagesSource, ShardSource, UnlabelledSource
from maskray.platform.job.distill_config import DistillConfig


def move_job(job: JobConfig, address: str) -> JobConfig:
    """The job for the cluster at an address."""
    return job.model_copy(update={"resources": job.resources.model_copy(update={"address": address})})


def read_paths(job: JobConfig) -> Iterator[tuple[str, str]]:
    """Dotted key and path of everything that a job reads."""
    yield from _source_paths("data.train", job.data.train)
    yield from _source_paths("data.val", job.data.val)
    models = [("train.initial_weights", job.train.initial_weights)]
    if isinstance(job, DistillConfig):
        yield from _source_paths("distill.unlabelled", job.distill.unlabelled)
        models.append(("distill.teacher", job.distill.teacher))
    for key, weights in models:
        if weights is not None and not weights.startswith(("torchvision:", "models:/")):
            yield key, weights


def _source_paths(key: str, source: UnlabelledSource) -> Iterator[tuple[str, str]]:
    if isinstance(source, CocoSource):
        yield f"{key}.annotations", source.annotations
        yield f"{key}.images", source.images
    if isinstance(source, ShardSource | FilesSource | ImagesSource):
        yield f"{key}.path", source.path
    if isinstance(source, FilesSource | ImagesSource) and source.images is not None:
        yield f"{key}.images", source.images
