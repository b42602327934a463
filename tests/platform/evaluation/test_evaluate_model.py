"""Evaluation of a model: by ranks and by Ray Data actors the same metrics, every image once, everything written."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskray.model.build_model import build_model
from maskray.model.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    Category,
    InferenceConfig,
    InputConfig,
    LabelMap,
    MaskHeadConfig,
    ModelConfig,
    ModelSpec,
    RPNConfig,
)
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.shards import write_shards
from maskray.platform.evaluation import row_prediction
from maskray.platform.evaluation.evaluate import evaluate_model, evaluate_rows, merge_parts
from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.evaluation.report import EvaluatedModel
from maskray.platform.evaluation.row_prediction import check_labels, plan_batches, predict_rows
from maskray.platform.files.model_folder import read_model_folder, read_model_spec, write_model_folder
from maskray.platform.inference.engine import Engine
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.config import EvaluationConfig, ResourceConfig
from maskray.platform.machine.precision import Measurement

IOU_TYPES = ("bbox", "segm")
NUM_IMAGES = 9


def write_dataset(folder: Path) -> tuple[Path, Path]:
    """Dark images of several sizes with bright rectangles; the last has none."""
    random = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for index in range(NUM_IMAGES):
        height, width = ((64, 96), (96, 64), (64, 64))[index % 3]
        pixels = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
        image_id = 100 - 7 * index
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
        for _ in range(index % 4 if index < NUM_IMAGES - 1 else 0):
            w, h = (int(v) for v in random.integers(40, 60, 2))
            x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
            category = int(random.choice([2, 5]))
            pixels[y : y + h, x : x + w, category % 3] = 230
            box = [float(v) for v in (x, y, w, h)]
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "bbox": box}
            annotations.append(annotation | {"area": float(w * h), "iscrowd": 0, "segmentation": polygon})
        Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
    categories = [{"id": 5, "name": "red & <green>"}, {"id": 2, "name": "blue"}]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "gt.json").write_text(json.dumps(tree))
    return folder / "gt.json", folder / "images"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ray_cluster) -> Path:
    """gt.json, images/, shards/ and model/."""
    folder: Path = tmp_path_factory.mktemp("evaluation")
    annotations, images = write_dataset(folder / "data")
    manifest = write_shards(read_dataset(annotations, images), str(images), str(folder / "shards"), 4)
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", norm="group_norm", freeze_stages=0, fpn_channels=16),
        anchors=AnchorConfig(sizes=(16, 32, 64, 128, 256)),
        # Untrained, but so much is kept of so large objects that some boxes are right.
        rpn=RPNConfig(pre_nms_top_n_test=40, post_nms_top_n_test=100, nms_iou=0.9),
        box_head=BoxHeadConfig(hidden_channels=16),
        mask_head=MaskHeadConfig(channels=16, num_convs=1),
        inference=InferenceConfig(score_threshold=0.0, nms_iou=0.9, detections_per_image=200),
    )
    spec = ModelSpec(model=config, input=InputConfig(shorter_edge=64, longer_edge_max=96), labels=manifest.labels)
    torch.manual_seed(0)
    write_model_folder(folder / "model", build_model(config, spec.input, 2), spec)
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / "shards")


RESOURCES = ResourceConfig(num_evaluators=2, local_cpus=4)


def make_config(**changes: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate({"images_per_batch": 2, "report_images": 6} | changes)


def make_model(folder: Path) -> EvaluatedModel:
    return EvaluatedModel(str(folder / "model"), "check", job="name: check")


@pytest.fixture(scope="module")
def evaluated(folder: Path, manifest: Manifest) -> tuple[dict[str, float], Path]:
    history = [{"step": s, "loss": 3.0 / s, "loss_mask": None, "val/segm/AP": 0.1 * s} for s in (1, 2, 3)]
    config = make_config(paper_row="2a/R50-FPN")
    metrics = evaluate_model(make_model(folder), manifest, config, RESOURCES, folder / "out", history)
    return metrics, folder / "out"


def test_ranks_and_actors_give_the_same_metrics(folder, manifest, evaluated):
    model, spec = read_model_folder(folder / "model")
    predictor = Predictor(model, spec)
    parts = [evaluate_rows(predictor, manifest, range(rank, NUM_IMAGES, 2), IOU_TYPES, 3) for rank in (1, 0)]
    merged = merge_parts(parts[0] + parts[1], manifest, IOU_TYPES)
    metrics, _ = evaluated
    assert set(merged) == {
        f"{iou_type}/{name}"
        for iou_type in IOU_TYPES
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    }
    # Batches differ, so scores differ by rounding: the rank of near-ties may, what is found within 100 may not.
    assert merged == pytest.approx(metrics, abs=0.02)
    for name in ("bbox/AR100", "segm/AR100"):
        assert metrics[name] > 0.1
        assert merged[name] == pytest.approx(metrics[name], abs=1e-9)  # counts over counts


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_results_written_evaluate_to_the_metrics_returned(folder, evaluated, iou_type):
    metrics, out = evaluated
    stats = evaluate_files(folder / "data/gt.json", out / "results.json", iou_type).stats
    assert stats == pytest.approx(
        [v for name, v in metrics.items() if name.startswith(iou_type)], abs=1e-12
    )  # one order
    assert json.loads((out / "metrics.json").read_text()) == metrics


def test_who_evaluate_together_take_one_precision(folder, manifest, monkeypatch):
    """What pays is asked once, and all that a model finds is found in that precision, which the report names."""
    spec = read_model_spec(folder / "model")
    network = read_model_folder(folder / "model")[0]
    for name in ("auto", "bfloat16"):
        inference = spec.model.inference.model_copy(update={"precision": name})
        changed = spec.model_copy(update={"model": spec.model.model_copy(update={"inference": inference})})
        write_model_folder(folder / name, network, changed)

    def measured(device: str) -> Measurement:
        return Measurement(device, 3.0, 1.0)

    monkeypatch.setattr(row_prediction, "measured_precision", measured)
    engine = row_prediction.decide_engine(read_model_spec(folder / "auto").model, RESOURCES)
    assert engine == Engine(precision="bfloat16")
    found = [
        predict_rows(str(folder / name), manifest, make_config(), RESOURCES, engine) for name in ("auto", "bfloat16")
    ]
    first, second = (images.results(manifest.image_ids) for images in found)
    assert first == second
    assert any(first)
    assert row_prediction.decide_engine(spec.model, RESOURCES) == Engine()


def test_tables_by_category_are_written(evaluated):
    _, out = evaluated
    rows = list(csv.DictReader((out / "per_class.csv").open()))
    assert [row["category_id"] for row in rows] == ["2", "5"]
    assert sum(int(row["objects"]) for row in rows) == sum(index % 4 for index in range(NUM_IMAGES - 1))
    assert all(0 <= float(row["bbox/AP"]) <= 1 for row in rows)
    markdown = (out / "per_class.md").read_text().splitlines()
    assert len(markdown) == 4
    assert {line.count("|") for line in markdown} == {12}


def test_the_report_stands_alone_and_escapes_what_files_say(evaluated):
    _, out = evaluated
    report = (out / "report.html").read_text()
    assert not [link for link in re.findall(r'(?:src|href)="([^"]*)"', report) if not link.startswith(("data:", "#"))]
    assert not re.search(r"@import|url\((?!#)", report)
    assert "red &amp; &lt;green&gt;" in report
    assert "<green>" not in report
    assert "33.6" in report  # the published row, beside the measured one
    assert "2a" in report
    assert report.count("data:image/jpeg;base64,") == 6
    assert report.count("<svg") == 4  # history, precision and recall, scores, and the stage of a picture


def test_diagnostics_are_written(evaluated):
    metrics, out = evaluated
    found = json.loads((out / "diagnostics.json").read_text())
    assert list(found) == list(IOU_TYPES)
    for iou_type, one in found.items():
        low, high = one["intervals"]["AP"]
        assert low <= metrics[f"{iou_type}/AP"] <= high
        assert set(one["errors"]) == {"class", "localisation", "both", "duplicate", "background", "missed"}
        objects = sum(sum(row) for row in one["confusion"]["matrix"][:-1])
        assert objects == sum(index % 4 for index in range(NUM_IMAGES - 1))
    assert not list(out.glob("*.partial*"))


def test_metrics_of_too_few_or_too_many_images_are_an_error(folder, manifest):
    model, spec = read_model_folder(folder / "model")
    parts = evaluate_rows(Predictor(model, spec), manifest, range(NUM_IMAGES), IOU_TYPES)
    lost = min(manifest.image_ids)
    with pytest.raises(ValueError, match=rf"1 of {NUM_IMAGES} images were not evaluated, such as {lost}"):
        merge_parts([part for part in parts if part.image_id != lost], manifest, IOU_TYPES)
    with pytest.raises(ValueError, match="not each once"):
        merge_parts([*parts, parts[0]], manifest, IOU_TYPES)


def test_batches_hold_every_row_once_and_one_network_size_each(folder, manifest):
    batches = plan_batches(manifest, range(NUM_IMAGES), read_model_spec(folder / "model"), 2)
    assert sorted(row for batch in batches for row in batch) == list(range(NUM_IMAGES))
    assert max(len(batch) for batch in batches) == 2
    for batch in batches:
        assert len({(manifest.heights[row], manifest.widths[row]) for row in batch}) == 1


def test_what_cannot_be_evaluated_is_told_before_the_work(folder, manifest, tmp_path):
    with pytest.raises(ValueError, match=r"evaluation.paper_row '2a/R18'"):
        evaluate_model(make_model(folder), manifest, make_config(paper_row="2a/R18"), RESOURCES, tmp_path)
    other = manifest.model_copy(
        update={"labels": manifest.labels.model_copy(update={"categories": manifest.labels.categories[:1]})}
    )
    with pytest.raises(ValueError, match="its categories are not those of the data"):
        predict_rows(str(folder / "model"), other, make_config(), RESOURCES)
    # Outputs for ids that COCO never used, as torchvision's models have them, are no reason; a category is.
    unused, more = Category(id=12, name="N/A 12"), Category(id=12, name="sign")
    own = manifest.labels.categories
    check_labels("model", LabelMap(categories=(unused, *own)), manifest.labels, "the data")
    with pytest.raises(ValueError, match="its categories are not those of the data"):
        check_labels("model", LabelMap(categories=(*own, more)), manifest.labels, "the data")
    with pytest.raises(ValueError, match=r"nowhere"):
        predict_rows(str(folder / "nowhere"), manifest, make_config(), RESOURCES)
    cut = tmp_path / "cut"
    shutil.copytree(folder / "model", cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged or cut short"):
        predict_rows(str(cut), manifest, make_config(), RESOURCES)


def test_segm_of_a_model_without_masks_is_an_error_and_bbox_works(folder, manifest):
    spec = read_model_spec(folder / "model")
    plain = spec.model_copy(update={"model": spec.model.model_copy(update={"masks": False})})
    predictor = Predictor(build_model(plain.model, plain.input, 2).eval(), plain)
    with pytest.raises(ValueError, match="segm needs a model with masks"):
        evaluate_rows(predictor, manifest, [0], IOU_TYPES)
    with pytest.raises(ValueError, match="keypoints needs a model with keypoints"):
        evaluate_rows(predictor, manifest, [0], ["keypoints"])
    metrics = merge_parts(evaluate_rows(predictor, manifest, range(NUM_IMAGES), ["bbox"]), manifest, ["bbox"])
    assert all(name.startswith("bbox/") and not math.isnan(value) for name, value in metrics.items())


def test_a_damaged_image_is_named_in_one_line(folder, tmp_path):
    shutil.copytree(folder / "shards", tmp_path / "shards")
    shard = next(iter(sorted((tmp_path / "shards").glob("*.parquet"))))
    data = shard.read_bytes()
    start = data.index(b"\x89PNG")
    shard.write_bytes(data[:start] + b"\0" * 8 + data[start + 8 :])
    with pytest.raises(ValueError, match=r"^image \d+ \(\d+\.png\): image cannot be decoded"):
        predict_rows(str(folder / "model"), read_manifest(tmp_path / "shards"), make_config(), RESOURCES)


def test_what_test_time_augmentation_gains_and_costs_is_told_beside_one_view(folder, manifest, evaluated, caplog):
    config = make_config(tta={"scales": [64, 96], "longer_edge_max": 160})
    metrics = evaluate_model(make_model(folder), manifest, config, RESOURCES, folder / "augmented")
    gain = json.loads((folder / "augmented/tta.json").read_text())
    assert gain["all_views"] == metrics
    assert gain["one_view"] == pytest.approx(evaluated[0])
    assert metrics != gain["one_view"]
    assert gain["seconds_all_views"] > gain["seconds_one_view"] > 0
    assert "segm/AP" in caplog.text
    assert "s an image" in caplog.text
