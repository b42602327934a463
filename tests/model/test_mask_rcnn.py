"""The whole model: losses in unusual batches, gradients of every parameter, padding, precision, errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from maskray.model.backbone.norm import FrozenBatchNorm2d
from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Targets

KEYS = {"loss_rpn_objectness", "loss_rpn_box", "loss_classifier", "loss_box", "loss_mask"}


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def crowded(num: int) -> list[tuple[int, int, int, int, int]]:
    return [(i % 2, i * 7 % 110, i * 5 % 80, i * 7 % 110 + 4 + i % 14, i * 5 % 80 + 4 + i % 12) for i in range(num)]


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([[(0, 10, 12, 50, 60)], []], id="an image without objects"),
        pytest.param([[], []], id="no objects at all"),
        pytest.param([[(0, 30, 30, 31, 31)], [(1, 0, 0, 1, 1)]], id="one pixel"),
        pytest.param([[(0, 0, 0, 128, 96)], [(1, 100, 60, 128, 96)]], id="at the border"),
        pytest.param([[(0, 120, 80, 150, 110)], [(1, 200, 200, 220, 230), (0, 5, 5, 30, 30)]], id="outside the image"),
        pytest.param([crowded(1000), crowded(3)], id="a thousand"),
    ],
)
def test_losses_are_finite_and_every_parameter_has_a_gradient(
    tiny_model: MaskRCNN, make_batch: Callable[..., Batch], objects: list[list[tuple[int, ...]]]
) -> None:
    losses = tiny_model(make_batch(objects))
    assert set(losses) == KEYS
    assert all(loss.ndim == 0 and loss.dtype == torch.float32 for loss in losses.values())
    total(losses).backward()
    assert math.isfinite(total(losses).item())
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    if not any(objects):
        assert losses["loss_rpn_box"].item() == losses["loss_box"].item() == losses["loss_mask"].item() == 0
        assert losses["loss_classifier"].item() > 0


def test_a_box_without_area_in_the_targets_is_harmless(tiny_model: MaskRCNN, two_images: Batch) -> None:
    assert two_images.targets is not None
    two_images.targets.boxes[1, 0, 2:] = two_images.targets.boxes[1, 0, :2]
    losses = tiny_model(two_images)
    total(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in tiny_model.parameters() if p.grad is not None)


def test_the_same_generator_gives_the_same_losses(tiny_model: MaskRCNN, two_images: Batch) -> None:
    first, second, other = (
        total(tiny_model(two_images, generator=torch.Generator().manual_seed(seed))).item() for seed in (3, 3, 4)
    )
    assert first == second
    assert first != other


def test_loss_is_that_of_uint8_and_float_images_alike(tiny_model: MaskRCNN, two_images: Batch) -> None:
    as_bytes = total(tiny_model(two_images, generator=torch.Generator().manual_seed(3))).item()
    two_images.images = two_images.images.float()
    assert total(tiny_model(two_images, generator=torch.Generator().manual_seed(3))).item() == as_bytes


def test_normalisation_by_hand_and_zero_padding(tiny_config: ModelConfig) -> None:
    model = build_model(tiny_config, InputConfig(pixel_mean=(10, 20, 30), pixel_std=(1, 2, 4)), 2)
    images = torch.full((2, 3, 40, 50), 40, dtype=torch.uint8)
    out = model.normalize(images, torch.tensor([[40, 50], [30, 20]]))
    assert out.shape == (2, 3, 64, 64)
    assert out[0, :, 39, 49].tolist() == [30, 10, 2.5]
    assert not out[0, :, 40:].any()
    assert not out[1, :, 30:].any()
    assert not out[1, :, :, 20:].any()
    assert (out[1, 0, :30, :20] == 30).all()


def test_detections_do_not_depend_on_what_stands_in_the_padding(tiny_model: MaskRCNN, two_images: Batch) -> None:
    tiny_model.eval()
    two_images.image_sizes[0] = torch.tensor([70, 100])
    before = tiny_model.detect(two_images)
    two_images.images[0, :, 70:] = 255
    two_images.images[0, :, :, 100:] = 255
    after = tiny_model.detect(two_images)
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.scores, after.scores)


def test_an_image_gives_the_same_detections_beside_any_other(tiny_model: MaskRCNN, two_images: Batch) -> None:
    tiny_model.eval()
    both = tiny_model.detect(two_images)
    alone = tiny_model.detect(
        Batch(
            two_images.images[1:], two_images.image_sizes[1:], two_images.image_ids[1:], two_images.original_sizes[1:]
        )
    )
    second = both.image_index == 1
    # A batch of two may add up in another order than one of one: 1e-6 of 100 pixels, of a score, of a mask, and more.
    torch.testing.assert_close(both.boxes[second], alone.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(both.scores[second], alone.scores, atol=1e-5, rtol=0)
    assert both.masks is not None
    assert alone.masks is not None
    torch.testing.assert_close(both.masks[second], alone.masks, atol=1e-4, rtol=0)


def test_detections_are_inside_their_image(tiny_model: MaskRCNN, two_images: Batch) -> None:
    tiny_model.eval()
    two_images.image_sizes[0] = torch.tensor([70, 100])
    found = tiny_model.detect(two_images)
    assert len(found.boxes) > 0
    limit = two_images.image_sizes[found.image_index].flip(1)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= limit).all()
    assert not found.scores.requires_grad


def test_bfloat16_gives_float32_losses_near_the_others(tiny_model: MaskRCNN, two_images: Batch) -> None:
    exact = tiny_model(two_images, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = tiny_model(two_images, generator=torch.Generator().manual_seed(0))
        tiny_model.eval()
        found = tiny_model.detect(two_images)
    assert all(loss.dtype == torch.float32 for loss in rough.values())
    # bfloat16 has 8 bits, 0.4 % of each value; other samples may be drawn.
    assert total(rough).item() == pytest.approx(total(exact).item(), rel=0.05)
    total(rough).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in tiny_model.parameters())
    assert found.scores.dtype == found.boxes.dtype == torch.float32


def test_an_object_without_a_mask_gives_no_mask_loss(tiny_model: MaskRCNN, two_images: Batch) -> None:
    assert two_images.targets is not None
    assert two_images.targets.masks is not None
    masks = two_images.targets.masks.bitmaps()

    def losses(has_mask: list[bool] | None, of_first: int) -> dict[str, float]:
        changed = masks.clone()
        changed[0] = of_first
        assert two_images.targets is not None
        two_images.targets.masks = Outlines.from_bitmaps(changed)
        two_images.targets.has_mask = None if has_mask is None else torch.tensor(has_mask)
        found = tiny_model(two_images, generator=torch.Generator().manual_seed(0))
        tiny_model.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        assert all(parameter.grad is not None for parameter in tiny_model.parameters())
        return {name: value.item() for name, value in found.items()}

    assert losses(None, 0) == losses([True] * 3, 0)
    assert losses(None, 0) != losses(None, 1)
    without = losses([False, True, True], 0)
    assert without == losses([False, True, True], 1)
    assert without["loss_mask"] != losses(None, 0)["loss_mask"]
    none = losses([False] * 3, 0)
    assert none.pop("loss_mask") == 0
    assert none.items() <= without.items()  # boxes learn from it all the same


def test_without_masks_there_is_no_mask_loss(tiny_config: ModelConfig, two_images: Batch) -> None:
    model = build_model(tiny_config.model_copy(update={"masks": False}), InputConfig(), 2)
    assert two_images.targets is not None
    two_images.targets.masks = None
    assert set(model(two_images)) == KEYS - {"loss_mask"}
    assert model.eval().detect(two_images).masks is None


def test_nan_pixels_make_losses_nan_and_detect_names_the_image(tiny_model: MaskRCNN, two_images: Batch) -> None:
    two_images.images = two_images.images.float()
    two_images.images[1, 0, 5, 5] = float("nan")
    assert math.isnan(total(tiny_model(two_images)).item())
    tiny_model.eval()
    with pytest.raises(ValueError, match=r"image ids \[101\]: the network's features are not finite"):
        tiny_model.detect(two_images)


def test_wrong_use_is_explained(tiny_model: MaskRCNN, two_images: Batch) -> None:
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        tiny_model.detect(two_images)
    assert two_images.targets is not None
    whole = two_images.targets
    two_images.targets = Targets(whole.boxes, whole.classes, None)
    with pytest.raises(ValueError, match=r"set model.masks to false"):
        tiny_model(two_images)
    two_images.targets = Targets(whole.boxes[:1], whole.classes[:1], whole.masks)
    with pytest.raises(ValueError, match="do not fit 2 images"):
        tiny_model(two_images)
    two_images.targets = None
    with pytest.raises(ValueError, match=r"the batch has no targets"):
        tiny_model(two_images)
    two_images.images = two_images.images[:, :1]
    tiny_model.eval()
    with pytest.raises(ValueError, match=r"shape \(N, 3, H, W\) is needed, not \(2, 1, 96, 128\)"):
        tiny_model.detect(two_images)


def test_bgr_weights_see_blue_first(tiny_config: ModelConfig, two_images: Batch) -> None:
    statistics = {"pixel_mean": (1.0, 2.0, 3.0), "pixel_std": (4.0, 5.0, 6.0)}
    rgb, bgr = (
        build_model(tiny_config, InputConfig(channel_order=order, **statistics), 2)  # type: ignore[arg-type]
        for order in ("rgb", "bgr")
    )
    images = two_images.images.float()
    turned = rgb.normalize(images.flip(1), two_images.image_sizes)
    assert torch.equal(bgr.normalize(images, two_images.image_sizes), turned)
    assert bgr.normalize(images, two_images.image_sizes)[0, 0, 0, 0] == (images[0, 2, 0, 0] - 1.0) / 4.0


def test_frozen_norm_by_itself_gives_the_same(tiny_config: ModelConfig, two_images: Batch) -> None:
    config = tiny_config.model_copy(
        update={"backbone": tiny_config.backbone.model_copy(update={"norm": "frozen_batch_norm", "fold_norm": False})}
    )
    torch.manual_seed(0)
    apart = build_model(config, InputConfig(), 2).eval()
    folded = build_model(
        config.model_copy(update={"backbone": config.backbone.model_copy(update={"fold_norm": True})}), InputConfig(), 2
    ).eval()
    folded.load_state_dict(apart.state_dict())
    calls = []
    for layer in apart.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for own, other in zip(apart.features(two_images), folded.features(two_images), strict=True):
            # Weights times scale, or sums times scale: a rounding in each of 18 layers.
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    assert len(calls) == sum(isinstance(layer, FrozenBatchNorm2d) for layer in apart.modules())
