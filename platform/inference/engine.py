"""What computes a model: torch or OpenVINO, in which precision; and the way from a model folder to a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.predictor import Predictor, decide_precision
from maskray.platform.job.serve_config import Runtime
from maskray.platform.machine.precision import Precision


@dataclass(frozen=True)
class Engine:
    """A runtime, and the precision for models that leave it open (`auto`): None is for each machine to measure."""

    runtime: Runtime = "torch"
    precision: Precision | None = None


TORCH = Engine()


def check_engine(engine: Engine, device: str) -> None:
    """Raise ValueError where the device is not there, or the runtime is not installed or does not compute on it."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device}: this machine has no GPU that torch can use")
    if engine.runtime == "openvino":
        from maskray.platform.inference.openvino_network import check_package

        if device != "cpu":
            raise ValueError(f"runtime openvino computes on the CPU, not on {device}")
        check_package()


def open_predictor(
    folder: str | Path, device: str = "cpu", engine: Engine = TORCH, threads: int | None = None
) -> Predictor:
    """make_predictor of a model folder or file; ValueError of one line where it is damaged too, and as check_engine."""
    check_engine(engine, device)
    return make_predictor(*read_model_folder(folder, device), device, engine, threads)


def make_predictor(
    model: MaskRCNN, spec: ModelSpec, device: str = "cpu", engine: Engine = TORCH, threads: int | None = None
) -> Predictor:
    """A predictor of a model on a device; a runtime of its own computes on so many threads, or on torch's number.

    Raises ValueError of one line where the runtime does not know a part of the model, which is named.
    """
    precision = decide_precision(spec, device.partition(":")[0], engine.precision)
    if engine.runtime == "openvino":
        from maskray.platform.inference.openvino_network import convert

        model = convert(model, threads or torch.get_num_threads(), precision)
    return Predictor(model, spec, device, precision)
