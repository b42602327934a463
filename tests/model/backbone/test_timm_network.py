"""Networks of timm below a pyramid: timm's maps with timm's weights, freezing, norms, training, what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from maskray.model.backbone.fpn import STRIDES
from maskray.model.backbone.timm_network import PREFIX, TimmNetwork
from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.model.torchvision_export import to_torchvision
from maskray.model.transfer import Source, transfer
from maskray.platform.files.model_folder import read_model_folder, write_model_folder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: pip install 'maskray[timm]'"
)
CONVNEXT, MOBILENET = "timm:convnext_atto", "timm:mobilenetv3_small_050"  # the smallest of both kinds
STAGES = {  # stem, and what ends with the map of stride 4, 8, 16, 32
    CONVNEXT: [("stem_0", "stem_1"), ("stages_0",), ("stages_1",), ("stages_2",), ("stages_3",)],
    MOBILENET: [("conv_stem", "bn1"), ("blocks.0",), ("blocks.1",), ("blocks.2", "blocks.3"), ("blocks.4", "blocks.5")],
}
LABELS = LabelMap(categories=(Category(id=1, name="rectangle"), Category(id=2, name="ellipse")))


def small_config(name: str, **backbone: Any) -> ModelConfig:
    return ModelConfig.model_validate({
        "backbone": {"name": name, "freeze_stages": 0, "fpn_channels": 32, **backbone},
        "anchors": {"sizes": [16, 32, 64, 128, 256]},
        "rpn": {"samples_per_image": 32, "pre_nms_top_n_train": 50, "post_nms_top_n_train": 50},
        "box_head": {"hidden_channels": 32, "samples_per_image": 32},
        "mask_head": {"channels": 16, "num_convs": 1},
        "inference": {"score_threshold": 0.0, "detections_per_image": 10},
    })  # fmt: skip


def build(name: str, **backbone: Any) -> MaskRCNN:
    torch.manual_seed(0)
    return build_model(small_config(name, **backbone), InputConfig(), 2)


def network(name: str, **backbone: Any) -> TimmNetwork:
    return TimmNetwork(BackboneConfig.model_validate({"name": name, "freeze_stages": 0, **backbone}))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("timm:convnext_tiny", [96, 192, 384, 768]),
        ("timm:mobilenetv3_large_100", [24, 40, 112, 960]),
        ("timm:mobilenetv3_small_100", [16, 24, 48, 576]),
    ],
)
@pytest.mark.parametrize(("height", "width", "padded"), [(70, 101, (96, 128)), (64, 160, (64, 160))])
def test_every_map_has_its_stride(
    name: str, channels: list[int], height: int, width: int, padded: tuple[int, int]
) -> None:
    with torch.device("meta"):
        model = build(name)
        sizes = torch.tensor([[height, width]] * 2)
        batch = Batch(torch.zeros(2, 3, height, width, dtype=torch.uint8), sizes, torch.arange(2), sizes)
        levels = model.features(batch)
    assert model.backbone.get_submodule("timm").out_channels == channels
    assert [tuple(level.shape) for level in levels] == [
        (2, 32, -(-padded[0] // stride), -(-padded[1] // stride)) for stride in STRIDES
    ]


@pytest.mark.parametrize(("name", "maps"), [(CONVNEXT, [0, 1, 2, 3]), (MOBILENET, [1, 2, 3, 4])])
def test_a_checkpoint_of_timm_gives_the_maps_of_timm(name: str, maps: list[int], tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    classifier = timm.create_model(name.partition(":")[2], pretrained=False).eval()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    model = build(name).eval()
    labels = LabelMap(categories=(Category(id=1, name="a"), Category(id=2, name="b")))
    taken = transfer(model, InputConfig(), labels, Source("weights", classifier.state_dict()), {})
    assert (taken.parts[0].part, taken.parts[0].anew, taken.parts[0].left) == ("backbone", 0, 0)
    assert [row.taken for row in taken.parts[1:]] == [0] * len(taken.parts[1:])
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = model.backbone.get_submodule("timm")(x)
        expected = classifier.forward_intermediates(x, indices=maps, intermediates_only=True)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)  # the same sums, in another layout of memory


@pytest.mark.parametrize("name", [CONVNEXT, MOBILENET])
@pytest.mark.parametrize("freeze_stages", [0, 1, 2, 4, 5])
def test_stages_are_frozen_from_the_stem(name: str, freeze_stages: int) -> None:
    with torch.device("meta"):
        net = network(name, freeze_stages=freeze_stages).network
    frozen = tuple(f"{part}." for stage in STAGES[name][:freeze_stages] for part in stage)
    for parameter_name, parameter in net.named_parameters():
        assert parameter.requires_grad != parameter_name.startswith(frozen), parameter_name
    for module_name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not f"{module_name}.".startswith(frozen), module_name


@pytest.mark.parametrize("norm", ["frozen_batch_norm", "batch_norm"])
def test_frozen_batch_norm_is_that_of_evaluation(norm: str) -> None:
    torch.manual_seed(0)
    plain = network(MOBILENET)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    net = network(MOBILENET, norm=norm)
    report = net.load_state_dict(plain.state_dict(), strict=False)
    assert not report.missing_keys
    frozen = not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert frozen == (norm == "frozen_batch_norm")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = plain.eval()(x), net.train()(x)
    # Float32 sums in another order.
    same = [torch.allclose(own, other, rtol=1e-4, atol=1e-5) for own, other in zip(found, expected, strict=True)]
    assert same == [frozen] * 4  # in training, batch norm takes the statistics of the batch


def test_batch_norm_can_be_of_all_workers() -> None:
    norms = [m for m in network(MOBILENET, norm="sync_batch_norm").modules() if isinstance(m, nn.SyncBatchNorm)]
    own = [m for m in network(MOBILENET).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(own) > 10


def train(model: MaskRCNN, batch: Batch, num_steps: int) -> list[float]:
    """Sums of the losses of steps with momentum."""
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    history = []
    for _ in range(num_steps):
        total = torch.stack(list(model(batch, generator=generator).values())).sum()
        optimizer.zero_grad()
        total.backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append(total.item())
    return history


@pytest.mark.parametrize("name", [CONVNEXT, MOBILENET])
def test_a_mask_rcnn_learns_two_images_and_comes_back_from_its_folder(
    name: str, two_images: Batch, tmp_path: Path
) -> None:
    model = build(name, freeze_stages=2)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    history = train(model, two_images, 10)
    assert sum(history[-3:]) < 0.8 * sum(history[:3]), history
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    # Statistics of batch norm are among the tensors.
    stages = [tuple(f"{PREFIX}{part}." for part in stage) for stage in STAGES[name]]
    assert not [key for stage in stages[:2] for key in changed if key.startswith(stage)]
    for stage in (*stages[2:], "backbone.lateral.", "rpn.", "roi_heads."):
        assert [key for key in changed if key.startswith(stage)], stage

    write_model_folder(tmp_path / "model", model, ModelSpec(model=model.config, input=InputConfig(), labels=LABELS))
    read, spec = read_model_folder(tmp_path / "model")
    assert spec.model == model.config
    found, expected = read.detect(two_images), model.eval().detect(two_images)
    assert len(found.boxes) > 0
    assert found.masks is not None
    assert found.masks.shape == (len(found.boxes), 28, 28)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-4, atol=1e-3)  # another layout of the weights
    # Float32 sums in another order.
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "timm:convnext_tinny"}, "convnext_tinny: timm .* has no such network; convnext_tiny?"),
        ({"name": "timm:vit_tiny_patch16_224"}, "vit_tiny_patch16_224: takes images of one size alone"),
        ({"name": "timm:vit_base_patch16_siglip_gap_224"}, "takes images of one size alone"),
        ({"name": CONVNEXT, "norm": "batch_norm"}, "model.backbone.norm is batch_norm, but .*convnext_atto has no bat"),
        ({"name": "timm:hrnet_w18_small", "freeze_stages": 1}, "freeze_stages must be 0: timm tells no stages of"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(keys: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message) as caught:
        network(**keys)
    assert "\n" not in str(caught.value)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importlib.util.sys.modules, "timm", None)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"timm:convnext_tiny needs timm: pip install 'maskray\[timm\]'"):
        network("timm:convnext_tiny")


def test_torchvision_has_none_of_its_weights_and_no_place_for_it() -> None:
    with pytest.raises(ValueError, match="timm:mobilenetv3_small_050: torchvision has no such network"):
        to_torchvision(
            build_model(ModelConfig(backbone=BackboneConfig(name=MOBILENET)), InputConfig(), 2), InputConfig()
        )
