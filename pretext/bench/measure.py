"""Timings that can be compared: contenders take turns, and their ratio is taken round by round."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work.

    Args:
        what: Its name, as the table shows it.
        work: Does it once; on a GPU it may return before the GPU is done.
        items: How many images (or whatever the row's unit is) one call handles.
        goal: Of what others are compared with: how many times as fast the package is to be.
    """

    what: str
    work: Callable[[], object]
    items: int
    goal: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        part: The part of the benchmark.
        what: What was done, in which size.
        unit: What is counted, such as images.
        rounds: How often each contender was timed, after one round to warm up.
        per_s: Median rate, in units a second.
        per_s_iqr: Interquartile range of it.
        against: The other contender.
        against_per_s: Its median rate.
        against_per_s_iqr: Interquartile range of it.
        ratio: Median over rounds of own rate / other rate: how many times as fast.
        ratio_iqr: Interquartile range of it.
        goal: The ratio that is to be reached; None where a row only tells.
        bytes_each: Bytes read and written for each item at the least, where memory is what bounds the work.
        flops_each: Multiplications and additions for each item, where arithmetic is what bounds it.
        arithmetic: Of these, "fp32" or "bf16".
        note: What a reader must know to read the row, such as that the other way was measured on a part of the work.
    """

    part: str
    what: str
    unit: str
    rounds: int
    per_s: float
    per_s_iqr: float
    against: str
    against_per_s: float
    against_per_s_iqr: float
    ratio: float
    ratio_iqr: float
    goal: float | None = None
    bytes_each: float | None = None
    flops_each: float | None = None
    arithmetic: str | None = None
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def race(ours: Contender, *rivals: Contender, part: str, unit: str, device: torch.device, seconds: float,
         least: int = 3, bytes_each: float | None = None, flops_each: float | None = None,
         arithmetic: str | None = None, note: str | None = None) -> list[Row]:  # fmt: skip
    """Time several ways of doing the same, turn by turn.

    Args:
        ours: The package's way; its name is the rows'.
        rivals: What it is compared with, a row each.
        part: See `Row`, as for all that is not told here.
        unit: What `items` counts.
        device: On a GPU it is waited for before a clock is read.
        seconds: Rounds go on until this much time is spent.
        least: Rounds at the least, whatever they cost.
    """
    contenders = (ours, *rivals)
    for _ in range(WARM_UP):
        for contender in contenders:
            _seconds(contender, device)
    begun, times = time.perf_counter(), list[list[float]]()
    while len(times) < least or time.perf_counter() - begun < seconds:
        times.append([_seconds(contender, device) for contender in contenders])
    own_R, *others = np.array(times).T / np.array([[contender.items] for contender in contenders])
    return [Row(
        part=part, what=ours.what, unit=unit, rounds=len(times), **_spread("per_s", 1 / own_R), against=rival.what,
        **_spread("against_per_s", 1 / other_R), **_spread("ratio", other_R / own_R), goal=rival.goal, bytes_each=bytes_each,
        flops_each=flops_each, arithmetic=arithmetic, note=note,
    ) for rival, other_R in zip(rivals, others, strict=True)]  # fmt: skip


def _seconds(contender: Contender, device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    contender.work()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _spread(name: str, value_R: np.ndarray) -> dict[str, Any]:
    lower, middle, upper = np.percentile(value_R, (25, 50, 75))
    return {name: float(middle), f"{name}_iqr": float(upper - lower)}


def median_seconds(work: Callable[[], object], device: torch.device, *, rounds: int = 5) -> float:
    """Median time of a call, after one to warm up."""
    contender = Contender("", work, 1)
    return float(np.median([_seconds(contender, device) for _ in range(WARM_UP + rounds)][WARM_UP:]))
