"""Write a file so that under its final name it is always whole: beside it, flush, rename."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretext.errors import ArtifactError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; on success it is flushed to disk and takes the final name.

    The sibling's name is always the same, so that what a killed process left is overwritten, not piled up.

    Raises:
        ArtifactError: If the disk is full or the folder can't be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        _discard(temporary)
        raise ArtifactError(f"{path} can't be written: {error.strerror or error}") from error
    except BaseException:
        _discard(temporary)
        raise


def _discard(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        pass  # the first error is the one to tell


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented, with a final newline; NaN is refused because it is not JSON."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    # A file name that is not UTF-8 holds lone surrogates; backslashreplace writes them as JSON's own \uXXXX.
    write_bytes(path, text.encode(errors="backslashreplace"))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise ArtifactError(f"{path} is not valid JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}")


def file_sha256(path: Path) -> str:
    """The fingerprint of a file's bytes, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(content: Any) -> str:
    """The fingerprint of a JSON value, the same for any order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
