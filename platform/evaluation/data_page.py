"""The HTML page of a data set: what is in it, what is wrong with it, and images as training will see them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskray.model.config import InputConfig, LabelMap, ModelConfig
from maskray.platform.data.batch import Sample, SampleBuilder
from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.coco import CocoDataset, ImageRecord, annotation_dicts, dataset_of_tree
from maskray.platform.data.transforms import resized_size
from maskray.platform.data.validate import validate_tree
from maskray.platform.evaluation.charts import COLORS, INK, dress_axes, to_svg
from maskray.platform.evaluation.pages import data_uri, drawing_scale, page_environment
from maskray.platform.files.atomic import new_file
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import DataConfig, FilesSource
from maskray.platform.machine.progress_bar import track

SHOWN_PROBLEMS = 50
BINS = 40
SMALL, LARGE = 32, 96  # edges of COCO's small and large objects, pixels


@dataclass(frozen=True)
class PageOptions:
    """How many images are drawn, the seed that draws them and what is done to them, and the job that trains on them."""

    num_images: int = 12
    seed: int = 0
    job: JobConfig | None = None


@dataclass(frozen=True)
class DrawnImage:
    """One image of the page, or the line that says why there is none."""

    file_name: str
    caption: str
    drawn: str = ""
    problem: str = ""


def write_data_page(path: Path, found: AnnotatedFolder, options: PageOptions) -> None:
    """Write the page of a data set to one HTML file that needs nothing else; ValueError where the file is there.

    Images are drawn after decoding, resizing and the random draws of training (those of the job, or of maskray's
    defaults), with the boxes and masks that the model is trained on. Where annotations are wrong in a way that
    training would end with, the page has the problems and no images.
    """
    report = validate_tree(found.name, found.tree, found.images)
    dataset, refused = None, ""
    try:
        dataset = dataset_of_tree(found.name, found.tree, found.images)
    except ValueError as error:
        refused = str(error)
    settings = InputConfig() if options.job is None else options.job.input
    text = (
        page_environment()
        .get_template("data_page.html.jinja")
        .render(
            found=found,
            name=Path(found.name).name or found.name,
            counts=report.counts,
            problem_counts=report.problem_counts,
            problems=[str(problem) for problem in report.problems[:SHOWN_PROBLEMS]],
            refused=refused,
            job=None if options.job is None else options.job.name,
            settings=settings,
            classes=[] if dataset is None else class_rows(dataset),
            chart="" if dataset is None else Markup(size_chart(dataset, settings)),
            images=[] if dataset is None else _draw_images(found, dataset, settings, options),
        )
    )
    with new_file(path) as file:
        file.write_text(text, encoding="utf-8")


def class_rows(dataset: CocoDataset) -> list[dict[str, Any]]:
    """The classes in the order of the label map: objects, crowds, images with one, share, size of the middle one."""
    rows = []
    total = max(1, sum(not one.iscrowd for image in dataset.images for one in image.annotations))
    by_class: dict[int, list[tuple[int, float]]] = {category_id: [] for category_id in dataset.labels.category_ids}
    crowds = dict.fromkeys(dataset.labels.category_ids, 0)
    for image in dataset.images:
        for one in image.annotations:
            crowds[one.category_id] += one.iscrowd
            if not one.iscrowd:
                by_class[one.category_id].append((image.image_id, one.area))
    for category in dataset.labels.categories:
        objects = by_class[category.id]
        rows.append(
            {
                "name": category.name,
                "objects": len(objects),
                "crowds": crowds[category.id],
                "images": len({image_id for image_id, _ in objects}),
                "share": len(objects) / total,
                "edge": float(np.sqrt(max(0.0, np.median([area for _, area in objects])))) if objects else None,
            }
        )
    return rows


def choose_images(dataset: CocoDataset, number: int, seed: int) -> list[ImageRecord]:
    """Images drawn by the seed: first one for each class that none before has, then any."""
    order = np.random.default_rng(seed).permutation(len(dataset.images))
    images = [dataset.images[index] for index in order]
    chosen: list[ImageRecord] = []
    seen: set[int] = set()
    for image in images:
        classes = {one.category_id for one in image.annotations}
        if classes - seen and len(chosen) < number:
            chosen.append(image)
            seen |= classes
    taken = {image.image_id for image in chosen}
    return chosen + [image for image in images if image.image_id not in taken][: number - len(chosen)]


def size_chart(dataset: CocoDataset, settings: InputConfig) -> str:
    """Histograms of the objects' sizes, as they are and after the resize of the job, and of the images' edges."""
    before, after = [], []
    for image in dataset.images:
        height, _ = resized_size(image.height, image.width, settings.shorter_edge, settings.longer_edge_max)
        edges = [max(0.0, one.area) ** 0.5 for one in image.annotations if not one.iscrowd]
        before += edges
        after += [edge * height / image.height for edge in edges]
    canvas = Figure(figsize=(9.2, 3.2), layout="constrained")
    left, right = canvas.subplots(1, 2)
    dress_axes(left, "Objects", "square root of the area, pixels", "objects")
    top = max([*before, *after, 2 * LARGE])
    bins = np.geomspace(1, top, BINS)
    for color, label, values in zip(COLORS, ("in the file", "after resizing"), (before, after)):
        left.hist(np.clip(values, 1, top), bins=bins, color=color, alpha=0.55, label=label)
    for edge in (SMALL, LARGE):
        left.axvline(edge, color=INK, linewidth=1, linestyle=":")
    left.set_xscale("log")
    left.set_xticks(_ticks(top), [str(value) for value in _ticks(top)])
    left.minorticks_off()
    left.legend(frameon=False, labelcolor=INK, fontsize=8)
    dress_axes(right, "Images", "edge, pixels", "images")
    shorter = [min(image.width, image.height) for image in dataset.images]
    longer = [max(image.width, image.height) for image in dataset.images]
    low, high = min(shorter, default=0), max(longer, default=1)
    edge_bins = np.linspace(low - 0.5, max(high, low + BINS) + 0.5, BINS)
    for color, label, values in zip(COLORS, ("shorter edge", "longer edge"), (shorter, longer)):
        right.hist(values, bins=edge_bins, color=color, alpha=0.55, label=label)
    right.legend(frameon=False, labelcolor=INK, fontsize=8)
    return to_svg(canvas)


def _ticks(top: float) -> list[int]:
    return [value for value in (1, 4, 16, 32, 96, 256, 1024, 4096) if value <= top]


def _draw_images(
    found: AnnotatedFolder, dataset: CocoDataset, settings: InputConfig, options: PageOptions
) -> list[DrawnImage]:
    chosen = choose_images(dataset, options.num_images, options.seed)
    return [
        _draw_image(record, found.images, dataset.labels, settings, options)
        for record in track(chosen, len(chosen), "drawing images")
    ]


def _draw_image(
    record: ImageRecord, folder: Path, labels: LabelMap, settings: InputConfig, options: PageOptions
) -> DrawnImage:
    caption = f"{record.width}x{record.height}, {_counted(len(record.annotations), 'annotation')}"
    kept = [one for one in record.annotations if not one.iscrowd]
    masked = all(one.segmentation is not None for one in kept)
    if options.job is None:
        source = FilesSource(path=str(folder))
        data, model = DataConfig(train=source, val=source), ModelConfig(masks=masked)
    else:
        data, model = options.job.data, options.job.model
    builder = SampleBuilder(data, settings, model, labels, options.seed)
    try:
        row = {
            "image_id": record.image_id,
            "file_name": record.file_name,
            "width": record.width,
            "height": record.height,
            "image": (folder / record.file_name).read_bytes(),
            "annotations": json.dumps(annotation_dicts(record)),
        }
        sample = builder.build(row, epoch=0)
    except OSError as error:
        return DrawnImage(record.file_name, caption, problem=f"cannot be read: {error.strerror}")
    except ValueError as error:
        return DrawnImage(record.file_name, caption, problem=str(error))
    pixels = np.ascontiguousarray(np.clip(np.rint(sample.image), 0, 255).astype(np.uint8))
    results = training_targets(sample, labels)
    caption += f"; in training {pixels.shape[1]}x{pixels.shape[0]}, {_counted(len(results), 'object')}"
    caption += ", flipped" if sample.flipped else ""
    caption += "" if masked else ", some without a mask"
    drawn = draw_detections(pixels, results, labels, scale=drawing_scale(pixels))
    return DrawnImage(record.file_name, caption, data_uri(drawn))


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def training_targets(sample: Sample, labels: LabelMap) -> Sequence[dict[str, Any]]:
    """The targets of a training sample as COCO annotations in pixels of its image."""
    targets = sample.targets
    masks = None if targets.masks is None else targets.masks.bitmaps().numpy()
    results = []
    for index, (box, class_index) in enumerate(zip(targets.boxes.tolist(), targets.classes.tolist())):
        x0, y0, x1, y1 = box
        result = {"category_id": labels.category_ids[class_index], "bbox": [x0, y0, x1 - x0, y1 - y0]}
        if masks is not None:
            result["segmentation"] = _encode(masks[index])
        if targets.keypoints is not None:
            result["keypoints"] = targets.keypoints[index].ravel().tolist()
        results.append(result)
    return results


def _encode(mask: NDArray[np.uint8]) -> dict[str, Any]:
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask))
    return rle
