"""Models of torchvision with random weights, imported, find on images what torchvision finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from maskray.model.coco_categories import labels_of_imported
from maskray.model.config import ModelSpec
from maskray.model.detections import ImageDetections, to_original
from maskray.model.imported import Imported, build_imported
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch, Detections
from maskray.model.torchvision_names import read_torchvision
from maskray.platform.inference.predictor import Predictor

EDGES = {"shorter_edge": 128, "longer_edge_max": 208}
# Both are computed in float64: no choice hangs on rounding. But constants are float32 in one of them, such as the means
# of the pixels and the ratio of sizes: 1e-7, which a random network makes 1e-4 of a score.
BOX_PIXELS, SCORE = 0.01, 1e-4
IMAGE_PIXELS = 0.03  # an image is up to five times as large as the network's input
NUM_PROPOSALS, NUM_DETECTIONS = 60, 15
pytestmark = pytest.mark.slow


@torch.no_grad()
def make_lively(model: Any, images: list[Tensor]) -> None:
    """Give batch norm the statistics of the original image, and predictors scores and boxes that differ; eval mode."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.uniform_(-0.2, 0.2)
    model.train()
    batch = model.transform([image / 255 for image in images])[0]
    features = model.backbone(batch.tensors)
    boxes = [torch.tensor([[10.0, 10, 100, 100], [5, 50, 150, 120], [0, 0, 40, 40]])] * len(images)
    heads = model.roi_heads
    heads.box_head(heads.box_roi_pool(features, boxes, batch.image_sizes))
    if heads.mask_head is not None:
        inside = heads.mask_head(heads.mask_roi_pool(features, boxes, batch.image_sizes))
        heads.mask_predictor.mask_fcn_logits.weight.div_(1.5 * heads.mask_predictor(inside).std())
    model.eval()
    for layer, deviation in (
        (model.rpn.head.cls_logits, 0.05),
        (model.rpn.head.bbox_pred, 0.005),
        (heads.box_predictor.cls_score, 3.2 / heads.box_predictor.cls_score.in_features**0.5),
        (heads.box_predictor.bbox_pred, 0.3 / heads.box_predictor.cls_score.in_features**0.5),
    ):
        layer.weight.normal_(std=deviation)
        layer.bias.normal_(std=0.1)


def build(name: str, make_heads: Callable[[], dict[str, nn.Module]]) -> Any:
    torch.manual_seed(0)
    model = getattr(detection, name)(
        weights=None,
        weights_backbone=None,
        min_size=EDGES["shorter_edge"],
        max_size=EDGES["longer_edge_max"],
        rpn_post_nms_top_n_test=NUM_PROPOSALS,
        box_detections_per_img=NUM_DETECTIONS,
    )
    for part, head in make_heads().items():
        setattr(model.roi_heads, part, head)
    return model


def with_fewer(imported: Imported) -> Imported:
    """The same with as few proposals and detections as build() asks of torchvision."""
    model = imported.model
    return dataclasses.replace(
        imported,
        model=model.model_copy(
            update={
                "rpn": model.rpn.model_copy(update={"post_nms_top_n_test": NUM_PROPOSALS}),
                "inference": model.inference.model_copy(update={"detections_per_image": NUM_DETECTIONS}),
            }
        ),
    )


# Heads narrower than torchvision's own, for the time they take.
MODELS: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "maskrcnn_resnet50_fpn": lambda: {
        "mask_head": MaskRCNNHeads(256, (64,) * 4, 1),
        "mask_predictor": MaskRCNNPredictor(64, 64, 91),
    },
    "maskrcnn_resnet50_fpn_v2": lambda: {
        "box_head": FastRCNNConvFCHead((256, 7, 7), [64] * 4, [128], nn.BatchNorm2d),
        "box_predictor": FastRCNNPredictor(128, 91),
        "mask_head": MaskRCNNHeads(256, (64,) * 4, 1, nn.BatchNorm2d),
        "mask_predictor": MaskRCNNPredictor(64, 64, 91),
    },
    "keypointrcnn_resnet50_fpn": lambda: {
        "keypoint_head": KeypointRCNNHeads(256, (64,) * 8),
        "keypoint_predictor": KeypointRCNNPredictor(64, 17),
    },
}


@dataclasses.dataclass
class Answers:
    theirs: Any
    ours: MaskRCNN
    imported: Imported
    batch: Batch
    wanted: list[dict[str, Tensor]]  # of torchvision, of each image in pixels of the network input
    pasted: list[dict[str, Tensor]]  # the same in pixels of the original image
    found: Detections
    matches: list[Tensor]  # of each image: rows of `found` in the order of `wanted`


@pytest.fixture(scope="module", params=MODELS)
def answers(
    request: pytest.FixtureRequest,
    images: list[Tensor],
    batch_as_torchvision: Callable[..., Batch],
    module_in_float64: None,
) -> Answers:
    model = build(request.param, MODELS[request.param])
    make_lively(model, images)
    model.double()
    images = [image.double() for image in images]
    with torch.no_grad():
        batch = model.transform([image / 255 for image in images])[0]
        features = model.backbone(batch.tensors)
        proposals, _ = model.rpn(batch, features)
        wanted, _ = model.roi_heads(features, proposals, batch.image_sizes)
        sizes = [tuple(image.shape[1:]) for image in images]
        pasted = model.transform.postprocess([dict(one) for one in wanted], batch.image_sizes, sizes)
    own_batch = batch_as_torchvision(images, *EDGES.values())
    imported = with_fewer(read_torchvision(model.state_dict(), **EDGES))
    ours = build_imported(imported).double()
    found = ours.detect(own_batch)
    matches = [match(one, found, index) for index, one in enumerate(wanted)]
    return Answers(model, ours, imported, own_batch, wanted, pasted, found, matches)


def match(wanted: dict[str, Tensor], found: Detections, index: int) -> Tensor:
    """Rows of the same image and class and the nearest box: equal scores may stand in either order."""
    distance = (wanted["boxes"][:, None] - found.boxes).abs().amax(dim=2)
    other = (wanted["labels"][:, None] - 1 != found.classes) | (found.image_index != index)
    return distance.masked_fill(other, torch.inf).argmin(dim=1)


def test_every_detection_agrees(answers: Answers) -> None:
    assert len(answers.found.scores) == sum(len(one["scores"]) for one in answers.wanted) >= 2 * NUM_DETECTIONS - 6
    assert sorted(torch.cat(answers.matches).tolist()) == list(range(len(answers.found.scores)))
    for wanted, rows in zip(answers.wanted, answers.matches):
        torch.testing.assert_close(answers.found.boxes[rows], wanted["boxes"], atol=BOX_PIXELS, rtol=0)
        torch.testing.assert_close(answers.found.scores[rows], wanted["scores"], atol=SCORE, rtol=0)


def test_every_mask_agrees(answers: Answers) -> None:
    assert (answers.found.masks is None) == ("masks" not in answers.wanted[0])
    if answers.found.masks is None:
        return
    assert float(answers.found.masks.std()) > 0.1
    for index, (wanted, pasted, rows) in enumerate(zip(answers.wanted, answers.pasted, answers.matches)):
        torch.testing.assert_close(answers.found.masks[rows], wanted["masks"][:, 0], atol=SCORE, rtol=0)
        # In the image: detections of one image stand together, in the order of `found`.
        order = rows - rows.min()
        found = to_original(answers.found, answers.batch, index, mask_paste="torchvision")
        own = np.stack([decode(found, row) for row in order.tolist()])
        soft = pasted["masks"][:, 0].numpy()
        differing = own != (soft >= 0.5)
        assert (np.abs(soft[differing] - 0.5) < 10 * SCORE).all()  # interpolated along a box that moved too
        assert 0 < own.mean() < 1
        torch.testing.assert_close(found.boxes[order], pasted["boxes"], atol=IMAGE_PIXELS, rtol=0)


def decode(found: ImageDetections, row: int) -> Any:
    assert found.masks is not None
    return coco_mask.decode(found.masks[row]).astype(bool)


def test_every_keypoint_agrees(answers: Answers) -> None:
    assert (answers.found.keypoints is None) == ("keypoints" not in answers.wanted[0])
    if answers.found.keypoints is None:
        return
    for wanted, rows in zip(answers.wanted, answers.matches):
        found = answers.found.keypoints[rows]
        # torchvision returns both in float32. A score is a logit here.
        torch.testing.assert_close(found[..., :2], wanted["keypoints"][..., :2].double(), atol=BOX_PIXELS, rtol=0)
        torch.testing.assert_close(found[..., 2], wanted["keypoints_scores"].double(), atol=10 * SCORE, rtol=0)


def test_an_image_gives_the_results_that_torchvision_gives(answers: Answers, images: list[Tensor]) -> None:
    """From the image of a file to COCO's results, resize, paste and categories included."""
    image = images[0].double()  # of the other one a box ends at 163.998: torchvision cuts boxes before it pastes
    with torch.no_grad():
        (wanted,) = answers.theirs([image / 255])
    imported = answers.imported
    labels = labels_of_imported(imported.num_classes)
    spec = ModelSpec(model=imported.model, input=imported.input, labels=labels)
    picture = image.permute(1, 2, 0).to(torch.uint8).numpy()
    (results,) = Predictor(answers.ours, spec).predict([picture], [1])
    assert len(results) == len(wanted["scores"]) == NUM_DETECTIONS
    boxes = torch.tensor([result["bbox"] for result in results], dtype=torch.float64)
    boxes[:, 2:] += boxes[:, :2]
    categories = torch.tensor([result["category_id"] for result in results])
    distance = (wanted["boxes"][:, None] - boxes).abs().amax(dim=2)
    nearest, rows = distance.masked_fill(wanted["labels"][:, None] != categories, torch.inf).min(dim=1)
    assert sorted(rows.tolist()) == list(range(NUM_DETECTIONS))
    assert float(nearest.max()) <= IMAGE_PIXELS
    scores = torch.tensor([results[row]["score"] for row in rows.tolist()], dtype=torch.float64)
    torch.testing.assert_close(scores, wanted["scores"], atol=10 * SCORE, rtol=0)  # the resize is in float32
    for row, index in zip(rows.tolist(), range(NUM_DETECTIONS)):
        if "masks" in wanted:
            own = coco_mask.decode(results[row]["segmentation"]).astype(bool)
            soft = wanted["masks"][index, 0].numpy()
            assert (np.abs(soft[own != (soft >= 0.5)] - 0.5) < 1e-2).all()
        if "keypoints" in wanted:
            own = np.reshape(results[row]["keypoints"], (-1, 3))[:, :2]
            assert np.abs(own - wanted["keypoints"][index, :, :2].numpy()).max() <= IMAGE_PIXELS
