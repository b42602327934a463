"""What is read off a state dict of detectron2: architecture, order of colours, and what does not fit is named."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from maskray.model.build_model import build_model
from maskray.model.coco_categories import NAMES, labels_of_imported
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig
from maskray.model.detectron2_names import read_detectron2
from maskray.model.imported import build_imported
from maskray.model.transfer import Source, transfer

SMALL: dict[str, Any] = {"stem_channels": 8, "res2_channels": 4}
FPN: dict[str, Any] = {**SMALL, "fpn_channels": 8}
MASK = {"channels": 8}
CASES: dict[str, dict[str, Any]] = {
    "r50 fpn": {"backbone": FPN, "box_head": {"hidden_channels": 16}, "mask_head": MASK},
    "r101 fpn boxes": {"backbone": {**FPN, "name": "resnet101"}, "masks": False},
    "r18 fpn": {"backbone": {**FPN, "name": "resnet18"}, "mask_head": MASK},
    "x101 fpn": {"backbone": {**FPN, "name": "resnext101_32x8d", "res2_channels": 8}, "mask_head": MASK},
    "r50 c4": {
        "backbone": {**SMALL, "features": "c4"},
        "box_head": {"pool_size": 14, "res5_stride": 2},
        "mask_head": {"channels": 8, "num_convs": 0},
    },
    "r50 dc5": {"backbone": {**SMALL, "features": "dc5"}, "box_head": {"hidden_channels": 16}, "mask_head": MASK},
    "group norm": {
        "backbone": {**FPN, "norm": "group_norm", "fpn_norm": "group_norm"},
        "box_head": {"num_convs": 4, "conv_channels": 8, "num_fcs": 1, "hidden_channels": 16, "norm": "group_norm"},
        "mask_head": {"channels": 8, "norm": "group_norm"},
    },
    "trained batch norm": {"backbone": {**FPN, "norm": "batch_norm", "freeze_stages": 1}, "masks": False},
    "keypoints": {
        "backbone": FPN,
        "keypoints": True,
        "masks": False,
        "keypoint_head": {"channels": 8, "num_keypoints": 5},
    },
    "deep rpn, agnostic": {
        "backbone": FPN,
        "rpn": {"num_convs": 2},
        "box_head": {"class_agnostic": True, "hidden_channels": 16},
        "mask_head": {"channels": 8, "output": "class_agnostic"},
    },
}


def detectron2_state(values: dict[str, Any], num_classes: int = 6) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A small model and its state dict under detectron2's names, made by rules of this test's own."""
    config = ModelConfig.model_validate(values)
    torch.manual_seed(0)
    model = build_model(config, InputConfig(), num_classes)
    bottom_up = "backbone.bottom_up." if config.backbone.features == "fpn" else "backbone."
    state = {}
    for name, tensor in model.state_dict().items():
        values_of_its_own = torch.rand_like(tensor) if tensor.is_floating_point() else torch.tensor(len(state))
        state[_detectron2_name(name, config).replace("backbone.resnet.", bottom_up)] = values_of_its_own
    return config, state


def _detectron2_name(name: str, config: ModelConfig) -> str:
    name = re.sub(r"(conv\d|shortcut)\.conv\.", r"\1.", name)
    name = re.sub(
        r"backbone\.(lateral|output)\.(\d)\.(conv\.)?", lambda m: f"backbone.fpn_{m[1]}{int(m[2]) + 2}.", name
    )
    convs = "conv." if config.rpn.num_convs == 1 else r"conv.conv\1."
    name = re.sub(r"rpn\.head\.convs\.(\d)\.", f"proposal_generator.rpn_head.{convs}", name)
    name = name.replace("rpn.head.objectness", "proposal_generator.rpn_head.objectness_logits")
    name = name.replace("rpn.head.deltas", "proposal_generator.rpn_head.anchor_deltas")
    name = name.replace("box_head.classifier", "box_predictor.cls_score")
    name = name.replace("box_head.deltas", "box_predictor.bbox_pred")
    name = name.replace("keypoint_head.deconv", "keypoint_head.score_lowres")
    for head, layer, norm in (
        ("box", "conv", config.box_head.norm),
        ("mask", "mask_fcn", config.mask_head.norm),
        ("keypoint", "conv_fcn", "none"),
    ):
        size = 2 if norm == "none" else 3

        def numbered(match: re.Match[str], layer: str = layer, size: int = size) -> str:
            number, part = divmod(int(match[2]), size)
            return f"{match[1]}{layer}{number + 1}.{'norm.' if part else ''}"

        name = re.sub(rf"({head}_head\.)convs\.(\d+)\.", numbered, name)
    return name


@pytest.mark.parametrize("case", CASES)
def test_the_architecture_is_read_and_every_tensor_kept(case: str) -> None:
    config, state = detectron2_state(CASES[case])
    state["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    imported = read_detectron2(state, shorter_edge=640, longer_edge_max=1000)
    assert imported.num_classes == 6
    assert (imported.input.shorter_edge, imported.input.longer_edge_max) == (640, 1000)
    for part in ("backbone", "box_head", "mask_head", "keypoint_head", "masks", "keypoints"):
        wanted, found = getattr(config, part), getattr(imported.model, part)
        if part in ("masks", "keypoints"):
            assert wanted == found
            continue
        skipped = {"stride_in_1x1", "fold_norm", "samples_per_image", "box_loss", "smooth_l1_beta"}
        assert found.model_dump(exclude=skipped) == wanted.model_dump(exclude=skipped)
    assert imported.model.rpn.num_convs == config.rpn.num_convs
    model = build_imported(imported)
    wanted = sorted(float(tensor.double().sum()) for name, tensor in state.items() if "cell_anchors" not in name)
    found = sorted(float(tensor.double().sum()) for tensor in model.state_dict().values())
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("case", "stride_in_1x1", "std"),
    [
        ("r50 fpn", True, (1.0, 1.0, 1.0)),
        ("r18 fpn", False, (1.0, 1.0, 1.0)),
        ("group norm", False, (1.0, 1.0, 1.0)),
        ("x101 fpn", False, (57.375, 57.12, 58.395)),
    ],
)
def test_colours_and_stride_are_those_of_the_zoo(
    case: str, stride_in_1x1: bool, std: tuple[float, float, float]
) -> None:
    _, state = detectron2_state(CASES[case])
    imported = read_detectron2(state)
    assert imported.model.backbone.stride_in_1x1 == stride_in_1x1
    assert imported.input.channel_order == "bgr"
    assert imported.input.pixel_mean == (103.53, 116.28, 123.675)
    assert imported.input.pixel_std == std
    first = state["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(imported.tensors["backbone.resnet.stem.conv1.conv.weight"], first)
    assert "of the model zoo's" in imported.notes[1]


def test_statistics_in_the_file_win() -> None:
    _, state = detectron2_state(CASES["r50 fpn"])
    state |= {"pixel_mean": torch.tensor([1.0, 2, 3]).view(3, 1, 1), "pixel_std": torch.tensor([4.0, 5, 6])}
    imported = read_detectron2(state)
    assert (imported.input.pixel_mean, imported.input.pixel_std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert "of the file" in imported.notes[1]
    with pytest.raises(ValueError, match="pixel_std has 1 values, not 3"):
        read_detectron2(state | {"pixel_std": torch.ones(1)})


def test_proposals_and_losses_are_those_of_the_base_configurations() -> None:
    def counts(case: str) -> tuple[int, ...]:
        config = read_detectron2(detectron2_state(CASES[case])[1]).model
        rpn = config.rpn
        return (
            rpn.pre_nms_top_n_train, rpn.pre_nms_top_n_test, rpn.post_nms_top_n_train, rpn.post_nms_top_n_test,
            config.box_head.samples_per_image,
        )  # fmt: skip

    assert counts("r50 fpn") == (2000, 1000, 1000, 1000, 512)
    assert counts("r50 c4") == counts("r50 dc5") == (12000, 6000, 2000, 1000, 512)
    assert counts("keypoints") == (2000, 1000, 1500, 1000, 512)
    assert read_detectron2(detectron2_state(CASES["r50 fpn"])[1]).model.box_head.box_loss == "l1"
    head = read_detectron2(detectron2_state(CASES["keypoints"])[1]).model.box_head
    assert (head.box_loss, head.smooth_l1_beta) == ("smooth_l1", 0.5)


def test_what_does_not_fit_is_named() -> None:
    _, state = detectron2_state(CASES["r50 fpn"])
    objectness = "proposal_generator.rpn_head.objectness_logits"
    fc1 = "roi_heads.box_head.fc1.weight"
    lateral = "backbone.fpn_lateral4.bias"
    for change, message in (
        ({"backbone.extra.weight": torch.zeros(1)}, "1 of .* tensors are of no model .*: backbone.extra.weight"),
        ({f"{objectness}.weight": torch.zeros(9, 8, 1, 1)}, "9 anchors per cell; 3 are known for features fpn"),
        ({fc1: torch.zeros(16, 390)}, "fc1.weight takes 390 values: no square grid of 8 channels"),
        ({lateral: torch.zeros(9)}, r"backbone.lateral.2.conv.bias has shape \(9,\).* has \(8,\)"),
        ({lateral: None}, "1 tensors are missing: backbone.lateral.2.conv.bias"),
        ({"roi_heads.box_head.fc2.gain": torch.zeros(1)}, "1 tensors have no place .*: roi_heads.box_head.fc2.gain"),
        ({f"{objectness}.weight": None}, "rpn.head.objectness.weight is missing"),
    ):
        changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
        with pytest.raises(ValueError, match=message) as caught:
            build_imported(read_detectron2(changed))
        assert "\n" not in str(caught.value)
    block = {name.replace("res4.5", "res4.6"): tensor for name, tensor in state.items() if "res4.5" in name}
    with pytest.raises(ValueError, match=r"blocks of res2 to res5 \(3, 4, 7, 3\) are those of no known ResNet"):
        read_detectron2(state | block)


@pytest.mark.parametrize("case", ["r50 fpn", "r50 c4", "r50 dc5"])
def test_its_80_classes_start_a_model_of_others_by_name(case: str) -> None:
    """Rows of the one class that COCO has keep their bits; the job must have the pixels that the weights know."""
    state = detectron2_state(CASES[case], 80)[1]
    found = read_detectron2(state)
    labels = LabelMap(categories=tuple(Category(id=id, name=name) for id, name in enumerate(("sled", "Dog", "rider"))))
    source = Source("coco.pkl", found.tensors, found.model, found.input, labels_of_imported(80))
    model = build_model(found.model, found.input, 3)
    with pytest.raises(ValueError, match=r"coco\.pkl: was trained on other pixels than the job's; set input"):
        transfer(model, InputConfig(), labels, source, {})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taken = transfer(model, found.input, labels, source, {})
    assert taken.classes == {"sled": None, "Dog": "dog", "rider": None}
    dog = list(NAMES.values()).index("dog")
    places = {"box_predictor.cls_score": ("box_head.classifier", 1), "box_predictor.bbox_pred": ("box_head.deltas", 4),
              "mask_head.predictor": ("mask_head.predictor", 1)}  # fmt: skip
    for theirs, (ours, size) in places.items():
        for kind in ("weight", "bias"):
            rows = model.state_dict()[f"roi_heads.{ours}.{kind}"]
            wanted = state[f"roi_heads.{theirs}.{kind}"][dog * size : (dog + 1) * size]
            assert torch.equal(rows[size : 2 * size], wanted), theirs
            assert torch.equal(rows[:size], before[f"roi_heads.{ours}.{kind}"][:size]), theirs
    assert {row.part for row in taken.parts if row.anew or row.left} == set()
