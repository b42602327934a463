"""What --precision int8 gives and costs: AP and seconds of a trained model, beside OpenVINO's float32 and torch's.

    python benchmarks/int8.py --model RUN/checkpoints/step-N --train IMAGES --gt ANNOTATIONS --images IMAGES

Ranges are measured on images of the training split, AP on annotated ones of another. Seconds are of one image after
another, from pixels to results, the ways by turns in this process. It is offered for 1.5 times the speed of float32 in
OpenVINO at no more than 0.3 AP lost.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.image_files import list_images, read_image
from maskray.platform.inference.int8_layers import find_layers, measure_ranges
from maskray.platform.inference.openvino_network import convert
from maskray.platform.inference.predictor import Predictor
from maskray.platform.machine.environment import processor_name
from maskray.platform.runs.quantization import (
    annotated_photographs,
    average_precisions,
    median_seconds,
    predict_by_turns,
)

GOAL_RATIO, GOAL_LOST = 1.5, 0.3
FLOAT, INT8 = "openvino float32", "openvino int8"


def main() -> None:
    """Print AP and seconds of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--train", type=Path, required=True, help="folder of images that ranges are measured on")
    parser.add_argument("--gt", type=Path, required=True, help="annotations of other images")
    parser.add_argument("--images", type=Path, required=True, help="folder of these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", type=int, default=100, help="images that ranges are measured on")
    parser.add_argument("--most", type=int, default=500, help="annotated images")
    parser.add_argument("--bfloat16", action="store_true", help="with bfloat16 beside, alone and with int8")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, spec = read_model_folder(arguments.model)
    photographs = annotated_photographs(arguments.model, arguments.gt, arguments.images)[: arguments.most]
    ranges = measure_ranges(model, spec, map(read_image, list_images([arguments.train])[: arguments.measure]))
    ways = {
        "torch float32": Predictor(model, spec),
        FLOAT: Predictor(convert(model, arguments.threads, "float32"), spec),
        INT8: Predictor(convert(model, arguments.threads, "float32", ranges), spec),
    }
    if arguments.bfloat16:
        for name, rounded in (("openvino bfloat16", None), ("openvino int8, bfloat16", ranges)):
            converted = convert(model, arguments.threads, "bfloat16", rounded)
            ways[name] = Predictor(converted, spec, "cpu", "bfloat16")
    layers = f"{len(ranges)} of {len(find_layers(model))} layers in int8, ranges of {arguments.measure} images"
    print(f"{processor_name()}, {arguments.threads} threads; {layers}; {len(photographs)} images", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} before", flush=True)
    found = predict_by_turns(list(ways.values()), photographs)
    precision, seconds = average_precisions(found, photographs, spec), median_seconds(found)
    names = list(ways)
    for way, name in enumerate(names):
        told = ", ".join(f"{kind} {100 * values[way]:5.2f}" for kind, values in precision.items())
        ratio = seconds[names.index(FLOAT)] / seconds[way]
        print(f"{name:24} {told}, {1e3 * seconds[way]:7.1f} ms, {ratio:.2f}x of {FLOAT}", flush=True)
    lost = max(100 * (values[names.index(FLOAT)] - values[names.index(INT8)]) for values in precision.values())
    ratio = seconds[names.index(FLOAT)] / seconds[names.index(INT8)]
    reached = "reached" if ratio >= GOAL_RATIO and lost <= GOAL_LOST else "not reached"
    print(f"int8: {ratio:.2f}x, {lost:.2f} AP lost; goal {GOAL_RATIO}x, {GOAL_LOST} {reached}")
    print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
