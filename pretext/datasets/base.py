"""What every image source looks like, and what it may answer for one image: a sample, or why there is none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pretext.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image of a split. Compared by identity, as arrays have no single truth value.

    Args:
        id: Stable name, unique in its source, valid UTF-8 without control characters.
        image_HWC: (S, S, 3) uint8 RGB, C-contiguous, writable, owned by the sample.
        label: Class index, 0 to the number of classes - 1; None in an unlabelled split.
        folds: The official folds whose training part holds this image.
    """

    id: str
    image_HWC: np.ndarray
    label: int | None
    folds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """One image that can't be used, and why, in words for people."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split that a source can read: "unlabeled", "train" or "test"."""

    name: str
    num_images: int
    labelled: bool


class Source(Protocol):
    """A set of images in splits.

    `missing` names the splits that the source has but whose files are absent here. Sources hold names and
    numbers, never pixels, and open their files inside `read`, so that they survive a fork or a pickle.
    """

    name: str
    image_size: int
    class_names: tuple[str, ...]
    splits: tuple[SplitInfo, ...]
    missing: tuple[str, ...]

    def read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        """Yield one answer per index, in the order of `indices`; memory does not grow with their number.

        Raises:
            DataError: If the split is not there, or a file of the source is broken.
            ValueError: If `indices` are not whole numbers inside the split.
        """
        ...

    def fingerprint(self) -> str:
        """Return "sha256:..." of what the images are read from and of the options that shape them."""
        ...


def check_request(source: Source, split: str, indices: np.ndarray) -> np.ndarray:
    """Return `indices` as int64 (N,) once they are known to lie inside the split.

    Raises:
        DataError: If the source has no such split here.
        ValueError: If `indices` are not one axis of whole numbers in 0 to the split's number of images - 1.
    """
    info = next((known for known in source.splits if known.name == split), None)
    if info is None:
        here = ", ".join(known.name for known in source.splits)
        absent = " (its files are absent)" if split in source.missing else ""
        raise DataError(f"{source.name} has no split '{split}' here{absent}", hint=f"the splits here are: {here}")
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or (wanted.size > 0 and wanted.dtype.kind not in "iu"):
        raise ValueError(f"indices must be one axis of whole numbers, got {wanted.dtype} of shape {wanted.shape}")
    if wanted.size > 0:
        for index in (int(wanted.min()), int(wanted.max())):
            if not 0 <= index < info.num_images:
                raise ValueError(f"indices of {source.name} {split} must be in 0..{info.num_images - 1}, got {index}")
    return wanted.astype(np.int64)


def check_image_size(image_size: int | None, *, native: int) -> int:
    """Return the side of the squares in pixels, the source's own where none is asked for.

    Raises:
        ValueError: If the size is below 1.
    """
    if image_size is None:
        return native
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1, got {image_size}")
    return image_size


def fingerprint_parameters(parameters: Mapping[str, object]) -> str:
    """Return "sha256:..." of a mapping of plain values; the order of its keys does not matter."""
    return "sha256:" + hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()


def fingerprint_files(files: Iterable[tuple[str, Path | str]], *, options: Mapping[str, object]) -> str:
    """Return "sha256:..." of each file's (name, size, modification time) in the order given, and of the options.

    The bytes are not read, so that a set of millions of files has its fingerprint in seconds; where the set lies
    does not count. A file that is gone, or a dangling link, counts as such.

    Cost: one `stat` per file.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, path in files:
        try:
            stat = os.stat(path)  # also takes a str, three times as fast over a million files
            digest.update(json.dumps([name, stat.st_size, stat.st_mtime_ns]).encode())
        except OSError:
            digest.update(json.dumps([name, None, None]).encode())
    return "sha256:" + digest.hexdigest()
