"""Detection with a compiled backbone (torch.compile, inductor) beside the same model as it is, in float32 and bfloat16.

The model and image of model_torchvision.py: R50-FPN, 800 x 1066. All run in this process by turns. The seconds before
the first image of a size are printed too: a server pays them for every size of image that it meets.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from model_torchvision import HEIGHT, WIDTH, draw, make_theirs, medians, our_batch, our_model

from maskray.model.detections import to_original
from maskray.model.structures import Detections

KINDS = [(precision, compiled) for precision in ("float32", "bfloat16") for compiled in (False, True)]


def main() -> None:
    """Print seconds of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    theirs = make_theirs(HEIGHT, WIDTH)
    batch = our_batch([draw(HEIGHT, WIDTH, 0)], train=False)

    @torch.inference_mode()
    def detect(precision: str, compiled: bool) -> Detections:
        found: Detections = models[precision, compiled].detect(batch)
        to_original(found, batch, 0, mask_paste="torchvision")
        return found

    models = {kind: our_model(theirs, kind[0]) for kind in KINDS}
    for precision in ("float32", "bfloat16"):
        models[precision, True].backbone.compile()
        plain, start = detect(precision, False), time.perf_counter()
        compiled = detect(precision, True)
        seconds = time.perf_counter() - start
        found = f"{len(plain.boxes)} and {len(compiled.boxes)} detections"
        if plain.boxes.shape == compiled.boxes.shape:
            found += f", boxes within {(plain.boxes - compiled.boxes).abs().max():.2g} px"
        print(f"{precision}: {seconds:.0f} s to the first image; {found}", flush=True)
    calls = {str(kind): partial(detect, *kind) for kind in KINDS}
    times = medians(calls, arguments.repeats)
    for precision in ("float32", "bfloat16"):
        before, after = times[str((precision, False))], times[str((precision, True))]
        print(f"{precision}: {before:.3f} s, compiled {after:.3f} s, ratio of medians {before / after:.2f}x")


if __name__ == "__main__":
    main()
