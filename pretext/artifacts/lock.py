"""One writer an output: a lock that ends with its holder, however that one ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from pretext.errors import ArtifactError

# Locks of this process by file: work that failed here leaves none behind for the next try in the same process.
_held: dict[Path, int] = {}


def lock_path(path: Path) -> Path:
    """The lock's file, beside what it guards."""
    return path.with_name(f".{path.name}.lock")


def take_lock(path: Path) -> None:
    """Be the only process that writes what `path` records, until `release_lock` or the end of this process.

    The system lets go of the lock when its holder is gone, killed or not, so that none can be stale; the file tells only
    who holds it since when.

    Raises:
        ArtifactError: If another process holds it, or the folder can't be written.
    """
    release_lock(path)
    file = lock_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(number)
                raise ArtifactError(f"{path.parent} is being written by another process{_who(file)}",
                                    hint="wait for it, or stop it; then run the same command again") from None  # fmt: skip
            if _is_same(number, file):
                break
            os.close(number)  # its last holder removed it just now
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps({"pid": os.getpid(), "since": time.time()}).encode(), 0)
    except OSError as error:
        raise ArtifactError(f"{path} can't be written: {error.strerror or error}") from error
    _held[file] = number


def release_lock(path: Path) -> None:
    """Let others write; nothing happens if this process does not hold the lock."""
    file = lock_path(path)
    if (number := _held.pop(file, None)) is not None:
        _let_go(number, file)


def clear_lock(path: Path) -> None:
    """Remove the file of a lock that its holder, killed as it was done, left behind; one that is held stays."""
    file = lock_path(path)
    try:
        number = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # none is there, or it is not ours to remove
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return
    if _is_same(number, file):
        _let_go(number, file)
    else:
        os.close(number)


def _let_go(number: int, file: Path) -> None:
    """Remove the file while the lock still holds; a file that stays there is in nobody's way."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        pass
    os.close(number)


def _is_same(number: int, file: Path) -> bool:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(number), found)


def _who(file: Path) -> str:
    """What the holder wrote down, if it can be read."""
    try:
        told: Any = json.loads(file.read_text(encoding="utf-8"))
        return f", number {int(told['pid'])}, for {_age(time.time() - float(told['since']))}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it has only just begun


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} seconds"
