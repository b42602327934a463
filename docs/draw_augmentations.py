"""Draws what each augmentation of data.augmentation does to a drawn image, its masks and boxes: docs/augmentation.png.

Made by the sample builder of training itself: python docs/draw_augmentations.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from maskray.model.config import InputConfig, LabelMap, ModelConfig
from maskray.platform.data.batch import Sample, SampleBuilder
from maskray.platform.data.formats.coco import read_labels
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.job.data_config import DataConfig

SIDE, TITLE, GAP, COLUMNS, COLOURS = 208, 22, 8, 4, 96
JITTER: dict[str, Any] = {"scale_range": [0.1, 2.0], "crop_size": SIDE}
# Title, settings and epoch, chosen so that the draw shows something.
PANELS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("as annotated", {}, 0),
    ("scale_range, small", JITTER, 3),
    ("scale_range, large", JITTER, 1),
    ("random_crop", {"random_crop": 1.0}, 6),
    ("vertical_flip", {"vertical_flip": 1.0}, 0),
    ("quarter_turns", {"quarter_turns": True}, 3),
    ("copy_paste", {"copy_paste": 1.0}, 4),
    ("color_jitter", {"color_jitter": 0.5}, 3),
)


def draw_rows() -> tuple[list[dict[str, Any]], LabelMap]:
    """Two drawn images as rows of a shard."""
    with tempfile.TemporaryDirectory() as folder:
        paths = synthesize(Path(folder), 2, seed=11, height=150, width=200, max_objects=6)
        tree = json.loads(paths.annotations.read_text(encoding="utf-8"))
        rows = []
        for entry in tree["images"]:
            objects = [item for item in tree["annotations"] if item["image_id"] == entry["id"]]
            image = (paths.images / entry["file_name"]).read_bytes()
            rows.append(entry | {"image_id": entry["id"], "image": image, "annotations": json.dumps(objects)})
        return rows, read_labels(paths.annotations, tree)


def build(rows: list[dict[str, Any]], labels: LabelMap, settings: dict[str, Any], epoch: int) -> Sample:
    """The first row as training sees it, with the second as its partner."""
    source = {"kind": "synthetic", "num_images": 2}
    data = DataConfig.model_validate({"train": source, "val": source, "flip": 0.0, "augmentation": settings})
    builder = SampleBuilder(data, InputConfig(shorter_edge=150, longer_edge_max=SIDE), ModelConfig(), labels, 0)
    return builder.build(rows[0] | {"partner": rows[1] if "copy_paste" in settings else None}, epoch)


def draw_sample(sample: Sample, labels: LabelMap) -> NDArray[np.uint8]:
    """The image with its masks and boxes on it."""
    assert sample.targets.masks is not None
    results = []
    for box, index, mask in zip(sample.targets.boxes, sample.targets.classes, sample.targets.masks.bitmaps().numpy()):
        x0, y0, x1, y1 = box.tolist()
        encoded = coco_mask.encode(np.asfortranarray(mask))
        category = labels.categories[int(index)].id
        results.append({"category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": encoded})
    return draw_detections(np.ascontiguousarray(sample.image), results, labels)


def main() -> None:
    """Write the image beside this file."""
    rows, labels = draw_rows()
    num_rows = -(-len(PANELS) // COLUMNS)
    width, height = COLUMNS * (SIDE + GAP) + GAP, num_rows * (SIDE + TITLE + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (title, settings, epoch) in enumerate(PANELS):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (SIDE + GAP), GAP + row * (SIDE + TITLE + GAP)
        pen.text((left, top), title, fill="black", font=font)
        pen.rectangle((left, top + TITLE, left + SIDE - 1, top + TITLE + SIDE - 1), fill=(225, 225, 225))
        drawn = draw_sample(build(rows, labels, settings, epoch), labels)
        sheet.paste(Image.fromarray(drawn), (left, top + TITLE))
    path = Path(__file__).with_name("augmentation.png")
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
