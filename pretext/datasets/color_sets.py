"""What is computed from prepared images for colour objectives: the images in Lab, and their colours as classes.

Each set has a record of its own beside the images' manifest, and one file a shard of images, row by row the same.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretext import world
from pretext.artifacts.atomic import content_sha256, file_sums
from pretext.artifacts.layout import LAB, DataLayout, targets_stem
from pretext.artifacts.manifest import Parent, Record
from pretext.artifacts.rows import RowWriter, write_rows
from pretext.artifacts.shards import DataSet, Shard
from pretext.catalog import COLOR_SPACES
from pretext.color import LAB_LOW, LAB_SPAN, Quantizer
from pretext.color.planes import one_thread_each
from pretext.datasets.color_blocks import Converter, Facts, Wanted, merge
from pretext.datasets.shard_notes import ShardNotes, part_of
from pretext.memory import keep_memory
from pretext.progress import Progress

ASKS_EVERY = 0.2  # seconds between looks at the threads' counter
CODES = {"uint8": "value = low + span * code / 255", "float16": "value = low + span * code"}


@dataclass(frozen=True, slots=True)
class ColorSet:
    """One set of files: Lab images where it has no quantiser, else colour targets."""

    stem: str
    request: dict[str, Any]
    quantizer: Quantizer | None

    def record(self, layout: DataLayout, fingerprint: str) -> Record:
        return Record(layout.record(self.stem), f"prepare-data {self.stem}", self.request,
                      [Parent("data", str(layout.folder), fingerprint)])  # fmt: skip

    def row_shape(self, image_size: int) -> tuple[int, ...]:
        size = self.request.get("target_size")
        return (image_size, image_size, 3) if size is None else (2, size, size)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.request.get("lab_dtype", "int16"))


@dataclass(frozen=True, slots=True)
class Part:
    """One shard of images and the sets it still lacks."""

    path: Path
    num_images: int
    image_size: int
    sets: tuple[ColorSet, ...]


def plan_sets(spaces: Sequence[str], *, size: int, border: str, lab_dtype: str) -> list[ColorSet]:
    """The sets that are meant; Lab images are among them if one of the spaces is of Lab.

    Args:
        spaces: Names of the catalogue's colour spaces.
        size: Side of the target maps, px.
        border: What lies outside an image when it is made small.
        lab_dtype: How Lab images are stored.
    """
    quantizers: list[Quantizer] = [COLOR_SPACES[name].load()() for name in dict.fromkeys(spaces)]
    needs_lab = any(quantizer.image_space == "lab" for quantizer in quantizers)
    return [ColorSet(LAB, {"lab_dtype": lab_dtype}, None)] * needs_lab + [
        ColorSet(targets_stem(quantizer.name, size),
                 {"color_space": quantizer.name, "target_size": size, "target_border": border,
                  "quantizer_version": quantizer.version}, quantizer)
        for quantizer in quantizers
    ]  # fmt: skip


def are_made(layout: DataLayout, sets: Sequence[ColorSet], fingerprint: str) -> bool:
    """Whether all sets are there, whole and of these images."""
    return all(one.record(layout, fingerprint).is_same() for one in sets)


def make_sets(data: DataSet, sets: Sequence[ColorSet], *, overwrite: bool, workers: int,
              progress: Progress) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Compute what is not there yet, in one pass over the images; several ranks divide the shards.

    Args:
        data: The images.
        sets: What must be there afterwards.
        overwrite: Whether sets that were made with other options are replaced.
        workers: Threads; each converts one shard after the other.
        progress: Where progress goes.

    Returns:
        The manifests of the sets that were computed now, by stem.

    Raises:
        ArtifactError: If a set was made with other options and `overwrite` is False, or the disk is full.
    """
    records: dict[str, Record] = {}
    for one in sets:
        record = one.record(data.layout, data.fingerprint)
        stale = sorted(data.layout.folder.glob(f"*.{one.stem}.arrow"))
        if not record.is_done(overwrite=overwrite and not record.is_same(), stale=stale):
            records[one.stem] = record
    wanted = [one for one in sets if one.stem in records]
    if not wanted:
        return {}
    for one in wanted:
        records[one.stem].begin(one.request, seed=None)
    notes = {one.stem: ShardNotes(records[one.stem]) for one in wanted}
    parts = [Part(data.layout.folder / shard["file"], shard["num_images"], data.image_size,
                  tuple(one for one in wanted if shard["file"] not in notes[one.stem].kept))
             for split in data.num_images for shard in data.shards(split)]  # fmt: skip

    def note(path: Path, files: Mapping[str, dict[str, Any]]) -> None:
        for stem, facts in files.items():
            notes[stem].add(path.name, facts)

    done = sum(part.num_images for part in parts if not part.sets)
    _convert_all(
        world.share([part for part in parts if part.sets]), note, done=done, workers=workers, progress=progress
    )
    made = {stem: of.gather() for stem, of in notes.items()}
    return {one.stem: _finish(data, one, records[one.stem], made[one.stem]) for one in wanted}


def _convert_all(parts: Sequence[Part], note: Any, *, done: int, workers: int, progress: Progress) -> None:
    """Convert shards, one a thread; PyTorch, Arrow and the sums of bytes leave the interpreter free for the others."""
    keep_memory()  # threads that give memory back to the system wait for each other there
    counter, stop = _Counter(), threading.Event()
    total = done + sum(part.num_images for part in parts)
    with (
        progress.task(part_of("converting colours"), total, "images", done=done) as task,
        one_thread_each(),
        ThreadPoolExecutor(max(1, min(workers, len(parts)))) as pool,
    ):
        futures: dict[Future[dict[str, dict[str, Any]]], Part] = {
            pool.submit(_write_part, part, counter, stop): part for part in parts
        }
        told, open_futures = 0, set(futures)
        try:
            while open_futures:
                ready, open_futures = wait(open_futures, timeout=ASKS_EVERY, return_when=FIRST_COMPLETED)
                now = counter.value
                task.advance(now - told)
                told = now
                for future in sorted(ready, key=lambda future: future.exception() is not None):  # what is done is noted
                    note(futures[future].path, future.result())
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


class _Counter:
    """Images converted so far, over all threads."""

    def __init__(self) -> None:
        self.value, self._lock = 0, threading.Lock()

    def add(self, amount: int) -> None:
        with self._lock:
            self.value += amount


class _StoppedError(Exception):
    """Another thread failed, or the user stopped the stage."""


def _write_part(part: Part, counter: _Counter, stop: threading.Event) -> dict[str, dict[str, Any]]:
    """Write what one shard lacks; returns file, size, sum and facts by stem."""
    layout, convert = DataLayout(part.path.parent), Converter(wanted_of(part.sets))
    files = {one.stem: layout.beside(part.path.name, one.stem) for one in part.sets}
    facts: dict[str, Facts] = {one.stem: {} for one in part.sets}
    with ExitStack() as stack:
        writers = {one.stem: stack.enter_context(_writer(files[one.stem], one, part)) for one in part.sets}
        for image_NHWC in Shard(part.path).image_views:
            if stop.is_set():
                raise _StoppedError
            for stem, (rows, found) in convert(image_NHWC).items():
                writers[stem].write(rows)
                facts[stem] = merge([facts[stem], found])
            counter.add(len(image_NHWC))
    return {stem: {"file": path.name, **file_sums(path), "num_images": part.num_images, "facts": {name: value.tolist() for name, value in facts[stem].items()}}
            for stem, path in files.items()}  # fmt: skip


def wanted_of(sets: Sequence[ColorSet]) -> Wanted:
    """What `convert` must compute for these sets."""
    lab = next((one.request["lab_dtype"] for one in sets if one.quantizer is None), None)
    quantizers = {one.stem: one.quantizer for one in sets if one.quantizer is not None}
    places = {(one.request["target_size"], one.request["target_border"]) for one in sets if one.quantizer is not None}
    ((size, border),) = places or {(1, "reflect")}
    return Wanted(lab, quantizers, size, border)


def _writer(path: Path, one: ColorSet, part: Part) -> AbstractContextManager[RowWriter]:
    """Open one file for writing; its schema says what the numbers mean."""
    if one.quantizer is None:
        return write_rows(path, "lab", one.row_shape(part.image_size), one.dtype, dims=("row", "column", "channel"),
                             meaning="CIE Lab of the image, D65 and 2 degree observer: (L, a, b)",
                             metadata={name: json.dumps(value) for name, value in _scale(one).items()})  # fmt: skip
    groups = " and ".join(one.quantizer.groups)
    return write_rows(path, "target", one.row_shape(part.image_size), one.dtype, dims=("group", "row", "column"),
                         meaning=f"bins of the channels {groups} of the image made small",
                         metadata={"quantizer": one.quantizer.name, **{name: str(value) for name, value in one.request.items()}})  # fmt: skip


def _scale(one: ColorSet) -> dict[str, Any]:
    dtype = one.request["lab_dtype"]
    return {"dtype": dtype, "low": list(LAB_LOW), "span": list(LAB_SPAN), "code": CODES[dtype]}


def _finish(data: DataSet, one: ColorSet, record: Record, files: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Put the facts of all shards together and mark the record done."""
    splits: dict[str, Any] = {}
    totals = []
    for split in data.num_images:
        shards = [files[shard["file"]] for shard in data.shards(split)]
        facts = merge([{name: np.array(value) for name, value in shard["facts"].items()} for shard in shards])
        totals.append(facts)
        splits[split] = {"num_images": sum(shard["num_images"] for shard in shards),
                         "shards": [{key: shard[key] for key in ("file", "num_images", "sha256")} for shard in shards]}  # fmt: skip
        if one.quantizer is not None:
            empty = [np.zeros(number, np.int64) for number in one.quantizer.num_bins]
            splits[split]["counts"] = [facts.get(f"counts{group}", empty[group]).tolist() for group in (0, 1)]
            splits[split]["moments"] = _moments(facts)
    summary: dict[str, Any] = {"images": data.fingerprint, "splits": splits}
    measured = merge(totals)
    if one.quantizer is None:
        summary |= _scale(one) | {"code_error": _errors(measured, "Lab"),
                                  "code_error_pixels": int(measured["measured"]) if measured else 0}  # fmt: skip
    else:
        summary |= {"space": one.quantizer.name, "image_space": one.quantizer.image_space,
                    "size": one.request["target_size"], "border": one.request["target_border"],
                    "quantizer": one.quantizer.facts(),
                    "round_trip_error": _errors(measured, "".join(one.quantizer.groups)),
                    "round_trip_error_pixels": int(measured["measured"]) if measured else 0}  # fmt: skip
    hashes = {split: [shard["sha256"] for shard in facts["shards"]] for split, facts in splits.items()}
    summary["fingerprint"] = content_sha256({"schema": 1, "request": one.request, "shards": hashes})
    ordered = [files[shard["file"]] for split in data.num_images for shard in data.shards(split)]
    return record.finish(
        [data.layout.folder / facts["file"] for facts in ordered],
        summary=summary,
        known={facts["file"]: facts for facts in ordered},
    )


def _errors(facts: Facts, letters: str) -> dict[str, dict[str, float]]:
    """Mean and greatest absolute error of every channel, in its own units; nothing where there are no images."""
    if not facts:
        return {}
    mean_C = facts["error"] / facts["measured"]
    return {letter: {"mean": float(mean), "max": float(most)}
            for letter, mean, most in zip(letters, mean_C, facts["error_max"], strict=True)}  # fmt: skip


def _moments(facts: Facts) -> dict[str, Any]:
    """Number of places, and mean and variance of every channel, in units of a network's input."""
    if not facts:
        return {"n": 0, "mean": [0.0] * 3, "variance": [0.0] * 3}
    mean_C = facts["value"] / facts["places"]
    variance_C = np.maximum(facts["square"] / facts["places"] - mean_C**2, 0.0)
    return {"n": int(facts["places"]), "mean": mean_C.tolist(), "variance": variance_C.tolist()}


def estimate(sets: Sequence[ColorSet], image_NHWC: np.ndarray) -> tuple[int, float]:
    """Bytes an image and seconds an image on one core, measured on a few images."""
    convert = Converter(wanted_of(sets))
    with one_thread_each():
        convert(image_NHWC)  # to warm up
        started = time.perf_counter()
        convert(image_NHWC)
        seconds = (time.perf_counter() - started) / len(image_NHWC)
    size = sum(int(np.prod(one.row_shape(image_NHWC.shape[1]))) * one.dtype.itemsize for one in sets)
    return size, seconds
