"""An exponential moving average of the weights, which is what is evaluated and kept (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from maskray.platform.job.train_config import AverageConfig


def average_decay(config: AverageConfig, num_steps: int) -> float:
    """Share of the average so far in that after `num_steps` steps, the first being 1.

    With warm-up at most (1 + n) / (10 + n): a young average should not be mostly what the weights began with.
    """
    return min(config.decay, (1 + num_steps) / (10 + num_steps)) if config.warmup else config.decay


class WeightAverage:
    """The average of every trainable parameter of a model, beside it and in its dtype (float32).

    Constants need none, and buffers, such as statistics of batch norm, are those of the model. What it holds follows
    from the weights at each step alone, so that every rank has the same.
    """

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        """Begins as the weights are."""
        self._config = config
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, num_steps: int) -> None:
        """Take in the weights after `num_steps` steps."""
        share = 1.0 - average_decay(self._config, num_steps)
        torch._foreach_lerp_(self._averages, [parameter.detach() for parameter in self._parameters], share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average for its weights meanwhile; no step may be taken."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def weights(self) -> dict[str, Tensor]:
        """The parameters themselves by name, as they are outside of in_place; they stay so inside of it."""
        return {name: parameter.detach() for name, parameter in zip(self._names, self._parameters)}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the model's present weights for the average, and these for its weights; as of a checkpoint.

        ValueError where these are not those of the parameters that have an average.
        """
        if sorted(weights) != sorted(self._names):
            raise ValueError("the checkpoint holds weights beside their average of other parameters than are trained")
        for average, parameter, name in zip(self._averages, self._parameters, self._names):
            average.copy_(parameter)
            parameter.copy_(weights[name])

    def _swap(self) -> None:
        # Tensors change places and nothing is copied.
        for parameter, average in zip(self._parameters, self._averages):
            parameter.data, average.data = average.data, parameter.data
