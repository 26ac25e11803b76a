"""`prepare-data`: a source's own files become Arrow shards that every later stage maps into memory.

Beside the images lie, where colour spaces are asked for, the same images in Lab and their colours as classes.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pretext import world
from pretext.artifacts.atomic import atomic_path
from pretext.artifacts.layout import DataLayout
from pretext.artifacts.manifest import Parent, Record, read_manifest
from pretext.artifacts.shards import data_fingerprint, open_data
from pretext.catalog import COLOR_SPACES, LAB_SPACES, SOURCES
from pretext.config import identity
from pretext.datasets.base import Rejected, Source
from pretext.datasets.download import show_download
from pretext.datasets.shard_jobs import Job, write_shards
from pretext.errors import ConfigError, DataError, UsageError
from pretext.progress import Progress, Silent
from pretext.stage_configs import PrepareDataConfig
from pretext.variants import choose_row

if TYPE_CHECKING:
    from pretext.datasets.color_sets import ColorSet

DOWNLOADS = Path("downloads")
COLOR_OPTIONS = ("color_space", "target_size", "target_border", "lab_dtype")


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
    spaces = _color_spaces(config, explicit, source.image_size)
    layout = DataLayout(config.data_dir / (config.name or _default_name(config)))
    jobs = _plan(source, config, options, layout)
    request = identity(config) | {"image_size": source.image_size}
    record = Record(layout.manifest, "prepare-data", request,
                    [Parent("source", config.source, source.fingerprint())])  # fmt: skip
    with ThreadPoolExecutor(1) as aside:  # loading PyTorch takes as long as some thousand images
        planned = aside.submit(_plan_color_sets, config, spaces)
        if config.dry_run:
            return _dry_run(layout, source, jobs, planned.result())
        # What --overwrite is for may be colours alone: whole images of the same request are then kept.
        kept = bool(spaces) and record.is_same() and not _are_made(layout, planned.result())
        images_done = record.is_done(overwrite=config.overwrite and not kept, stale=layout.computed())
        content = (
            record.content if images_done else _prepare_images(config, options, layout, source, jobs, record, progress)
        )
        outcome = _outcome(layout, content, "already done" if images_done else "done")
        return outcome | _make_colors(config, layout, planned.result(), progress, images_done=images_done)


def _prepare_images(config: PrepareDataConfig, options: dict[str, Any], layout: DataLayout, source: Source, jobs: list[Job],
                    record: Record, progress: Progress) -> dict[str, Any]:  # fmt: skip
    """Write the shards of images and their manifest; returns its content."""
    shown = {k: v for k, v in asdict(config).items() if k not in COLOR_OPTIONS}
    record.begin({k: v for k, v in shown.items() if v is None or isinstance(v, (int, float, str))}
                 | {k: _text(v) for k, v in options.items()}, seed=config.seed)  # fmt: skip
    shards = write_shards(jobs, record, workers=config.workers or world.cores(), progress=progress)
    rejected = [(job.split, *row) for job in jobs for row in shards[job.path.name]["rejected"]]
    _check_rejected(rejected, shards, config.max_rejected)
    if world.is_first():
        _write_rejected(layout.rejected, rejected)
    return record.finish(
        [*(job.path for job in jobs), layout.rejected],
        summary=_summary(layout, source, jobs, shards, rejected),
        known=shards,
    )


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
    """Open the source, showing the download if there is one; it is the first rank's, and others open what is then there."""
    build = SOURCES[name].load()
    if "offline" not in options:
        return build(**options)
    opened: list[Source] = []

    def open_first() -> None:
        with show_download(progress) as tell:
            opened.append(build(**options, progress=tell))

    world.from_first(open_first)
    return opened[0] if opened else build(**options)


def _default_name(config: PrepareDataConfig) -> str:
    if config.path is None:
        return config.source
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in config.path.resolve().name).strip("-.") or "folder"


def _color_spaces(config: PrepareDataConfig, explicit: Collection[str], image_size: int) -> list[str]:
    """The colour spaces to prepare, their options checked."""
    spaces = [space for space in config.color_space if space != "none"]
    if len(spaces) < len(config.color_space) and spaces:
        raise ConfigError(f"--color-space none stands alone, got {','.join(config.color_space)}")
    needs = {"target_size": bool(spaces), "target_border": bool(spaces),
             "lab_dtype": any(space in LAB_SPACES for space in spaces)}  # fmt: skip
    problems = [f"--{name.replace('_', '-')} is read only with a --color-space {'of Lab' if spaces else ''}".rstrip()
                + f"; chosen is {','.join(config.color_space)}"
                for name in sorted(explicit & needs.keys()) if not needs[name]]  # fmt: skip
    if spaces and config.target_size > image_size:
        problems.append(f"--target-size {config.target_size} must be at most the images' {image_size} px")
    for space in spaces:
        COLOR_SPACES[space]  # an unknown one is refused before anything is written
    if problems:
        raise ConfigError(problems)
    return spaces


def _plan_color_sets(config: PrepareDataConfig, spaces: list[str]) -> list[ColorSet]:
    """What is to be computed from the images; PyTorch is loaded only if there is anything."""
    if not spaces:
        return []
    from pretext.datasets.color_sets import plan_sets

    return plan_sets(spaces, size=config.target_size, border=config.target_border, lab_dtype=config.lab_dtype)


def _are_made(layout: DataLayout, sets: list[ColorSet]) -> bool:
    from pretext.datasets.color_sets import are_made

    return are_made(layout, sets, read_manifest(layout.manifest)["summary"]["fingerprint"])


def _make_colors(config: PrepareDataConfig, layout: DataLayout, sets: list[ColorSet], progress: Progress, *,
                 images_done: bool) -> dict[str, Any]:  # fmt: skip
    """Compute what is not there yet of the colour sets; returns what that changes in the outcome."""
    if not sets:
        return {}
    from pretext.datasets.color_sets import make_sets

    made = make_sets(open_data(layout), sets, overwrite=config.overwrite, workers=config.workers or world.cores(),
                     progress=progress)  # fmt: skip
    status = {one.stem: "done" if one.stem in made else "already done" for one in sets}
    seconds = max((content["wall_seconds"] for content in made.values()), default=0.0)
    return {"status": "done" if made or not images_done else "already done", "colours": status,
            "seconds for colours": seconds}  # fmt: skip


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


def _check_rejected(rejected: list[tuple[str, str, str]], shards: dict[str, dict[str, Any]], limit: float) -> None:
    total = len(rejected) + sum(facts["num_images"] for facts in shards.values())
    if total and len(rejected) / total > limit:
        split, name, reason = rejected[0]
        raise DataError(f"{len(rejected)} of {total} images can't be used ({len(rejected) / total:.1%}, "
                        f"--max-rejected is {limit:.1%}); the first is {split} image {name}: {reason}",
                        hint="mend or remove them, or raise --max-rejected")  # fmt: skip


def _write_rejected(path: Path, rejected: list[tuple[str, str, str]]) -> None:
    columns = [pa.array(column, pa.string()) for column in zip(*rejected, strict=True)] if rejected else [[], [], []]
    schema = pa.schema([("split", pa.string()), ("id", pa.string()), ("reason", pa.string())])
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)


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


def _dry_run(layout: DataLayout, source: Source, jobs: list[Job], color_sets: list[ColorSet]) -> dict[str, Any]:
    started = time.perf_counter()
    sample = jobs[0].index_N[:64]
    images = [item.image_HWC for item in source.read(jobs[0].split, sample) if not isinstance(item, Rejected)]
    per_image = (time.perf_counter() - started) / len(sample)
    total, cores = sum(len(job.index_N) for job in jobs), world.cores()
    facts = {"output": str(layout.folder), "status": "dry run", "images": total, "shards": len(jobs),
             "disk": f"{total * source.image_size**2 * 3 / 1e9:.2f} GB",
             "expected seconds": round(per_image * total / cores, 1)}  # fmt: skip
    if not color_sets or not images:
        return facts
    from pretext.datasets.color_sets import estimate

    size, seconds = estimate(color_sets, np.stack(images))
    return facts | {"colours": [f"SPLIT-*.{one.stem}.arrow" for one in color_sets],
                    "disk for colours": f"{total * size / 1e9:.2f} GB",
                    "expected seconds for colours": round(seconds * total / min(cores, len(jobs)), 1)}  # fmt: skip


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
