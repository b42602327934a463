"""The part of the configuration that says how a model is served; config.py hands it on as a part of the job."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from maskray.model.config import Config, Positive
from maskray.platform.job.tta_config import TTAConfig

Runtime = Literal["torch", "openvino"]
Whole = Literal["int8"]  # numbers that weights and what goes into layers are rounded to

QUEUED_BATCHES = 8
# It goes into a header of the page: scheme, host and port, and nothing else.
ORIGIN = re.compile(r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?")


class ServeTTAConfig(Config):
    """Test-time augmentation that requests may ask for, image by image, and what it may take."""

    views: TTAConfig = Field(TTAConfig(), description="The views in which an image is then looked at.")
    max_view_pixels: Positive = Field(
        30_000_000, description="Most pixels of all views of an image together; one that has more is refused (413)."
    )


class ServeConfig(Config):
    """The HTTP server (platform/serve)."""

    host: str = Field("127.0.0.1", description="Address to listen at; anything else than loopback is a decision.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen at.")
    num_replicas: Positive = Field(1, description="Copies of the model; with max_replicas the least of them.")
    max_replicas: Positive | None = Field(None, description="Most copies that load calls up; none keeps the number.")
    cpus_per_replica: float = Field(1.0, gt=0, description="CPU cores that Ray sets aside for a replica.")
    gpus_per_replica: float = Field(
        0.0, ge=0, description="GPUs that Ray sets aside for a replica; a share such as 0.5 is possible."
    )
    runtime: Runtime = Field(
        "torch", description="What computes the model; openvino, an extra of its own, is for CPUs alone."
    )
    precision: Whole | None = Field(
        None,
        description="int8 computes in 8-bit whole numbers (openvino alone), what has ranges of `maskray models "
        "quantize`; none in inference.precision of the model.",
    )
    ranges: str | None = Field(
        None, description="Folder of ranges for int8, of every version that is to be served; none is that of the model."
    )
    max_batch_size: Positive = Field(4, description="Most images that a replica predicts at once.")
    batch_wait_seconds: float = Field(
        0.0, ge=0, description="How long an idle copy waits for more images; 0 takes what came while it computed."
    )
    max_waiting: Positive | None = Field(
        None,
        description="Most requests in work or waiting, of all copies; more get 503. None: 8 batches of every copy.",
    )
    max_request_bytes: Positive = Field(
        20_000_000, description="Most bytes of all images of a request together, encoded."
    )
    max_image_pixels: Positive = Field(50_000_000, description="Most pixels of one image.")
    max_images_per_request: Positive = Field(16, description="Most images of a request.")
    deadline_seconds: float = Field(60.0, gt=0, description="Longest that a request may take; it may ask for less.")
    drain_seconds: float = Field(30.0, ge=0, description="How long accepted requests may take when the server ends.")
    away_seconds: float = Field(
        15.0,  # with what the end takes it is told within 20
        ge=1,
        description="How long nobody may listen at the port, as between two gateways, until `maskray serve` ends with "
        "an error; more where the machine is so busy that a process takes longer to start.",
    )
    poll_alias_seconds: float = Field(5.0, gt=0, description="How often the registry is asked where the alias points.")
    api_keys_file: str | None = Field(
        None, description="File of `maskray keys add`; without one everybody who reaches the port may ask."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Web pages of other origins that may ask, e.g. https://example.com."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names that it answers to besides its own, where it listens on loopback: those of a proxy.",
    )
    max_connections_per_client: Positive = Field(
        128, description="Most open connections of one address; raise it where a proxy asks for many clients."
    )
    log_file: str | None = Field(
        None, description="File that gets a line of JSON for each request; besides they go to Ray's log files."
    )
    samples: str | None = Field(
        None,
        description="Folder of images (jpg, png, webp) that the page offers; without one it offers drawn scenes.",
    )
    compare_with: str | None = Field(
        None,
        description="Another maskray server, e.g. http://127.0.0.1:8001, that the page asks too, to compare versions; "
        "its cors_origins have to name this one.",
    )
    page_image_addresses: bool = Field(
        False,
        description="Whether the page takes addresses of images, which the reader's browser fetches and never the "
        "server; the page may then connect to anywhere.",
    )
    tta: ServeTTAConfig | None = Field(
        None,
        description="Test-time augmentation for requests that ask for it; one image takes a place of max_waiting for "
        "each view. None: it is not offered.",
    )
    check_after_training: bool = Field(False, description="Deploy the new model, send it one image and stop.")

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is less than num_replicas {self.num_replicas}")
        if self.runtime == "openvino" and self.gpus_per_replica > 0:
            raise ValueError(f"runtime openvino computes on CPUs, gpus_per_replica is {self.gpus_per_replica:g}")
        if self.precision is not None and self.runtime != "openvino":
            raise ValueError(f"precision {self.precision} is of runtime openvino, not of {self.runtime}")
        if self.ranges is not None and self.precision is None:
            raise ValueError("ranges are of precision int8, which is not asked for")
        if self.tta is not None and self.tta.views.num_views > self.most_waiting:
            views = self.tta.views.num_views
            raise ValueError(f"tta: {views} views of an image are more than the {self.most_waiting} of max_waiting")
        for origin in self.cors_origins:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise ValueError(f"cors_origins: {origin!r} does not begin with http:// or https://")
        if self.compare_with is not None and not ORIGIN.fullmatch(self.compare_with):
            raise ValueError(f"compare_with: {self.compare_with!r} is not like http://HOST:PORT, without a path")
        return self

    @property
    def most_replicas(self) -> int:
        """Copies of the model at the height of load."""
        return self.max_replicas or self.num_replicas

    @property
    def most_waiting(self) -> int:
        """Requests that are accepted at a time, in work or waiting; the next one is told to come back."""
        return self.max_waiting or QUEUED_BATCHES * self.max_batch_size * self.most_replicas

    @property
    def most_images(self) -> int:
        """Images of one request that are accepted."""
        return min(self.max_images_per_request, self.most_waiting)
