"""How often a training step waits for an accelerator, counted on the CPU by the operators that would.

Copies to the CPU wait, and so does what has a shape or a number of Python that hangs on values. What is computed from
a copy alone is on the CPU anyway.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

MODEL = str(Path(inspect.getfile(build_model)).parent)
OF_VALUES = ("nonzero", "_local_scalar_dense", "masked_select", "_unique2", "bincount", "equal", "is_nonzero")


class Waits(TorchDispatchMode):
    """Collects where in the model the CPU would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []
        self.copies: dict[int, Tensor] = {}  # tensors that are on the CPU in any case; kept, so that no id returns

    def copy(self, tensor: Tensor) -> Tensor:
        """In place of Tensor.cpu()."""
        self._note("cpu()")
        copied = tensor.clone()
        self.copies[id(copied)] = copied
        return copied

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [item for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)]
        copied = bool(inputs) and all(id(item) in self.copies for item in inputs)
        name = func.overloadpacket.__name__
        masked = name.startswith("index") and any(
            item.dtype == torch.bool for item in tree_iter(args[1]) if isinstance(item, Tensor)
        )
        if not copied and (name in OF_VALUES or masked):
            self._note(name)
        result = func(*args, **(kwargs or {}))
        if copied:
            self.copies |= {id(item): item for item in tree_iter(result) if isinstance(item, Tensor)}
        return result

    def _note(self, name: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(MODEL)]
        self.places.append(f"{name}: {frames[-1].filename}:{frames[-1].lineno}" if frames else name)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    counted = Waits()
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: counted.copy(tensor))
    # The operators look at the values of their arguments on the CPU alone.
    monkeypatch.setattr("maskray.ops.roi_boxes._check_level_indices", lambda levels, num_levels: None)
    monkeypatch.setattr("maskray.ops.roi_boxes._check_image_indices", lambda boxes, num_images: None)
    monkeypatch.setattr("maskray.ops.nms.check_ids", lambda **ids: None)
    return counted


@pytest.fixture(params=[False, True], ids=["masks", "masks and keypoints"])
def model(request: pytest.FixtureRequest, tiny_config: ModelConfig, two_images: Batch) -> MaskRCNN:
    """A model, for which two_images have all targets."""
    torch.manual_seed(0)
    assert two_images.targets is not None
    shape = two_images.targets.boxes.shape[:2]
    two_images.targets.keypoints = 60 * torch.rand(*shape, tiny_config.keypoint_head.num_keypoints, 3)
    return build_model(tiny_config.model_copy(update={"keypoints": request.param}), InputConfig(), num_classes=2)


def take_step(model: MaskRCNN, batch: Batch) -> None:
    torch.stack(list(model(batch).values())).sum().backward()


def test_a_training_step_waits_once(model: MaskRCNN, two_images: Batch, waits: Waits) -> None:
    with waits:
        take_step(model, two_images)
    assert len(waits.places) == 1, waits.places
    assert "roi_heads.py" in waits.places[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_training_step_on_a_gpu_waits_once(model: MaskRCNN, two_images: Batch) -> None:
    model, batch = model.cuda(), two_images.to("cuda")
    take_step(model, batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            take_step(model, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = [f"{item.filename}:{item.lineno}" for item in told if "synchronizing" in str(item.message)]
    assert len(places) == 1, places


def test_what_waits_is_seen(waits: Waits) -> None:
    flags = torch.tensor([True, False])
    with waits:
        flags.nonzero()
        flags[flags]
        bool(flags.any())
        copied = flags.cpu()
        copied.nonzero()
    assert [place.partition(":")[0] for place in waits.places] == ["nonzero", "index", "_local_scalar_dense", "cpu()"]
