"""Work in the background that keeps its order: reading before it is needed, writing after it was made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def overlap(work: Callable[[Item], Result], items: Iterable[Item], *, depth: int = 2) -> Iterator[Result]:
    """Results of one thread that works on the items in turn, while the caller uses earlier results or makes later items.

    Args:
        work: What the thread does with an item; an error in it is raised where its result would come.
        items: Taken in the caller's thread.
        depth: Items that are taken before the first result is waited for; what they hold is in memory.

    Yields:
        Results, in the order of items.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(thread.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
