"""What two sources say of the same images, compared: runs, evaluated folders, registered versions or results files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskray.model.config import LabelMap
from maskray.platform.data.decode import decode_row
from maskray.platform.data.formats.coco import parse_json, read_bytes, read_dataset, read_labels
from maskray.platform.data.formats.records import annotation_dicts
from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.row_reader import read_rows
from maskray.platform.evaluation.comparison import ModelComparison, compare_matches
from maskray.platform.evaluation.comparison_page import ChangedPicture, draw_changed
from maskray.platform.evaluation.evaluate_files import match_part
from maskray.platform.evaluation.file_columns import read_result_columns, read_truth_columns
from maskray.platform.evaluation.matches_file import matched_types, read_matches
from maskray.platform.evaluation.matching import MatchColumns, join_images
from maskray.platform.evaluation.results import GroundTruth, read_results
from maskray.platform.evaluation.rules import IouType
from maskray.platform.registry.models import URI, find_version
from maskray.platform.registry.server_errors import readable_errors
from maskray.platform.registry.tracking import Tracking

RUNS = "runs:/"
FILES = ("matches.npz", "per_class.csv", "results.json")


@dataclass(frozen=True)
class Source:
    """What is compared, under its name: the folder of an evaluation, or a results file."""

    name: str
    folder: Path | None = None
    results: Path | None = None

    def file(self, name: str) -> Path:
        """A file of the evaluation; ValueError where there is none."""
        if self.folder is None or not (self.folder / name).is_file():
            raise ValueError(f"{self.name}: has no {name}; give annotations (--gt) to compare results files")
        return self.folder / name


@dataclass(frozen=True)
class ComparedModels:
    """The comparisons of every IoU type, and names of categories by id as far as they are known."""

    sources: tuple[Source, Source]
    comparisons: tuple[ModelComparison, ...]
    categories: dict[int, str]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        found: dict[str, Any] = {"first": self.sources[0].name, "second": self.sources[1].name}
        found["categories"] = {str(category): name for category, name in self.categories.items()}
        return found | {one.iou_type: one.as_dict() for one in self.comparisons}


def find_source(text: str, tracking: Tracking | None, scratch: Path) -> Source:
    """A run's folder or one that an evaluation left, a results file, models:/NAME/3, models:/NAME@alias or runs:/ID.

    What lies on a tracking server is downloaded into `scratch`. ValueError where there is no such thing.
    """
    path = Path(text)
    if text.startswith((URI, RUNS)):
        assert tracking is not None, "what has a URI comes with a registry"
        return Source(text, _download(text, tracking, scratch))
    if path.is_file() and path.suffix == ".json":
        return Source(path.name, results=path)
    for folder in (path / "evaluation", path):
        if (folder / "matches.npz").is_file():
            return Source(path.name or str(path), folder)
    raise ValueError(f"{text}: neither the folder of an evaluated run, nor a results file, nor models:/ or runs:/")


def compare_sources(
    first: Source, second: Source, annotations: Path | None = None, iou_type: IouType | None = None
) -> ComparedModels:
    """Compare by the matches that evaluations left, or by results files where annotations are given.

    iou_type says what is compared; None takes all that both have, boxes of files. ValueError naming what is missing or
    does not fit together.
    """
    sources = (first, second)
    if annotations is not None:
        kind: IouType = iou_type or "bbox"
        results = [one.results or one.file("results.json") for one in sources]
        one, other = (_match_files(annotations, path, kind) for path in results)
        pairs = [(one, other)]
        labels = read_labels(annotations, parse_json(annotations, read_bytes(annotations)))
        names = dict(zip(labels.category_ids, labels.names, strict=True))
    else:
        paths = [one.file("matches.npz") for one in sources]
        shared = [kind for kind in matched_types(paths[0]) if kind in matched_types(paths[1])]
        kinds = shared if iou_type is None else [iou_type]
        if not kinds:
            raise ValueError(f"{first.name} and {second.name} have no IoU type in common")
        pairs = [_read_pair(paths, kind) for kind in kinds]
        names = {}
        for source in sources:
            if source.folder is not None and (source.folder / "per_class.csv").is_file():
                names |= _names_of_table(source.folder / "per_class.csv")
    try:
        comparisons = tuple(compare_matches(one, other) for one, other in pairs)
    except ValueError as error:
        raise ValueError(f"{first.name} and {second.name} cannot be compared: {error}") from None
    return ComparedModels(sources, comparisons, names)


def draw_pictures(
    compared: ComparedModels, number: int, annotations: Path | None = None, images: Path | None = None
) -> list[ChangedPicture]:
    """The images that changed most in the last IoU type, from a folder or from the shards of a run's folder.

    Empty where neither has the images, or a result is not there. ValueError where an image cannot be read.
    """
    last = compared.comparisons[-1]
    results = [one.results or (one.folder / "results.json" if one.folder else None) for one in compared.sources]
    paths = [path for path in results if path is not None and path.is_file()]
    chosen = last.images[:number]
    if len(paths) < 2 or not chosen:
        return []
    shown = _read_images(compared.sources, [image_id for image_id, _, _ in chosen], annotations, images)
    if shown is None:
        return []
    found = [read_results(path, shown.truth, last.iou_type) for path in paths]
    return [
        ChangedPicture(
            image_id,
            shown.rows[image_id]["file_name"],
            first,
            second,
            draw_changed(
                decode_row(shown.rows[image_id]),
                json.loads(shown.rows[image_id]["annotations"]),
                [one.get(image_id, []) for one in found],
                shown.labels,
            ),
        )
        for image_id, first, second in chosen
    ]


@dataclass(frozen=True)
class _Images:
    """Rows of some images by id, as shards have them; the classes; and what results of all images are read by."""

    rows: Mapping[int, Mapping[str, Any]]
    labels: LabelMap
    truth: GroundTruth


def _read_images(
    sources: Sequence[Source], ids: Sequence[int], annotations: Path | None, images: Path | None
) -> _Images | None:
    """From a folder, or from the first shards that have them all; None where there are none."""
    if annotations is not None and images is not None:
        return _images_of_files(ids, annotations, images)
    for source in sources:
        for folder in () if source.folder is None else (source.folder.parent / "data", source.folder):
            if (folder / "shards" / "val").is_dir():
                found = _images_of_shards(ids, folder / "shards" / "val")
                if found is not None:
                    return found
    return None


def _images_of_files(ids: Sequence[int], annotations: Path, images: Path) -> _Images:
    dataset = read_dataset(annotations, images)
    wanted = set(ids)
    rows: dict[int, dict[str, Any]] = {}
    for record in dataset.images:
        if record.image_id in wanted:
            path = images / record.file_name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
            rows[record.image_id] = {
                "image_id": record.image_id,
                "file_name": record.file_name,
                "height": record.height,
                "width": record.width,
                "image": data,
                "annotations": json.dumps(annotation_dicts(record)),
            }
    sizes = {record.image_id: (record.height, record.width) for record in dataset.images}
    return _Images(rows, dataset.labels, GroundTruth(annotations, sizes, {}, dataset.labels.category_ids))


def _images_of_shards(ids: Sequence[int], folder: Path) -> _Images | None:
    manifest = read_manifest(str(folder))
    index = {image_id: n for n, image_id in enumerate(manifest.image_ids.tolist())}
    if not all(image_id in index for image_id in ids):
        return None
    rows = read_rows(manifest, [index[image_id] for image_id in ids])
    columns = (manifest.image_ids.tolist(), manifest.heights.tolist(), manifest.widths.tolist())
    sizes = {image_id: (height, width) for image_id, height, width in zip(*columns, strict=True)}
    truth = GroundTruth(folder, sizes, {}, manifest.labels.category_ids)
    return _Images({row["image_id"]: row for row in rows}, manifest.labels, truth)


def _match_files(annotations: Path, results: Path, iou_type: IouType) -> MatchColumns:
    truth = read_truth_columns(annotations, iou_type)
    return match_part(truth, read_result_columns(results, truth, iou_type), iou_type)


def _read_pair(paths: Sequence[Path], iou_type: IouType) -> tuple[MatchColumns, MatchColumns]:
    """Both with the categories of either, as a category that nothing is of is in no file."""
    both = [read_matches(path, iou_type) for path in paths]
    of_images = [one for images in both for part in images for one in (part.categories, part.gt_categories)]
    ids = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *of_images]))
    first, second = (join_images(images, ids.tolist(), iou_type) for images in both)
    return first, second


def _names_of_table(path: Path) -> dict[int, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {int(row["category_id"]): row["name"] for row in csv.DictReader(file)}


def _download(uri: str, tracking: Tracking, scratch: Path) -> Path:
    """The files of an evaluation that a run has on the server."""
    run_id = uri.removeprefix(RUNS) if uri.startswith(RUNS) else str(find_version(tracking, uri).run_id)
    tracking.check_server()
    folder = scratch / run_id
    folder.mkdir(parents=True, exist_ok=True)
    with readable_errors(uri):
        client = tracking.client
        there = {Path(file.path).name for file in client.list_artifacts(run_id, "evaluation")}
        if FILES[0] not in there:
            raise ValueError(f"{uri}: run {run_id} has no evaluation/{FILES[0]}")
        for name in FILES:
            if name in there:
                found = Path(client.download_artifacts(run_id, f"evaluation/{name}", str(folder)))
                if found != folder / name:  # where it is put differs with the store
                    shutil.copyfile(found, folder / name)
    return folder
