"""What the training loop needs to know of the world: its rank, its device, and where metrics and checkpoints go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch
import torch.distributed
from torch import Tensor

from maskray.platform.files.disk_errors import lasting_error
from maskray.platform.files.lease import LeaseLostError

if TYPE_CHECKING:
    from maskray.platform.train.trainer import Trainer


Result = TypeVar("Result")


class SharedError(ValueError):
    """A mistake that every rank knows of, so that all stop together and none waits for another."""


class Wishes(NamedTuple):
    """What a rank would have after the present step: a checkpoint, or a checkpoint and the end."""

    save: bool = False
    stop: bool = False


class Context(Protocol):
    """One of `num_ranks` processes that train together, in lock step: every rank makes the same calls."""

    rank: int
    num_ranks: int
    device: torch.device

    def average(self, values: Tensor) -> Tensor:
        """Mean over the ranks, the same on each; a NaN or infinity of one rank reaches all."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The picklable value of every rank, by rank, on every rank."""
        ...

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record metrics that are equal on every rank after `step` finished steps."""
        ...

    def wishes(self) -> Wishes:
        """What this rank wishes by itself, asked once a step; a wish of one rank counts for all."""
        ...

    def save(self, trainer: Trainer, step: int, stop: bool) -> bool:
        """Keep the state after `step` finished steps; may evaluate the model too, unless it is to `stop` here.

        Whether training is to end here, which it does when it is to stop.
        """
        ...


class LocalContext:
    """One process by itself: metrics are kept in a list, saving is a function given by the caller."""

    rank = 0
    num_ranks = 1

    def __init__(
        self, device: torch.device | str = "cpu", on_save: Callable[[Trainer, int], None] | None = None
    ) -> None:
        self.device = torch.device(device)
        self.history: list[dict[str, float]] = []
        self.on_save = on_save

    def average(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def gather(self, value: Any) -> list[Any]:
        """The value as a list of one."""
        return [value]

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Append to `history`."""
        self.history.append({"step": step, **metrics})

    def wishes(self) -> Wishes:
        """None."""
        return Wishes()

    def save(self, trainer: Trainer, step: int, stop: bool) -> bool:
        """Call on_save, if there is one; training goes on unless it is to stop."""
        if self.on_save is not None:
            self.on_save(trainer, step)
        return stop


def average_over_ranks(values: Tensor) -> Tensor:
    """Mean over the ranks of the default process group; the values themselves without one."""
    if not torch.distributed.is_initialized():
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def gather_from_ranks(value: Any) -> list[Any]:
    """The picklable value of every rank of the default process group, by rank; a list of one without a group."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def agree(context: Context, work: Callable[[], Result]) -> Result:
    """Do some work on every rank; a ValueError of one, or storage that refuses, becomes the SharedError of all.

    The work may not speak to the other ranks.
    """
    result: list[Result] = []
    mistake: str | None = None
    try:
        result.append(work())
    except LeaseLostError:
        raise
    except ValueError as error:
        mistake = str(error)
    except OSError as error:
        if (lasting := lasting_error(error, "")) is None:
            raise
        mistake = str(lasting)
    mistakes = [other for other in context.gather(mistake) if other is not None]
    if mistakes:
        raise SharedError(mistakes[0])
    return result[0]
