"""Weights of one model as the start of another: classes by name, parts whole or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskray.model.build_model import build_model
from maskray.model.class_rows import Rows, copy_rows
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge
from maskray.model.transfer import Source, plan_transfer, transfer

CLASSIFIER, DELTAS = "roi_heads.box_head.classifier", "roi_heads.box_head.deltas"
MASK, KEYPOINT = "roi_heads.mask_head.predictor", "roi_heads.keypoint_head.deconv"


def labels_of(*names: str, keypoints: tuple[str, ...] = ()) -> LabelMap:
    return LabelMap(
        categories=tuple(Category(id=3 * number + 1, name=name, keypoints=keypoints if number == 0 else ())
                         for number, name in enumerate(names))
    )  # fmt: skip


THEIRS = labels_of("person", "car", "dog", "traffic light", "cat")


def model_of(config: ModelConfig, labels: LabelMap, seed: int, **changes: Any) -> MaskRCNN:
    torch.manual_seed(seed)
    config = ModelConfig.model_validate(merge(config.model_dump(), changes))
    model = build_model(config, InputConfig(), labels.num_classes)
    with torch.no_grad():  # biases and norms begin as constants, in which nothing could be told apart
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(-0.5, 0.5)
    return model


def source_of(model: MaskRCNN, labels: LabelMap | None, input_config: InputConfig | None = None) -> Source:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if labels is None:
        return Source("theirs", state)
    return Source("theirs", state, model.config, input_config or InputConfig(), labels)


def rows(state: dict[str, Tensor], name: str, index: int, size: int) -> list[Tensor]:
    return [state[f"{name}.{kind}"][index * size : (index + 1) * size] for kind in ("weight", "bias")]


def assert_same(left: list[Tensor], right: list[Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


def test_rows_go_by_name_and_never_by_position(tiny_config: ModelConfig) -> None:
    """As many classes on either side, in another order, with another case and space, one of them renamed."""
    mine = labels_of("Dog ", "rider", "traffic  light", "automobile", "horse")
    source = source_of(model_of(tiny_config, THEIRS, 1), THEIRS)
    model = model_of(tiny_config, mine, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taken = transfer(model, InputConfig(), mine, source, {"automobile": "CAR"})
    assert taken.classes == {"Dog ": "dog", "rider": None, "traffic  light": "traffic light", "automobile": "car",
                             "horse": None}  # fmt: skip
    state, theirs = model.state_dict(), dict(source.tensors)
    for own, other in ((0, 2), (2, 3), (3, 1)):
        assert_same(rows(state, CLASSIFIER, own, 1), rows(theirs, CLASSIFIER, other, 1))
        assert_same(rows(state, DELTAS, own, 4), rows(theirs, DELTAS, other, 4))
        assert_same(rows(state, MASK, own, 1), rows(theirs, MASK, other, 1))
    assert_same(rows(state, CLASSIFIER, 5, 1), rows(theirs, CLASSIFIER, 5, 1))  # background
    for own in (1, 4):
        assert_same(rows(state, CLASSIFIER, own, 1), rows(before, CLASSIFIER, own, 1))
        assert_same(rows(state, DELTAS, own, 4), rows(before, DELTAS, own, 4))
        assert_same(rows(state, MASK, own, 1), rows(before, MASK, own, 1))
    per_class = (CLASSIFIER, DELTAS, MASK)
    for name, tensor in state.items():
        if not name.startswith(per_class):
            assert torch.equal(tensor, theirs[name]), name
    assert taken.left_classes == 2
    assert dict(taken.lines())["classes taken"] == "Dog , traffic  light, automobile from car"
    assert dict(taken.lines())["classes anew"] == "rider, horse"


def test_a_category_named_background_is_not_the_background(tiny_config: ModelConfig) -> None:
    theirs = labels_of("cat", "background", "dog")
    source = source_of(model_of(tiny_config, theirs, 1), theirs)
    for mine, own in ((labels_of("Background", "cat"), 0), (labels_of("cat", "car"), None)):
        model = model_of(tiny_config, mine, 2)
        taken = transfer(model, InputConfig(), mine, source, {})
        assert ("Background" in taken.classes) == (own is not None)
        assert_same(rows(model.state_dict(), CLASSIFIER, 2, 1), rows(dict(source.tensors), CLASSIFIER, 3, 1))
        if own is not None:
            assert_same(rows(model.state_dict(), CLASSIFIER, own, 1), rows(dict(source.tensors), CLASSIFIER, 1, 1))
            assert_same(rows(model.state_dict(), MASK, own, 1), rows(dict(source.tensors), MASK, 1, 1))


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"mask_head": {"output": "softmax"}}, 1),
        ({"mask_head": {"name": "mlp", "mlp_channels": [8], "pool_size": 4, "channels": 256, "num_convs": 4}}, 64),
    ],
)
def test_masks_of_other_forms_go_by_name_too(tiny_config: ModelConfig, changes: dict[str, Any], size: int) -> None:
    mine = labels_of("zebra", "cat")
    source = source_of(model_of(tiny_config, THEIRS, 1, **changes), THEIRS)
    model = model_of(tiny_config, mine, 2, **changes)
    transfer(model, InputConfig(), mine, source, {})
    assert_same(rows(model.state_dict(), MASK, 1, size), rows(dict(source.tensors), MASK, 4, size))
    if "output" in changes["mask_head"]:
        assert_same(rows(model.state_dict(), MASK, 2, 1), rows(dict(source.tensors), MASK, 5, 1))


def test_what_is_the_same_for_all_classes_is_taken_whole(tiny_config: ModelConfig) -> None:
    agnostic = {"box_head": {"class_agnostic": True}, "mask_head": {"output": "class_agnostic"}}
    mine = labels_of("rider")
    source = source_of(model_of(tiny_config, THEIRS, 1, **agnostic), THEIRS)
    model = model_of(tiny_config, mine, 2, **agnostic)
    taken = transfer(model, InputConfig(), mine, source, {})
    assert torch.equal(model.state_dict()[f"{DELTAS}.weight"], source.tensors[f"{DELTAS}.weight"])
    assert torch.equal(model.state_dict()[f"{MASK}.weight"], source.tensors[f"{MASK}.weight"])
    assert taken.classes == {"rider": None}
    # One form into the other begins anew, though with one class the shapes are equal.
    specific = model_of(tiny_config, mine, 3)
    before = specific.state_dict()[f"{DELTAS}.weight"].clone()
    transfer(specific, InputConfig(), mine, source, {})
    assert torch.equal(specific.state_dict()[f"{DELTAS}.weight"], before)


def test_keypoints_go_by_name(tiny_config: ModelConfig) -> None:
    def head(count: int) -> dict[str, Any]:
        size = {"num_keypoints": count, "channels": 8, "num_convs": 1}
        return {"masks": False, "keypoints": True, "keypoint_head": size}

    theirs = labels_of("person", keypoints=("nose", "left_eye", "right_eye"))
    mine = labels_of("Person", keypoints=("tail", "Nose"))
    source = source_of(model_of(tiny_config, theirs, 1, **head(3)), theirs)
    model = model_of(tiny_config, mine, 2, **head(2))
    before = model.state_dict()[f"{KEYPOINT}.weight"].clone()
    transfer(model, InputConfig(), mine, source, {})
    found = model.state_dict()[f"{KEYPOINT}.weight"]
    assert torch.equal(found[:, 1], source.tensors[f"{KEYPOINT}.weight"][:, 0])
    assert torch.equal(found[:, 0], before[:, 0])
    assert model.state_dict()[f"{KEYPOINT}.bias"][1] == source.tensors[f"{KEYPOINT}.bias"][0]


def test_without_a_label_map_only_what_is_free_of_classes_is_taken(tiny_config: ModelConfig) -> None:
    source = source_of(model_of(tiny_config, THEIRS, 1), None)
    model = model_of(tiny_config, THEIRS, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taken = transfer(model, InputConfig(), THEIRS, source, {})
    for name, tensor in model.state_dict().items():
        free = not name.startswith((CLASSIFIER, DELTAS, MASK))
        assert torch.equal(tensor, (source.tensors if free else before)[name]), name
    assert taken.classes == {}
    notes = {row.part: row.note for row in taken.parts}
    assert notes["box_head"] == notes["mask_head"] == "the source tells no names of its classes"


def test_a_part_of_another_form_begins_anew_and_says_why(tiny_config: ModelConfig) -> None:
    source = source_of(model_of(tiny_config, THEIRS, 1, box_head={"hidden_channels": 24}, masks=False), THEIRS)
    model = model_of(tiny_config, THEIRS, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taken = {row.part: row for row in transfer(model, InputConfig(), THEIRS, source, {}).parts}
    assert taken["box_head"].taken == 0
    assert "roi_heads.box_head.fc1.weight is (24," in taken["box_head"].note
    assert (taken["mask_head"].taken, taken["mask_head"].note) == (0, "not in the source")
    assert taken["rpn"].anew == taken["rpn"].left == 0
    name = f"{CLASSIFIER}.weight"
    assert torch.equal(model.state_dict()[name], before[name])


def test_a_source_of_another_architecture_is_an_error_and_changes_nothing(tiny_config: ModelConfig) -> None:
    model = model_of(tiny_config, THEIRS, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = model.state_dict()
    stem = "backbone.resnet.stem.conv1.conv.weight"
    wrong = {
        "1 tensor": {stem: state[stem]},
        "none": {"a": torch.zeros(1)},
        "another width": {**state, stem: torch.zeros(3, 3, 7, 7)},
        "a deeper one": {**state, "backbone.resnet.res2.9.conv1.conv.weight": torch.zeros(1)},
    }
    for name, tensors in wrong.items():
        with pytest.raises(ValueError, match=rf"^{name}: not weights of a resnet18 as here: "):
            transfer(model, InputConfig(), THEIRS, Source(name, tensors), {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_of_other_pixels_are_an_error_that_says_what_to_set(tiny_config: ModelConfig) -> None:
    other = InputConfig(channel_order="bgr", pixel_mean=(103.53, 116.28, 123.675), pixel_std=(1.0, 1.0, 1.0))
    model = model_of(tiny_config, THEIRS, 1)
    with pytest.raises(ValueError, match=r"input.channel_order: bgr, input.pixel_mean: \[103.53, 116.28, 123.675\]"):
        plan_transfer(model, InputConfig(), THEIRS, source_of(model, THEIRS, other), {})
    assert plan_transfer(model, other, THEIRS, source_of(model, THEIRS, other), {}).parts


def test_names_that_are_not_there_are_told(tiny_config: ModelConfig) -> None:
    model = model_of(tiny_config, THEIRS, 1)
    for names, message in (
        ({"bus": "car"}, "the data have no category 'bus', only person, car"),
        ({"car": "automobile"}, "theirs has no class 'automobile', only person, car"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_transfer(model, InputConfig(), THEIRS, source_of(model, THEIRS), names)


def test_a_plan_needs_no_values(tiny_config: ModelConfig) -> None:
    mine = labels_of("cat", "rider")
    source = source_of(model_of(tiny_config, THEIRS, 1), THEIRS)
    shapes = Source("theirs", {name: tensor.to("meta") for name, tensor in source.tensors.items()},
                    source.model, source.input, source.labels)  # fmt: skip
    with torch.device("meta"):
        empty = build_model(tiny_config, InputConfig(), 2)
    model = model_of(tiny_config, mine, 2)
    assert plan_transfer(empty, InputConfig(), mine, shapes, {}) == transfer(model, InputConfig(), mine, source, {})
    unknown = plan_transfer(empty, InputConfig(), None, shapes, {})
    assert {row.note for row in unknown.parts if row.anew} == {"by name, once the data are read"}


def test_the_last_stage_is_found_where_it_is_the_head(tiny_config: ModelConfig) -> None:
    c4 = {"backbone": {"features": "c4"}, "anchors": {"sizes": [16, 32, 64, 128, 256]},
          "box_head": {"name": "res5", "pool_size": 14}}  # fmt: skip
    backbone = tiny_config.backbone.model_dump(exclude={"features", "fpn_channels"})
    config = ModelConfig.model_validate(merge({"backbone": backbone, "masks": False}, c4))
    labels = labels_of("a", "b")
    model = build_model(config, InputConfig(), 2)
    network = {name: tensor for name, tensor in model.state_dict().items() if "resnet" in name or "res5" in name}
    state = {
        name.replace("roi_heads.res5", "backbone.resnet.res5"): torch.rand_like(tensor, dtype=torch.float32)
        for name, tensor in network.items()
    }
    taken = {row.part: row for row in transfer(model, InputConfig(), labels, Source("imagenet", state), {}).parts}
    assert taken["res5"].anew == 0
    assert taken["res5"].taken > 0
    name = next(name for name in state if "res5" in name and name.endswith("conv.weight"))
    assert torch.equal(model.state_dict()[name.replace("backbone.resnet", "roi_heads")], state[name])


@given(st.data())
def test_blocks_are_copied_and_nothing_else(data: st.DataObject) -> None:
    """A tensor along either axis: a block of a name in the table is the other's, every other block stays."""
    axis, size = data.draw(st.integers(0, 1)), data.draw(st.integers(1, 3))
    names = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)
    own_names, other_names = data.draw(names), data.draw(names)
    table = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdef")))

    def make(count: int, start: int) -> Tensor:
        shape = (count * size, 2) if axis == 0 else (2, count * size)
        return torch.arange(start, start + count * size * 2).reshape(shape)

    own, other = make(len(own_names), 0), make(len(other_names), 1000)
    found = copy_rows(own, Rows(axis, size, tuple(own_names)), other, Rows(axis, size, tuple(other_names)), table)
    for index, name in enumerate(own_names):
        block = found.narrow(axis, index * size, size)
        wanted = table.get(name)
        if wanted in other_names:
            assert torch.equal(block, other.narrow(axis, other_names.index(str(wanted)) * size, size))
        else:
            assert torch.equal(block, own.narrow(axis, index * size, size))
