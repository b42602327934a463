"""What computes a model: torch or OpenVINO, in which precision; and the way from a model folder to a predictor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.int8_layers import Range
from maskray.platform.inference.predictor import Predictor, decide_precision
from maskray.platform.inference.ranges import find_ranges
from maskray.platform.job.serve_config import Runtime, ServeConfig, Whole
from maskray.platform.job.tta_config import TTAConfig
from maskray.platform.machine.precision import Precision

DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class Engine:
    """A runtime, and the precision for models that leave it open (`auto`): None is for each machine to measure.

    With int8 layers are computed in 8-bit whole numbers for which a folder holds the ranges, None the one of the model.
    """

    runtime: Runtime = "torch"
    precision: Precision | None = None
    int8: bool = False
    ranges: str | None = None


TORCH = Engine()


def make_engine(runtime: Runtime, precision: Whole | None, ranges: str | Path | None) -> Engine:
    """What options say that computes a model; ValueError for a runtime or precision that is none."""
    if runtime not in get_args(Runtime):
        raise ValueError(f"runtime {runtime!r}: {' or '.join(get_args(Runtime))}")
    if precision not in (None, *get_args(Whole)):
        raise ValueError(f"precision {precision!r}: int8, or None for that of the model (inference.precision)")
    return Engine(runtime, int8=precision == "int8", ranges=None if ranges is None else str(Path(ranges).absolute()))


def engine_of(config: ServeConfig) -> Engine:
    """What computes the model of a server."""
    return Engine(config.runtime, int8=config.precision == "int8", ranges=config.ranges)


def check_engine(engine: Engine, device: str) -> None:
    """Raise ValueError where the device is not there, or the runtime is not installed or does not compute on it."""
    if DEVICE.fullmatch(device) is None:
        raise ValueError(f"device {device!r}: cpu, cuda or cuda:NUMBER")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device}: this machine has no GPU that torch can use")
    if engine.int8 and engine.runtime != "openvino":
        raise ValueError(f"precision int8 is of runtime openvino, not of {engine.runtime}")
    if engine.ranges is not None and not engine.int8:
        raise ValueError("ranges are of precision int8, which is not asked for")
    if engine.runtime == "openvino":
        from maskray.platform.inference.openvino_network import check_package

        if device != "cpu":
            raise ValueError(f"runtime openvino computes on the CPU, not on {device}")
        check_package()


def open_predictor(
    folder: str | Path,
    device: str = "cpu",
    engine: Engine = TORCH,
    threads: int | None = None,
    tta: TTAConfig | None = None,
) -> Predictor:
    """make_predictor of a model folder or file; ValueError of one line where it is damaged too, and as check_engine."""
    check_engine(engine, device)
    model, spec = read_model_folder(folder, device)
    return make_predictor(model, spec, device, engine, threads, tta, read_ranges_of(model, folder, engine))


def read_ranges_of(model: MaskRCNN, folder: str | Path, engine: Engine) -> Mapping[str, Range] | None:
    """The ranges of a model of a folder where the engine computes in 8 bits; ValueError where there are none."""
    return find_ranges(model, folder, engine.ranges) if engine.int8 else None


def make_predictor(
    model: MaskRCNN,
    spec: ModelSpec,
    device: str = "cpu",
    engine: Engine = TORCH,
    threads: int | None = None,
    tta: TTAConfig | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> Predictor:
    """A predictor of a model on a device; a runtime of its own computes on so many threads, or on torch's number.

    ranges are those of read_ranges_of. Raises ValueError of one line where the runtime does not know a part of the
    model, which is named.
    """
    precision = decide_precision(spec, device.partition(":")[0], engine.precision)
    if engine.runtime == "openvino":
        from maskray.platform.inference.openvino_network import convert

        model = convert(model, threads or torch.get_num_threads(), precision, ranges)
    return Predictor(model, spec, device, precision, tta)
