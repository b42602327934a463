"""The application that a Ray Serve configuration file names: `maskray.platform.serve.cluster.builder:build`."""

from __future__ import annotations

from pydantic import Field
from ray.serve import Application

from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.registry.tracking import Tracking
from maskray.platform.serve.cluster.deploy import build_application
from maskray.platform.serve.cluster.model_source import find_source


class Arguments(ServeConfig):
    """`args` of the application; host and port belong to `http_options` of the file and are not read here."""

    model: str = Field(description="Model folder that every node sees, or models:/NAME@alias, models:/NAME/3.")
    tracking_uri: str | None = Field(None, description="MLflow server of a models:/ URI.")


def build(arguments: Arguments) -> Application:
    """Describe the replicas of a model to Ray Serve, which calls this on the cluster; an unknown key is an error.

    A registered model is downloaded below XDG_CACHE_HOME, which then has to be on storage that every node sees; one
    named by its alias is followed when the alias moves.
    """
    tracking = Tracking(TrackingConfig(uri=arguments.tracking_uri)) if arguments.tracking_uri else None
    config = ServeConfig.model_validate(arguments.model_dump(include=set(ServeConfig.model_fields)))
    config = config.model_copy(update={"host": "0.0.0.0"})  # under any name: Serve's proxy listens, not at this host
    return build_application(find_source(arguments.model, tracking), config)
