"""The processes of one job, as torchrun starts them; alone there is one, and then nothing here loads PyTorch.

What they tell each other is JSON, so that nothing is unpickled; gradients are the training loop's business.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from pretext.errors import PretextError

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # ranks wait for the first one's work, however long; torchrun ends them if one dies
_apart = False  # while the first rank works alone in `from_first`


class OtherRankError(PretextError):
    """Another process of the job has ended, whose own output says why."""


def rank() -> int:
    """This process's number among all, 0 for the first."""
    return int(os.environ.get("RANK", "0")) if size() > 1 else 0


def size() -> int:
    """Number of processes of the job, on all machines; 1 inside `from_first`, where the others only wait."""
    return 1 if _apart else int(os.environ.get("WORLD_SIZE", "1"))


def cores() -> int:
    """Number of processor cores for this process: those it may use, divided among the job's processes on this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // (int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if size() > 1 else 1))


def local_rank() -> int:
    """This process's number on its own machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if size() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes what there is only one of."""
    return rank() == 0


def share(items: Sequence[T]) -> list[T]:
    """This rank's part of work that ranks divide: every `size`-th item."""
    return list(items[rank() :: size()])


def join() -> None:
    """Meet the other processes, once; alone there is nothing to do."""
    if size() == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        atexit.register(_leave)


def _leave() -> None:
    """Part from the other processes; one that only exits now and then crashes on what it shares with them."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """A JSON-able value of every rank, in the order of ranks, on every rank; all wait for each other.

    Raises:
        OtherRankError: If another process ends before it is here.
    """
    if size() == 1:
        return [value]
    import torch
    import torch.distributed as dist

    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
    try:
        join()
        dist.all_gather(lengths, torch.tensor([len(text)]))
        longest = max(int(length) for length in lengths)
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(size())]
        dist.all_gather(texts, torch.nn.functional.pad(text, (0, longest - len(text))))
    except RuntimeError as error:  # Gloo's only class of errors
        raise OtherRankError(
            "another process of this job has ended", hint="its own output says why; the same command goes on from here"
        ) from error
    return [json.loads(bytes(padded[: int(length)].numpy())) for padded, length in zip(texts, lengths, strict=True)]


def wait() -> None:
    """Go on when every rank is here."""
    gather(None)


def from_first(work: Callable[[], T]) -> T:
    """Do something on the first rank alone and hand every rank what it gave, which must be JSON-able.

    What it does may itself be written for several ranks: inside it there is one.

    Raises:
        OtherRankError: On the other ranks, if it failed on the first and that process has ended; there the error itself
            is raised at once, for the others may be long in coming.
    """
    global _apart
    if size() == 1:
        return work()
    value = None
    if is_first():
        _apart = True
        try:
            value = work()
        finally:
            _apart = False
    told = gather(value)[0]
    return value if is_first() else told  # type: ignore[return-value]


def first_then_others(work: Callable[[], T]) -> T:
    """Do something on every rank, on the first one before all others: it fills what they then find, such as downloads.

    Raises:
        OtherRankError: On the other ranks, if it failed on the first; there the error itself is raised.
    """
    if not is_first():
        if gather(None)[0]:
            raise OtherRankError("the first rank stopped")
        return work()
    failed = True
    try:
        value = work()
        failed = False
    finally:
        gather(failed)
    return value
