"""What 8-bit whole numbers in OpenVINO give and cost: AP and seconds of a trained model, beside float32.

    python benchmarks/int8.py --model RUN/checkpoints/step-N --shards RUN/data/shards

Post-training quantisation by NNCF (pip install nncf), which is needed here alone: its ranges come from images of the
training split, and each part of the model (backbone with the RPN's head, box head, mask head) is quantised as a whole;
--keep leaves parts in float32. Seconds are of one image after another, from pixels to results, by turns in this
process. It would be worth offering at 1.5 times the speed of float32 in OpenVINO and no more than 0.3 AP lost.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from maskray.platform.data.decode import decode_row
from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.evaluation.evaluate import evaluate_rows, merge_parts
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference import openvino_network
from maskray.platform.inference.openvino_network import convert, import_openvino
from maskray.platform.inference.predictor import Predictor
from maskray.platform.machine.environment import processor_name

GOAL_RATIO, GOAL_LOST = 1.5, 0.3
PARTS = ("backbone", "box_head", "mask_head")  # in the order in which they are compiled


def record_inputs(predictor: Predictor, images: list[Any]) -> list[list[Any]]:
    """What each compiled part is given, in the order of PARTS."""
    runs: dict[int, list[Any]] = {}
    run = openvino_network._Run.__call__

    def recording(self: Any, values: torch.Tensor) -> Any:
        runs.setdefault(id(self), []).append(values.float().contiguous().numpy().copy())
        return run(self, values)

    with patch.object(openvino_network._Run, "__call__", recording):
        for number, image in enumerate(images):
            predictor.predict([image], [number])
    return list(runs.values())


def quantized(model: Any, threads: int, inputs: list[list[Any]], keep: list[str]) -> Any:
    """The model converted, with every part quantised that is not kept."""
    import nncf

    openvino = import_openvino()
    left = list(zip(PARTS, inputs, strict=False))

    translate = openvino.convert_model

    def translate_and_quantize(part: Any, **settings: Any) -> Any:
        network = translate(part, **settings)
        name, values = left.pop(0)
        return network if name in keep else nncf.quantize(network, nncf.Dataset(values), subset_size=len(values))

    anything = patch.dict(openvino_network.TOLERANCES, float32=float("inf"))
    with patch.object(openvino, "convert_model", translate_and_quantize), anything:
        return convert(model, threads, "float32")


def main() -> None:
    """Print AP and seconds of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--shards", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calibrate", type=int, default=100, help="images that ranges are taken of")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", nargs="*", choices=PARTS, default=[], help="parts that stay in float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, spec = read_model_folder(arguments.model)
    train, val = (read_manifest(arguments.shards / split) for split in ("train", "val"))
    reader = RowReader(train)
    images = [decode_row(reader.read(index)) for index in range(arguments.calibrate)]
    ways = {"torch float32": Predictor(model, spec)}
    ways["openvino float32"] = Predictor(convert(model, arguments.threads, "float32"), spec)
    ways["openvino bfloat16"] = Predictor(convert(model, arguments.threads, "bfloat16"), spec, "cpu", "bfloat16")
    inputs = record_inputs(ways["openvino float32"], images)
    ways["openvino int8"] = Predictor(quantized(model, arguments.threads, inputs, arguments.keep), spec)
    print(f"{processor_name()}, {arguments.threads} threads, kept in float32: {arguments.keep or 'nothing'}; "
          f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for name, predictor in ways.items():
        parts = evaluate_rows(predictor, val, range(val.num_images), ("bbox", "segm"))
        found[name] = merge_parts(parts, val, ("bbox", "segm"))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.repeats + 1):
        for number, image in enumerate(images[:20]):
            for name, predictor in ways.items():
                began = time.perf_counter()
                predictor.predict([image], [number])
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["openvino float32"])
    for name in ways:
        median = statistics.median(seconds[name])
        box, mask = (100 * found[name][f"{kind}/AP"] for kind in ("bbox", "segm"))
        print(f"{name:20} box AP {box:5.2f}, mask AP {mask:5.2f}, {1e3 * median:7.1f} ms, {base / median:.2f}x of openvino float32", flush=True)  # fmt: skip  # noqa: E501
    lost = max(100 * (found["openvino float32"][f"{kind}/AP"] - found["openvino int8"][f"{kind}/AP"]) for kind in ("bbox", "segm"))  # fmt: skip  # noqa: E501
    ratio = base / statistics.median(seconds["openvino int8"])
    reached = "reached" if ratio >= GOAL_RATIO and lost <= GOAL_LOST else "not reached"
    print(f"int8: {ratio:.2f}x, {lost:.2f} AP lost; goal {GOAL_RATIO}x, {GOAL_LOST} {reached}")


if __name__ == "__main__":
    main()
