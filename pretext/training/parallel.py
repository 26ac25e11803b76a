"""The processes that train one model together, each on its rows of every batch; alone there is nothing to tell anyone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pretext import world
from pretext.augment import Span
from pretext.errors import ArtifactError, ConfigError
from pretext.training.pool import Batch
from pretext.training.sync_norm import shared_statistics

T = TypeVar("T")
Loss = Callable[[Batch, torch.Generator], Tensor]


class Alone:
    """One process, which has all rows."""

    rank, size = 0, 1

    def spans(self, batch_size: int, accumulate: int) -> list[Span]:
        """This process's rows of every part of a batch.

        A batch is cut into `accumulate` parts, or fewer if it is small, and each of these is divided among the processes.

        Raises:
            ConfigError: If there are more processes than rows.
        """
        check_batch(batch_size, self.size)
        edges = _edges(0, batch_size, min(accumulate, batch_size // self.size))
        own = (_edges(*edge, self.size)[self.rank] for edge in edges)
        return [Span(start, stop, batch_size) for start, stop in own]

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """This process's part of what the processes divide."""
        return itertools.islice(items, self.rank, None, self.size)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, on all of them."""
        return value

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is up anywhere."""
        return list(flags)

    def check_same(self, step: int) -> None:
        """Make sure that all begin at the same step.

        Raises:
            ArtifactError: If they do not.
        """

    def training(self, module: nn.Module, loss: Loss) -> AbstractContextManager[Loss]:
        """While it lasts the processes train one module: what it gives is `loss` of a part, whose backward pass leaves
        in every process the gradient's mean over all."""
        return nullcontext(loss)

    def gathering(self) -> AbstractContextManager[None]:
        """A part whose gradient waits to be sent with the next one's."""
        return nullcontext()


class Together(Alone):
    """Several processes, as `pretext.world` counts them, that call everything here at the same time."""

    def __init__(self, device: torch.device) -> None:
        world.join()
        self.rank, self.size, self._device = world.rank(), world.size(), device
        self._wrapped: nn.parallel.DistributedDataParallel | None = None

    def sum(self, value: Tensor) -> Tensor:
        import torch.distributed as dist

        dist.all_reduce(value)
        return value

    def any(self, *flags: bool) -> list[bool]:
        import torch.distributed as dist

        up = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(up, dist.ReduceOp.MAX)
        return [bool(flag) for flag in up.tolist()]

    def check_same(self, step: int) -> None:
        steps = world.gather(step)
        if len(set(steps)) > 1:
            raise ArtifactError(f"the processes find saved states of different steps: {', '.join(map(str, steps))}",
                                hint="all machines must see the same folder of runs")  # fmt: skip

    @contextmanager
    def training(self, module: nn.Module, loss: Loss) -> Iterator[Loss]:
        with _partners(), shared_statistics(module, self._device):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # newer versions have another name for it
                self._wrapped = nn.parallel.DistributedDataParallel(_PartLoss(module, loss), broadcast_buffers=False)
            # Gradients are summed in the order in which they came in the first step of a process. Let that be this
            # one, so that a training that is gone on with rounds as one that was never stopped.
            self._wrapped(None, None).backward()
            module.zero_grad(set_to_none=True)
            yield self._wrapped

    def gathering(self) -> AbstractContextManager[None]:
        assert self._wrapped is not None
        return self._wrapped.no_sync()


class _PartLoss(nn.Module):
    """The loss of a part as a module, which is what is wrapped."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Batch | None, generator: torch.Generator | None) -> Tensor:
        """The loss; without a batch nothing but a sum of all parameters, from the first to the last."""
        if batch is not None and generator is not None:
            return self.loss(batch, generator)
        return torch.stack([value.sum() for value in self.module.parameters() if value.requires_grad]).sum()


def choose_team(together: bool, device: torch.device) -> Alone:
    """All the job's processes, or this one."""
    return Together(device) if together and world.size() > 1 else Alone()


def check_batch(batch_size: int, size: int) -> None:
    """Refuse a batch of fewer rows than there are processes.

    Raises:
        ConfigError: Naming both numbers.
    """
    if size > batch_size:
        raise ConfigError(f"{size} processes can't divide a batch of {batch_size} images",
                          hint="a larger --batch-size, or fewer processes")  # fmt: skip


def _edges(start: int, stop: int, count: int) -> list[tuple[int, int]]:
    """Neighbouring parts of a range, of about one size."""
    parts = np.array_split(np.arange(start, stop), count)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


@contextmanager
def _partners() -> Iterator[None]:
    """Say plainly that another process is gone, where the exchange with it fails."""
    from torch.distributed import DistError

    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, DistError) or "gloo" in str(error).lower()):
            raise
        raise world.OtherRankError(
            "another process of this job has ended", hint="its own output says why; the same command goes on from here"
        ) from error
