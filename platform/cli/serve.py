"""`maskray serve` and `maskray keys`: answering over HTTP, and the API keys of those who may ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from maskray.platform.cli.inference import PrecisionOption, RangesOption, RuntimeOption
from maskray.platform.cli.models import Output, TrackingUri
from maskray.platform.job.serve_config import ServeConfig

DEFAULTS = ServeConfig()
keys = typer.Typer(help="Make, list and remove the API keys of a key file.", no_args_is_help=True)
KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.", show_default=False)]
KeyName = Annotated[str, typer.Argument(help="Who or what the key is for.", show_default=False)]


def serve(
    model: Annotated[
        str, typer.Argument(help="Model folder or file, checkpoint, or models:/NAME@alias.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to bind; 0.0.0.0 opens it to the network.")] = DEFAULTS.host,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = DEFAULTS.port,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = DEFAULTS.num_replicas,
    max_replicas: Annotated[int | None, typer.Option(min=1, help="Most copies under load; none scales not.")] = None,
    cpus_per_replica: Annotated[
        float, typer.Option(min=0.1, help="CPUs, and threads, of a copy.")
    ] = DEFAULTS.cpus_per_replica,
    gpus_per_replica: Annotated[
        float, typer.Option(min=0, help="GPUs of a copy; 0 computes on CPU.")
    ] = DEFAULTS.gpus_per_replica,
    runtime: RuntimeOption = DEFAULTS.runtime,
    precision: PrecisionOption = DEFAULTS.precision,
    ranges: RangesOption = None,
    api_keys: Annotated[Path | None, typer.Option(help="Key file; only holders of a key may ask then.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Folder of images that the page offers.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other key of `serve` in a job, e.g. max_batch_size=8."),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; none starts one on this machine.")] = None,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Answer HTTP requests with a model until interrupted; the page at / shows it at work.

    A model named by its alias is followed: where the alias moves, the new version answers a few seconds later.

    Example: maskray serve models:/demo@champion --port 8001
    """
    values = {
        "host": host,
        "port": port,
        "num_replicas": replicas,
        "max_replicas": max_replicas,
        "cpus_per_replica": cpus_per_replica,
        "gpus_per_replica": gpus_per_replica,
        "runtime": runtime,
        "precision": precision,
        "ranges": None if ranges is None else str(ranges),
        "api_keys_file": None if api_keys is None else str(api_keys),
        "samples": None if samples is None else str(samples),
    }
    config = read_settings(values, settings or [])
    from maskray.platform.registry.models import tracking_of
    from maskray.platform.serve.cluster.deploy import serve_forever
    from maskray.platform.serve.cluster.model_source import find_source

    warn_if_open(config)
    if config.runtime == "openvino" and address is None:  # on the cluster of others a replica tells what it lacks
        _check_openvino()
    serve_forever(find_source(model, tracking_of(model, tracking_uri, output)), config, address)


def _check_openvino() -> None:
    from maskray.platform.inference.openvino_network import check_package

    check_package()


def warn_if_open(config: ServeConfig) -> None:
    """Say in one line that whoever reaches the port may ask, where that is more than this machine."""
    from maskray.platform.serve.http.origin_check import is_loopback

    if config.api_keys_file is None and not is_loopback(config.host):
        place = f"{config.host}:{config.port}"
        typer.echo(f"warning: everybody who reaches {place} may ask; --api-keys asks for a key", err=True)


def read_settings(values: dict[str, Any], settings: list[str]) -> ServeConfig:
    """The configuration with KEY=VALUE on top, where a value is YAML; ValueError with a line for each wrong key."""
    from maskray.platform.job.load import apply_override, validate_tree

    for setting in settings:
        apply_override(values, setting)
    return validate_tree(ServeConfig, values)


@keys.command("add")
def add_key(file: KeyFile, name: KeyName) -> None:
    """Make a key and print it, this once: the file keeps a hash of it.

    Example: maskray keys add keys.txt alice
    """
    from maskray.platform.serve.http.api_keys import add_key as add

    print(add(file, name))


@keys.command("list")
def list_keys(file: KeyFile, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the names of the keys of a file and when they were made.

    Example: maskray keys list keys.txt
    """
    from maskray.platform.serve.http.api_keys import read_keys

    found = [{"name": key.name, "created": key.created} for key in read_keys(file)]
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for key in found:
            print(f"{key['created']}  {key['name']}")


@keys.command("remove")
def remove_key(file: KeyFile, name: KeyName) -> None:
    """Take a key out of a file; a running server refuses it a second later.

    Example: maskray keys remove keys.txt alice
    """
    from maskray.platform.serve.http.api_keys import remove_key as remove

    remove(file, name)
    print(f"{name} is no longer in {file}")
