"""Arrow IPC files that may come from anywhere: opened by memory map, and checked before a byte of theirs is trusted."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pretext.errors import ArtifactError

_MAGIC = b"ARROW1"
_CONTINUATION = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, eq=False)
class ArrowFile:
    """A file mapped into memory: its batches are views into the map.

    Args:
        path: The file.
        schema: Its columns.
        batches: Its rows.
        status: What the system told of it as it was mapped.
    """

    path: Path
    schema: pa.Schema
    batches: list[pa.RecordBatch]
    status: os.stat_result

    def check_length(self) -> None:
        """Raise if somebody cut the file short since: the system ends a process that reads a map behind its file's end.

        A file that was removed or replaced is no harm, since the map keeps its own.

        Raises:
            ArtifactError: Saying how long it was and is.

        Cost: one `stat`.
        """
        try:
            now = os.stat(self.path)
        except OSError:
            return
        if os.path.samestat(now, self.status) and now.st_size < self.status.st_size:
            raise ArtifactError(f"{self.path} was cut short while it was in use: it has {now.st_size} of "
                                f"{self.status.st_size} bytes",
                                hint="restore it from a copy, or make it again with --overwrite")  # fmt: skip


def read_batches(path: Path, check: Callable[[pa.Schema], None], *, hint: str | None = None) -> ArrowFile:
    """Map a file into memory; the offsets, lengths and text of its batches are sound.

    Args:
        path: The file.
        check: Raises unless the schema is the wanted one; called before any batch is looked at.
        hint: What would help where the file is no such file.

    Raises:
        ArtifactError: If it can't be read, or is compressed, has dictionaries, or names the same bytes twice: this toolkit
            writes none of these, and a few kB of them could become more than the memory holds.

    Cost: text and offsets are read once; images and other fixed-size values are not touched.
    """
    try:
        source = pa.memory_map(str(path))
        status = os.fstat(source.fileno())
        _check_blocks(memoryview(source.read_buffer()))
        reader = pa.ipc.open_file(source)
        schema = reader.schema
        _check_text(schema)
        check(schema)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError, struct.error) as error:
        raise ArtifactError(f"{path} can't be read as an Arrow file: {_told(error)}", hint=hint) from error
    return ArrowFile(path, schema, batches, status)


def tensor_views(path: Path, batches: list[pa.RecordBatch], column: str) -> list[np.ndarray]:
    """A tensor column as arrays (rows, *shape), one a batch, each a view.

    Raises:
        ArtifactError: If a tensor or a number of one is null.
    """
    views = []
    for batch in batches:
        array = batch.column(column)
        shape, size = array.type.shape, array.type.storage_type.list_size
        if array.null_count or array.storage.flatten().null_count or int(np.prod(shape)) != size:
            raise ArtifactError(f"{path} has rows without {column}")
        views.append(array.storage.flatten().to_numpy().reshape(len(array), *shape))
    return views


def _check_text(schema: pa.Schema) -> None:
    """Names, and what is told of them, must be text that can be shown (UnicodeDecodeError is a ValueError)."""
    str(schema)
    for metadata in (schema.metadata, *(field.metadata for field in schema)):
        for key, value in (metadata or {}).items():
            key.decode(), value.decode()


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _check_blocks(view: memoryview) -> None:
    """Walk the footer's list of batches, and look into each batch's own header, as the format lays them out.

    Source: Apache Arrow, "IPC file format", File.fbs and Message.fbs. What is malformed is left to Arrow's own checks.
    """

    def number(place: int, kind: str) -> int:
        if place < 0:
            raise ValueError("an offset lies before its beginning")
        return int(struct.unpack_from("<" + kind, view, place)[0])

    def field(table: int, index: int) -> int | None:
        """The place of a table's field; None where it is absent."""
        vtable = table - number(table, "i")
        offset = number(vtable + 4 + 2 * index, "H") if 4 + 2 * index < number(vtable, "H") else 0
        return table + offset if offset else None

    def target(place: int) -> int:
        return place + number(place, "I")

    end = len(view) - len(_MAGIC) - 4
    if end < 0 or bytes(view[end + 4 :]) != _MAGIC:
        return
    length = number(end, "i")
    if not 0 < length <= end:
        return
    footer = target(end - length)
    dictionaries, blocks = field(footer, 2), field(footer, 3)
    if dictionaries is not None and number(target(dictionaries), "I"):
        raise ValueError("it has dictionaries")
    if blocks is None:
        return
    first, count, total = target(blocks) + 4, number(target(blocks), "I"), 0
    if count * 24 > len(view):
        raise ValueError("it lists more batches than it can hold")
    for index in range(count):
        offset, metadata_bytes, body_bytes = (
            number(first + 24 * index + at, kind) for at, kind in ((0, "q"), (8, "i"), (16, "q"))
        )
        if min(offset, metadata_bytes, body_bytes) < 0:
            raise ValueError("a batch has a negative size")
        total += metadata_bytes + body_bytes
        if number(offset, "I") != _CONTINUATION:
            raise ValueError("a batch has no header")
        header = field(target(offset + 8), 2)
        if header is not None and field(target(header), 3) is not None:
            raise ValueError("it is compressed")
    if total > len(view):
        raise ValueError("its batches are larger than itself")
