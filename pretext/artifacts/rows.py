"""Rows of one tensor column over several memory-mapped Arrow files, and how such a file is written and opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pretext.artifacts.arrow_file import ArrowFile, read_batches, tensor_views
from pretext.artifacts.atomic import atomic_path
from pretext.errors import ArtifactError


class Rows:
    """Tensors of one shape and dtype, one a row, in order over all their files.

    Args:
        views: Views into the memory maps, each some rows of one file.
        row_shape: Shape of one row, for where there is no view to tell it.
        dtype: Dtype of the values.
        files: The file of each view; nothing where the rows lie in memory.
    """

    def __init__(self, views: Sequence[np.ndarray], row_shape: Sequence[int], dtype: np.dtype,
                 files: Sequence[ArrowFile] = ()) -> None:  # fmt: skip
        self.row_shape, self.dtype = tuple(row_shape), np.dtype(dtype)
        self._views, self._files = list(views), list(files)
        self._starts = np.cumsum([0, *(len(view) for view in self._views)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return int(np.prod(self.row_shape)) * self.dtype.itemsize

    def span(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` up to `stop`, (B, *row_shape): a view into the memory map where they lie in one batch.

        A view can't be written to. Rows of several batches are copied.

        Raises:
            IndexError: As of `read`.
            ArtifactError: As of `read`; a view of a file that is cut short later ends the process that looks at it.
        """
        owner = int(np.searchsorted(self._starts, start, side="right")) - 1
        if 0 <= start < stop <= self._starts[min(owner + 1, len(self._views))]:
            self._check_lengths([owner])
            return self._views[owner][start - self._starts[owner] : stop - self._starts[owner]]
        return self.read(np.arange(start, stop))

    def read(self, index_B: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy the rows at these positions into one array (B, *row_shape); the only copy that is made.

        Raises:
            IndexError: If a position is not in 0..N-1.
            ArtifactError: If a file was cut short since it was opened; one that is cut short during the copy itself still
                ends the process.
        """
        if out is None:
            out = np.empty((len(index_B), *self.row_shape), self.dtype)
        if len(index_B) and not 0 <= index_B.min() <= index_B.max() < len(self):
            raise IndexError(f"positions must be in 0..{len(self) - 1}, got {index_B.min()}..{index_B.max()}")
        owner_B = np.searchsorted(self._starts, index_B, side="right") - 1
        owners = np.unique(owner_B)
        self._check_lengths(owners)
        for owner in owners:
            here = np.flatnonzero(owner_B == owner)
            out[here] = self._views[owner][index_B[here] - self._starts[owner]]
        return out

    def _check_lengths(self, owners: Iterable[int]) -> None:
        for file in {self._files[owner] for owner in owners} if self._files else ():
            file.check_length()


class RowWriter:
    """Writes blocks of rows of one tensor column; made by `write_rows`."""

    def __init__(self, writer: pa.ipc.RecordBatchFileWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema

    def write(self, block: np.ndarray) -> None:
        """Append the rows of a block (B, *row_shape)."""
        storage = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(block)).storage
        column = pa.ExtensionArray.from_storage(self._schema.field(0).type, storage)
        self._writer.write_batch(pa.record_batch([column], schema=self._schema))


@contextmanager
def write_rows(path: Path, column: str, row_shape: Sequence[int], dtype: np.dtype, *, dims: Sequence[str],
                  meaning: str, metadata: Mapping[str, str]) -> Iterator[RowWriter]:  # fmt: skip
    """Write a file with one tensor column, atomically; only the block in hand is held in memory.

    Args:
        path: The file.
        column: The column's name.
        row_shape: Shape of a row.
        dtype: Dtype of the values.
        dims: Name of each axis of a row.
        meaning: What the column holds, in words.
        metadata: What a reader must know to use the values, kept in the schema.
    """
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), list(row_shape), dim_names=list(dims))
    schema = pa.schema([pa.field(column, kind, metadata={"meaning": meaning})],
                       metadata={"pretext.schema": "1", **metadata})  # fmt: skip
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        yield RowWriter(writer, schema)


def open_rows(files: Sequence[tuple[Path, int]], column: str, row_shape: Sequence[int], dtype: np.dtype) -> Rows:
    """Map the files' tensor column into memory as one run of rows.

    Args:
        files: Each file and the number of rows it must have.
        column: The column's name.
        row_shape: Shape that a row must have.
        dtype: Dtype that the values must have.

    Raises:
        ArtifactError: If a file can't be read, or does not hold these rows.
    """
    shape, dtype = tuple(row_shape), np.dtype(dtype)
    views: list[np.ndarray] = []
    owners: list[ArrowFile] = []
    wanted = pa.fixed_shape_tensor(pa.from_numpy_dtype(dtype), list(shape))
    for path, num_rows in files:
        file = _read_file(path)
        schema, batches = file.schema, [batch for batch in file.batches if batch.num_rows]
        found = schema.field(0).type if schema.names == [column] else None
        same = isinstance(found, pa.FixedShapeTensorType) and (found.value_type, found.shape) == (wanted.value_type, wanted.shape)  # fmt: skip
        # an order of axes of the file's own would be read as another image
        same = same and found is not None and found.permutation in (None, list(range(len(shape))))
        count = sum(batch.num_rows for batch in batches)
        if not same or count != num_rows:
            holds = f"{count} rows of " + ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise ArtifactError(f"{path} does not hold {num_rows} rows of {column} ({wanted}): it has {holds}",
                                hint="prepare it again with --overwrite")  # fmt: skip
        views += tensor_views(path, batches, column)
        owners += [file] * len(batches)
    return Rows(views, shape, dtype, owners)


def describe_rows(path: Path) -> dict[str, Any]:
    """Rows, columns with their meaning, and what its schema says of a file of tensors.

    Raises:
        ArtifactError: If it can't be read as an Arrow file.
    """
    file = _read_file(path)
    columns = {
        field.name: f"{field.type}: {(field.metadata or {}).get(b'meaning', b'').decode()}" for field in file.schema
    }
    notes = {key.decode(): value.decode() for key, value in (file.schema.metadata or {}).items()}
    return {"rows": sum(batch.num_rows for batch in file.batches), "columns": columns, "notes": notes}


def _read_file(path: Path) -> ArrowFile:
    return read_batches(path, lambda schema: None, hint="prepare it again with --overwrite")
