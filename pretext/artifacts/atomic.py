"""Write a file so that under its final name it is always whole: beside it, flush, rename."""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretext.errors import ArtifactError

BLOCK_BYTES = 1 << 20
SUMS = ("sha256", "bytes", "crc32")


def temporary_path(path: Path) -> Path:
    """Where a file is written before it takes its final name."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; on success it is flushed to disk and takes the final name.

    The sibling's name is always the same, so that what a killed process left is overwritten, not piled up.

    Raises:
        ArtifactError: If the disk is full or the folder can't be written.
    """
    temporary = temporary_path(path)
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
        text = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}") from error
    return loads_strictly(path, text)


def loads_strictly(path: Path, text: bytes | str, *, problem: str = "is not valid JSON") -> Any:
    """JSON that was found in a file, of which `problem` is told where it is none.

    Raises:
        ArtifactError: If it is not JSON, which has no NaN and no infinity: 1e999 neither.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse_constant,
                          parse_float=_finite)  # fmt: skip
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise ArtifactError(f"{path} {problem}: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it has the number {text[:40]}")
    return value


def file_sha256(path: Path) -> str:
    """The fingerprint of a file's bytes, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def file_sums(path: Path) -> dict[str, Any]:
    """What a record must know to find damage in a file later, in one pass over it.

    Returns:
        `sha256` of the whole, `bytes`, and `crc32`: of each MiB, eight hexadecimal digits one after the other.
    """
    whole, blocks, size = hashlib.sha256(), [], 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(f"{zlib.crc32(block):08x}")
            size += len(block)
    return {"sha256": "sha256:" + whole.hexdigest(), "bytes": size, "crc32": "".join(blocks)}


def damaged_block(path: Path, facts: Mapping[str, Any]) -> tuple[int, int] | None:
    """The first bytes of a file, from and to, that are not those that `file_sums` saw; None if all are.

    Cost: reading the file, and a quarter of a second for each GB.
    """
    start = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            number = start // BLOCK_BYTES
            if facts["crc32"][8 * number : 8 * number + 8] != f"{zlib.crc32(block):08x}":
                return start, start + len(block)
            start += len(block)
    return (start, facts["bytes"]) if start < facts["bytes"] else None


def content_sha256(content: Any) -> str:
    """The fingerprint of a JSON value, the same for any order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
