"""The images of a source written to shards, one worker process a shard."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretext import world
from pretext.artifacts.atomic import file_sums
from pretext.artifacts.manifest import Record
from pretext.artifacts.shards import write_shard
from pretext.catalog import SOURCES
from pretext.datasets.base import Rejected, Source
from pretext.datasets.shard_notes import ShardNotes, part_of
from pretext.errors import DataError
from pretext.progress import Progress

ASKS_EVERY = 0.2  # seconds between looks at the workers' counter


@dataclass(frozen=True, slots=True)
class Job:
    """One shard to write; cheap to send to a worker."""

    source: str
    options: dict[str, Any]
    split: str
    index_N: np.ndarray
    path: Path


STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hear signals only afterwards: a worker that is begun by halves is one that nobody waits for.

    Workers begin with the mask. It does not hold in other threads, and what one of those is sent Python's handlers hear
    here: they wait as well.
    """
    came: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {stop: signal.signal(stop, lambda number, _: came.append(number)) for stop in STOPS if is_main}
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for stop, handler in handlers.items():
            signal.signal(stop, handler)
        for number in came:
            signal.raise_signal(number)


class _StoppedError(Exception):
    """Another shard failed, or the user stopped the stage."""


def write_shards(jobs: list[Job], record: Record, *, workers: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Write every shard that is not there yet, one worker process a shard; each is noted as it is finished.

    Several ranks divide the shards, each with its own workers, and all return the facts of all shards.
    """
    notes = ShardNotes(record)
    open_jobs = world.share([job for job in jobs if job.path.name not in notes.kept])
    done = sum(len(job.index_N) for job in jobs if job.path.name in notes.kept)
    total = done + sum(len(job.index_N) for job in open_jobs)
    # Spawned, not forked: a fork of a process with threads can hang. The workers share with their parent two things alone.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(min(workers, len(open_jobs)) or 1, context, _begin_worker,
                               (counter, stop, jobs[0].source, jobs[0].options))  # fmt: skip
    try:
        with progress.task(part_of("preparing"), total, "images", done=done) as task:
            with _signals_wait():
                futures: dict[Future[dict[str, Any]], Job] = {pool.submit(_write_one, job): job for job in open_jobs}
            told, open_futures = 0, set(futures)
            while open_futures:
                ready, open_futures = wait(open_futures, timeout=ASKS_EVERY, return_when=FIRST_COMPLETED)
                now = counter.value
                task.advance(now - told)
                told = now
                for future in sorted(ready, key=lambda future: future.exception() is not None):  # what is done is noted
                    notes.add(futures[future].path.name, future.result())
    except BrokenProcessPool as error:
        raise DataError("a worker process was killed, most likely for want of memory",
                        hint="--workers 1, then run again: finished shards are kept") from error  # fmt: skip
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return notes.gather()


# What a worker process holds: the counter and the stop that it shares with its parent, and its own view of the source.
_counter: Any
_stop: Any
_source: Source


def _begin_worker(counter: Any, stop: Any, source: str, options: dict[str, Any]) -> None:
    """Open the source once in each worker, so that nothing big crosses between processes."""
    global _counter, _stop, _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # workers begin with what their parent held back
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _counter, _stop, _source = counter, stop, SOURCES[source].load()(**options)


def _leave_with_parent() -> None:
    """End this worker when its parent is killed: nobody would wait for it, and its shard's name is not its own any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_one(job: Job) -> dict[str, Any]:
    """Write one shard in a worker."""
    rejected: list[tuple[str, str]] = []

    def rows() -> Iterator[tuple[str, np.ndarray, int | None, tuple[int, ...]]]:
        told = time.monotonic()
        count = 0
        for item in _source.read(job.split, job.index_N):
            count += 1
            if time.monotonic() - told > ASKS_EVERY:
                _count(count)
                told, count = time.monotonic(), 0
                if _stop.is_set():
                    raise _StoppedError
            if isinstance(item, Rejected):
                rejected.append((item.id, item.reason))
            else:
                yield item.id, item.image_HWC, item.label, item.folds
        _count(count)

    num_images = write_shard(job.path, rows(), image_size=_source.image_size)
    return {**file_sums(job.path), "num_images": num_images, "rejected": rejected}


def _count(amount: int) -> None:
    with _counter.get_lock():
        _counter.value += amount
