"""R50-FPN by torch, by OpenVINO and by ONNX Runtime: seconds for an image of 800 x 1066, padded to 800 x 1088.

The model and image of model_torchvision.py, to boxes, scores and masks of 28 x 28. `maskray` is the platform's own way
(with --compile also under torch.compile), `openvino` what --runtime openvino does, and the files are what `maskray
models export --to onnx` writes, computed whole by other runtimes. What each finds is compared first; then all run in
this process by turns. Ratios are to maskray in float32: above 1, that one is quicker.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_torchvision import HEIGHT, WIDTH, draw, make_theirs, medians, our_batch, our_model

from maskray.model.config import Category, InputConfig, LabelMap, ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.export.onnx_file import write_onnx
from maskray.platform.export.parity import compare_detections
from maskray.platform.inference.openvino_network import convert, import_openvino
from maskray.platform.machine.environment import processor_name

Found = dict[str, np.ndarray[Any, Any]]
NAMES = ("boxes", "scores", "classes", "masks")
PADDED = (800, 1088)


def ways(
    model: MaskRCNN, spec: ModelSpec, threads: int, folder: Path, compiled: bool
) -> dict[str, Callable[[], Found]]:
    """By name what finds everything in the image."""
    batch = our_batch([draw(HEIGHT, WIDTH, 0)], train=False)

    @torch.inference_mode()
    def detect(network: MaskRCNN, precision: str) -> Found:
        found = network.detect(batch, precision)
        return {name: getattr(found, name).numpy() for name in NAMES}

    found: dict[str, Callable[[], Found]] = {"maskray float32": partial(detect, model, "float32")}
    found["maskray bfloat16"] = partial(detect, model, "bfloat16")
    for precision in ("float32", "bfloat16"):
        found[f"openvino {precision}"] = partial(detect, convert(model, threads, precision), precision)  # type: ignore[arg-type]
    if compiled:
        other = our_model(make_theirs(HEIGHT, WIDTH))
        other.backbone.compile()
        found["maskray float32, compiled"] = partial(detect, other, "float32")
    path = folder / "model.onnx"
    write_onnx(path, model, spec, *PADDED)
    inputs = {"image": batch.images[0].float().numpy(), "image_size": batch.image_sizes[0].numpy()}
    return found | files(path, inputs, threads)


def files(path: Path, inputs: Found, threads: int) -> dict[str, Callable[[], Found]]:
    """The exported file, whole, by two runtimes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    core = import_openvino().Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    return {
        "ONNX Runtime, file": lambda: dict(zip(NAMES, session.run(list(NAMES), inputs), strict=True)),
        "OpenVINO, file": lambda: dict(zip(NAMES, request.infer(inputs).values(), strict=True)),
    }


def main() -> None:
    """Print what each found and its median seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also by torch.compile, which takes a minute first")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = our_model(make_theirs(HEIGHT, WIDTH))
    labels = LabelMap(categories=tuple(Category(id=number, name=str(number)) for number in range(1, 91)))
    spec = ModelSpec(model=model.config, input=InputConfig(), labels=labels)
    print(f"{processor_name()}; torch {torch.__version__}, {arguments.threads} threads; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        calls = ways(model, spec, arguments.threads, Path(folder), arguments.compile)
        reference = calls["maskray float32"]()
        for name, call in calls.items():
            print(compare_detections(name, reference, call(), spec), flush=True)
        times = medians(calls, arguments.repeats)
    ours = times["maskray float32"]
    for name, seconds in times.items():
        print(f"{name:28} {seconds:6.2f} s  {ours / seconds:.2f}x", flush=True)


if __name__ == "__main__":
    main()
