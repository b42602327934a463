"""Ranges for 8-bit layers measured on the user's images, and what these layers give and cost there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskray.model.coco_categories import is_unused
from maskray.model.config import LabelMap, ModelSpec
from maskray.platform.data.formats.records import annotation_dicts
from maskray.platform.data.preparation import NO_RULES, check_source, read_source
from maskray.platform.data.suitability import ReadingRules, missing_categories
from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.matching import match_entries
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.atomic import refuse_existing
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.agreement import Agreement, compare_results
from maskray.platform.inference.engine import Engine, check_engine, make_predictor
from maskray.platform.inference.image_files import read_image
from maskray.platform.inference.int8_layers import measure_ranges
from maskray.platform.inference.predictor import Predictor
from maskray.platform.inference.ranges import Ranges, digest_weights, ranges_file, write_ranges
from maskray.platform.machine.progress_bar import track
from maskray.platform.runs.evaluation import source_of

Annotations = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Photograph:
    """An image file, and what is annotated in it; None where nothing was annotated anywhere."""

    path: Path
    annotations: Annotations | None = None


@dataclass(frozen=True)
class Cost:
    """What a model finds and takes in its own precision and in int8, on the same images by turns.

    metrics are AP of boxes, masks and keypoints, empty without annotations; seconds are medians of an image; each has
    a value before and one of int8. is_seen says that the images compared are those that the ranges are from.
    """

    path: Path
    precision: str
    num_layers: int
    num_measured: int
    num_compared: int
    is_seen: bool
    agreement: Agreement
    seconds: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def annotated_photographs(model_folder: str, annotations: Path, images: Path | None) -> list[Photograph]:
    """The images of an annotation file, or of a folder of any format, for a model whose categories they have.

    Raises ValueError where something is not there or damaged, a category is another one, or masks are missing.
    """
    _, spec = read_model_folder(model_folder)
    source = source_of(annotations, images)
    check_source(source, "--gt")
    rules = ReadingRules(masks="all", remedy="without --gt nothing is compared with annotations")
    read = read_source(source, "val", Path(), rules if spec.model.masks else NO_RULES)
    assert read.dataset is not None, "these sources are no shards"
    known = LabelMap(categories=tuple(one for one in spec.labels.categories if not is_unused(one)))
    missing_categories(known, read.labels, str(annotations), model_folder)
    return [Photograph(Path(read.images) / one.file_name, annotation_dicts(one)) for one in read.dataset.images]


def quantize(
    model_folder: str, photographs: Sequence[Photograph], out: Path | None, num_measured: int, num_compared: int
) -> Cost:
    """Measure ranges, write them into a folder, or beside the model, and compare; no file where that fails.

    Images to measure are taken evenly from all, and those to compare from the others, or from all where there are
    none. Raises ValueError of one line: images that cannot be read, a part that OpenVINO does not know, a file of
    these ranges that is there already.
    """
    check_engine(Engine("openvino", int8=True), "cpu")
    model, spec = read_model_folder(model_folder)
    digest = digest_weights(model)
    path = ranges_file(model_folder, out, digest)
    refuse_existing(path)
    measured = _spread(range(len(photographs)), num_measured)
    others = sorted(set(range(len(photographs))) - set(measured))
    compared = [photographs[index] for index in _spread(others or measured, num_compared)]
    images = (read_image(photographs[index].path) for index in measured)
    layers = measure_ranges(model, spec, track(images, len(measured), "measuring ranges"))
    engine = Engine("openvino")
    ways = [make_predictor(model, spec, engine=engine), make_predictor(model, spec, engine=engine, ranges=layers)]
    found = predict_by_turns(ways, compared)
    cost = Cost(
        path,
        ways[0].precision,
        len(layers),
        len(measured),
        len(compared),
        is_seen=not others,
        agreement=sum((compare_results(*one.results) for one in found), Agreement()),
        seconds=median_seconds(found),
        metrics=average_precisions(found, compared, spec),
    )
    write_ranges(path, Ranges(weights_sha256=digest, images=len(measured), layers=layers))
    return cost


def _spread(indices: Sequence[int], number: int) -> list[int]:
    """At most so many, evenly from all."""
    places = np.linspace(0, len(indices) - 1, min(number, len(indices)))
    return [indices[int(place)] for place in places.round()]


@dataclass(frozen=True)
class FoundByTurns:
    """Of one image: its height and width, and of each way its results and the seconds that they took."""

    size: tuple[int, int]
    results: tuple[list[dict[str, Any]], ...]
    seconds: tuple[float, ...]


def predict_by_turns(ways: Sequence[Predictor], photographs: Sequence[Photograph]) -> list[FoundByTurns]:
    """What every way finds in each image, one way after the other; the first image is predicted once before."""
    found: list[FoundByTurns] = []
    for number, photograph in enumerate(track(photographs, len(photographs), "comparing")):
        image = read_image(photograph.path)
        if not number:
            for predictor in ways:
                predictor.predict([image], [number])
        results, seconds = [], []
        for predictor in ways:
            began = time.perf_counter()
            results += predictor.predict([image], [number])
            seconds.append(time.perf_counter() - began)
        found.append(FoundByTurns((image.shape[0], image.shape[1]), tuple(results), tuple(seconds)))
    return found


def median_seconds(found: Sequence[FoundByTurns]) -> tuple[float, ...]:
    """Of an image, of each way."""
    return tuple(statistics.median(times) for times in zip(*(one.seconds for one in found), strict=True))


def average_precisions(
    found: Sequence[FoundByTurns], photographs: Sequence[Photograph], spec: ModelSpec
) -> dict[str, tuple[float, ...]]:
    """AP of each way by its name, of boxes, masks and keypoints as the model has them; empty without annotations."""
    truth = [photograph.annotations for photograph in photographs if photograph.annotations is not None]
    if len(truth) < len(photographs):
        return {}
    kinds: dict[IouType, bool] = {"bbox": True, "segm": spec.model.masks, "keypoints": spec.model.keypoints}
    ids = spec.labels.category_ids

    def average_precision(kind: IouType, way: int) -> float:
        entries = [(number, one.size, truth[number], one.results[way]) for number, one in enumerate(found)]
        return merge_columns([match_entries(entries, ids, kind)], ids, kind).metrics[f"{kind}/AP"]

    ways = range(len(found[0].results))
    return {f"{kind}/AP": tuple(average_precision(kind, way) for way in ways) for kind, has in kinds.items() if has}
