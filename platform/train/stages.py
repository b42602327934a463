"""The stages of a training scheme: what each trains, and on whose proposals (Ren et al. 2015, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

from maskray.model.config import ModelConfig
from maskray.platform.job.train_config import TrainConfig


class Stage(NamedTuple):
    """Steps first_step + 1 to last_step of a run.

    parts are what MaskRCNN.train_parts gets, empty for all. With stored_proposals the detector learns from what the
    model proposes as the stage begins, which is computed once and kept. own_backbone: of the RPN, in this stage.
    """

    name: str
    parts: tuple[str, ...]
    own_backbone: bool
    stored_proposals: bool
    first_step: int
    last_step: int

    def model(self, config: ModelConfig) -> ModelConfig:
        """The model of this stage."""
        return config.model_copy(update={"rpn": config.rpn.model_copy(update={"own_backbone": self.own_backbone})})


# The backbone of the detector is as it was at first until the second stage trains it: both begin with the same weights.
_SEPARATE = (
    ("proposals", ("rpn_backbone", "rpn"), True, False),
    ("detector", ("backbone", "roi_heads"), True, True),
)
_SHARED = (
    ("shared proposals", ("rpn",), False, False),
    ("shared detector", ("roi_heads",), False, True),
)


def training_stages(train: TrainConfig, model: ModelConfig) -> list[Stage]:
    """The stages of a run in order; the last one ends with the model of the job.

    joint: one stage. stage_wise: the RPN, then the detector, with a backbone each. alternating: the same, then the RPN
    goes on with the detector's backbone as it is, and the detector's heads with the proposals of that RPN.
    """
    rows: tuple[tuple[str, tuple[str, ...], bool, bool], ...] = (("joint", (), model.rpn.own_backbone, False),)
    if train.scheme != "joint":
        rows = _SEPARATE if train.scheme == "stage_wise" else _SEPARATE + _SHARED
    assert len(rows) == train.num_stages
    return [Stage(*row, number * train.num_steps, (number + 1) * train.num_steps) for number, row in enumerate(rows)]
