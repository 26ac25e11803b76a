"""`prepare-data`: a source's own files become Arrow shards that every later stage maps into memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path, file_sha256
from pretext.artifacts.layout import DataLayout
from pretext.artifacts.manifest import Parent, Record
from pretext.artifacts.shards import data_fingerprint, write_shard
from pretext.catalog import SOURCES
from pretext.config import identity
from pretext.datasets.base import Rejected, Source
from pretext.errors import DataError, UsageError
from pretext.progress import Progress, Silent, Task
from pretext.stage_configs import PrepareDataConfig
from pretext.variants import choose_row

DOWNLOADS = Path("downloads")
ASKS_EVERY = 0.2  # seconds between looks at the workers' counter


@dataclass(frozen=True, slots=True)
class Job:
    """One shard to write; cheap to send to a worker."""

    source: str
    options: dict[str, Any]
    split: str
    index_N: np.ndarray
    path: Path


def run(
    config: PrepareDataConfig, *, explicit: Collection[str] = (), progress: Progress | None = None
) -> dict[str, Any]:
    """Prepare one data set; see `PrepareDataConfig` for the options.

    Args:
        config: The options.
        explicit: Which of them the user gave; one that the source does not read is then an error.
        progress: Where progress goes.

    Returns:
        The data set's folder, status, and facts for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the source's files or the disk.
    """
    progress = progress or Silent()
    options = _source_options(config, explicit)
    source = _open_source(config.source, options, progress)
    layout = DataLayout(config.data_dir / (config.name or _default_name(config)))
    jobs = _plan(source, config, options, layout)
    request = identity(config) | {"image_size": source.image_size}
    record = Record(layout.manifest, "prepare-data", request,
                    [Parent("source", config.source, source.fingerprint())])  # fmt: skip
    if config.dry_run:
        return _dry_run(layout, source, jobs)
    if record.is_done(overwrite=config.overwrite, stale=sorted(layout.folder.glob("*.arrow"))):
        return _outcome(layout, record.content, "already done")

    record.begin({k: v for k, v in asdict(config).items() if v is None or isinstance(v, (int, float, str))}
                 | {k: _text(v) for k, v in options.items()}, seed=config.seed)  # fmt: skip
    shards = _write_shards(jobs, record, workers=config.workers or os.cpu_count() or 1, progress=progress)
    rejected = [(job.split, *row) for job in jobs for row in shards[job.path.name]["rejected"]]
    _check_rejected(rejected, shards, config.max_rejected)
    outputs = [job.path for job in jobs] + _write_rejected(layout.rejected, rejected)
    content = record.finish(outputs, summary=_summary(layout, source, jobs, shards, rejected),
                            known={name: facts["sha256"] for name, facts in shards.items()})  # fmt: skip
    return _outcome(layout, content, "done")


def _source_options(config: PrepareDataConfig, explicit: Collection[str]) -> dict[str, Any]:
    _, options = choose_row(config, "source", explicit)
    if "root" in options:
        options["root"] = options["root"] or DOWNLOADS
    if "path" in options and options["path"] is None:
        raise UsageError("source `folder` needs the path of a folder", hint="pretext prepare-data folder PATH")
    if config.source == "shapes":
        options["seed"] = config.seed
    return options


def _open_source(name: str, options: dict[str, Any], progress: Progress) -> Source:
    """Open the source, showing the download if there is one."""
    build = SOURCES[name].load()
    if "offline" not in options:
        return build(**options)
    with ExitStack() as shown:
        tasks: list[Task] = []

        def tell(done: int, total: int | None) -> None:
            if not tasks:
                tasks.append(shown.enter_context(progress.task("downloading", total, "bytes")))
            tasks[0].advance(done - told[0])
            told[0] = done

        told = [0]
        return build(**options, progress=tell)


def _default_name(config: PrepareDataConfig) -> str:
    if config.path is None:
        return config.source
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in config.path.resolve().name).strip("-.") or "folder"


def _plan(source: Source, config: PrepareDataConfig, options: dict[str, Any], layout: DataLayout) -> list[Job]:
    per_shard = max(1, int(config.shard_mb * 1e6) // (source.image_size**2 * 3))
    jobs = []
    for split in source.splits:
        index_N = np.arange(split.num_images)
        if config.limit is not None and config.limit < split.num_images:
            chooser = np.random.default_rng([config.seed, *split.name.encode()])
            index_N = np.sort(chooser.choice(split.num_images, config.limit, replace=False))
        count = -(-len(index_N) // per_shard)
        jobs += [Job(config.source, options, split.name, part, layout.shard(split.name, number, count))
                 for number, part in enumerate(np.array_split(index_N, count) if count else [])]  # fmt: skip
    if not jobs:
        raise DataError(f"source {config.source} holds no images")
    return jobs


def _write_shards(jobs: list[Job], record: Record, *, workers: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Write every shard that is not there yet, one worker process a shard; the manifest notes each as it is finished."""
    shards = {name: facts for name, facts in record.content["progress"].items()
              if (record.path.parent / name).is_file() and (record.path.parent / name).stat().st_size == facts["bytes"]}  # fmt: skip
    open_jobs = [job for job in jobs if job.path.name not in shards]
    total = sum(len(job.index_N) for job in jobs)
    done = total - sum(len(job.index_N) for job in open_jobs)
    # Spawned, not forked: a fork of a process with threads can hang. The counter is the workers' only shared state.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(min(workers, len(open_jobs)) or 1, context, _begin_worker,
                               (counter, jobs[0].source, jobs[0].options))  # fmt: skip
    try:
        with progress.task("preparing", total, "images", done=done) as task:
            futures: dict[Future[dict[str, Any]], Job] = {pool.submit(_write_one, job): job for job in open_jobs}
            told, open_futures = 0, set(futures)
            while open_futures:
                ready, open_futures = wait(open_futures, timeout=ASKS_EVERY, return_when=FIRST_COMPLETED)
                now = counter.value
                task.advance(now - told)
                told = now
                for future in ready:
                    shards[futures[future].path.name] = future.result()
                    record.note(shards)
    except BrokenProcessPool as error:
        raise DataError("a worker process was killed, most likely for want of memory",
                        hint="--workers 1, then run again: finished shards are kept") from error  # fmt: skip
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return shards


# What a worker process holds: the counter it shares with its parent, and its own view of the source.
_counter: Any
_source: Source


def _begin_worker(counter: Any, source: str, options: dict[str, Any]) -> None:
    """Open the source once in each worker, so that nothing big crosses between processes."""
    global _counter, _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _counter, _source = counter, SOURCES[source].load()(**options)


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
            if isinstance(item, Rejected):
                rejected.append((item.id, item.reason))
            else:
                yield item.id, item.image_HWC, item.label, item.folds
        _count(count)

    num_images = write_shard(job.path, rows(), image_size=_source.image_size)
    return {"sha256": file_sha256(job.path), "bytes": job.path.stat().st_size, "num_images": num_images,
            "rejected": rejected}  # fmt: skip


def _count(amount: int) -> None:
    with _counter.get_lock():
        _counter.value += amount


def _check_rejected(rejected: list[tuple[str, str, str]], shards: dict[str, dict[str, Any]], limit: float) -> None:
    total = len(rejected) + sum(facts["num_images"] for facts in shards.values())
    if total and len(rejected) / total > limit:
        split, name, reason = rejected[0]
        raise DataError(f"{len(rejected)} of {total} images can't be used ({len(rejected) / total:.1%}, "
                        f"--max-rejected is {limit:.1%}); the first is {split} image {name}: {reason}",
                        hint="mend or remove them, or raise --max-rejected")  # fmt: skip


def _write_rejected(path: Path, rejected: list[tuple[str, str, str]]) -> list[Path]:
    columns = [pa.array(column, pa.string()) for column in zip(*rejected, strict=True)] if rejected else [[], [], []]
    schema = pa.schema([("split", pa.string()), ("id", pa.string()), ("reason", pa.string())])
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)
    return [path]


def _summary(layout: DataLayout, source: Source, jobs: list[Job], shards: dict[str, dict[str, Any]],
             rejected: list[tuple[str, str, str]]) -> dict[str, Any]:  # fmt: skip
    splits = {}
    for split in source.splits:
        files = [job.path.name for job in jobs if job.split == split.name]
        if files:
            facts = [{"file": name, "num_images": shards[name]["num_images"], "sha256": shards[name]["sha256"]}
                     for name in files]  # fmt: skip
            splits[split.name] = {"num_images": sum(shard["num_images"] for shard in facts),
                                  "labelled": split.labelled, "shards": facts}  # fmt: skip
    hashes = {name: [shard["sha256"] for shard in split["shards"]] for name, split in splits.items()}
    return {"name": layout.folder.name, "image_size": source.image_size, "class_names": list(source.class_names),
            "splits": splits, "missing_splits": list(source.missing), "num_rejected": len(rejected),
            "fingerprint": data_fingerprint(source.image_size, hashes)}  # fmt: skip


def _outcome(layout: DataLayout, content: dict[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    return {"output": str(layout.folder), "status": status,
            "images": {name: split["num_images"] for name, split in summary["splits"].items()},
            "absent splits": summary["missing_splits"], "rejected": summary["num_rejected"],
            "image size": f"{summary['image_size']} px", "seconds": content["wall_seconds"],
            "fingerprint": summary["fingerprint"]}  # fmt: skip


def _dry_run(layout: DataLayout, source: Source, jobs: list[Job]) -> dict[str, Any]:
    started = time.perf_counter()
    sample = jobs[0].index_N[:64]
    for _ in source.read(jobs[0].split, sample):
        pass
    per_image = (time.perf_counter() - started) / len(sample)
    total = sum(len(job.index_N) for job in jobs)
    return {"output": str(layout.folder), "status": "dry run", "images": total, "shards": len(jobs),
            "disk": f"{total * source.image_size**2 * 3 / 1e9:.2f} GB",
            "expected seconds": round(per_image * total / (os.cpu_count() or 1), 1)}  # fmt: skip


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
