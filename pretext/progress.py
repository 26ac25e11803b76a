"""What a stage tells while it works; the command line draws it, a library user hears nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Task(Protocol):
    """One measured piece of work."""

    def advance(self, amount: int = 1, **facts: Any) -> None:
        """Say that `amount` more units are done; facts such as loss are shown beside."""


class Progress(Protocol):
    """Where progress goes."""

    def task(self, label: str, total: int | None, unit: str, *, done: int = 0) -> AbstractContextManager[Task]:
        """Begin a piece of work of `total` units, `done` of which were done before a restart."""

    def say(self, text: str) -> None:
        """Tell one thing."""


class Silent:
    """Says nothing; the default of every stage."""

    def task(self, label: str, total: int | None, unit: str, *, done: int = 0) -> AbstractContextManager[Task]:
        return nullcontext(self)

    def advance(self, amount: int = 1, **facts: Any) -> None:
        pass

    def say(self, text: str) -> None:
        pass
