"""Progress on stderr: live bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from pretext.progress import Progress, Silent

SPEAKS_EVERY = 5.0  # seconds between plain lines


def choose_progress(*, quiet: bool) -> Progress:
    """Bars, lines or nothing, as fits where stderr goes."""
    if quiet:
        return Silent()
    return LiveBars() if sys.stderr.isatty() else PlainLines()


class LiveBars:
    """A bar with rate and time left, redrawn in place."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    @contextmanager
    def task(self, label: str, total: int | None, unit: str, *, done: int = 0) -> Iterator[_LiveTask]:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.fields[unit]}"), TextColumn("{task.fields[facts]}"), TimeRemainingColumn())  # fmt: skip
        with Bars(*columns, console=self.console, transient=False) as bars:
            number = bars.add_task(label, total=total, completed=done, unit=unit, facts="")
            yield _LiveTask(bars, number, unit)


class _LiveTask:
    def __init__(self, bars: Bars, number: Any, unit: str) -> None:
        self.bars, self.number, self.unit, self.facts = bars, number, unit, {}  # type: ignore[var-annotated]
        self.rate = _Rate()

    def advance(self, amount: int = 1, **facts: Any) -> None:
        self.facts |= facts
        self.bars.update(self.number, advance=amount, facts=_line(self.facts | self.rate.facts(amount, self.unit)))


class PlainLines:
    """One line every five seconds, for logs and Make."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, label: str, total: int | None, unit: str, *, done: int = 0) -> Iterator[_PlainTask]:
        task = _PlainTask(label, total, unit, done)
        yield task
        if task.news:
            task.tell()


class _PlainTask:
    def __init__(self, label: str, total: int | None, unit: str, done: int) -> None:
        self.label, self.total, self.unit, self.done, self.facts = label, total, unit, done, {}  # type: ignore[var-annotated]
        self.told, self.news, self.rate = time.monotonic(), True, _Rate()

    def advance(self, amount: int = 1, **facts: Any) -> None:
        self.done += amount
        self.facts |= facts
        self.news = True
        self.rate.facts(amount, self.unit)
        if time.monotonic() - self.told > SPEAKS_EVERY:
            self.tell()

    def tell(self) -> None:
        self.told, self.news = time.monotonic(), False
        facts = self.facts | self.rate.facts(0, self.unit)
        if self.total and 0 < self.done < self.total and self.rate.value:
            facts["left"] = f"{(self.total - self.done) / self.rate.value:.0f} s"
        print(f"{self.label}: {self.done}{f'/{self.total}' if self.total else ''} {self.unit} {_line(facts)}".rstrip(),
              file=sys.stderr, flush=True)  # fmt: skip


class _Rate:
    """Units per second since the first report, which may tell what was done before a restart and is not counted."""

    def __init__(self) -> None:
        self.begun, self.count, self.value = 0.0, 0, 0.0

    def facts(self, amount: int, unit: str) -> dict[str, str]:
        if not self.begun:
            self.begun, amount = time.monotonic(), 0
        self.count += amount
        self.value = self.count / max(time.monotonic() - self.begun, 1e-6)
        return {"rate": f"{self.value:,.4g} {unit}/s"} if self.count else {}


def _line(facts: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in facts.items())  # fmt: skip
