"""Parquet files that may come from anywhere: of the right columns, and no larger in memory than they may claim to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pretext.errors import ArtifactError

# What a table may grow to when it is read: a compressed column of equal rows is small for good reason, a bomb is not.
FREE_BYTES, MAX_RATIO = 256 << 20, 1000


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn all that a broken file makes of the reader into an error for people.

    Raises:
        ArtifactError: For what goes wrong inside.
    """
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError, OverflowError) as error:
        text = " ".join(str(error).split())[:300]
        raise ArtifactError(f"{path} can't be read as Parquet: {text}") from error


def open_table(path: Path, *, read_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a file whose schema can be shown, and whose columns are not too large for its size.

    Raises:
        ArtifactError: If it is missing or broken, or would become more than `FREE_BYTES` and `MAX_RATIO` times itself.
    """
    with reading(path):
        file = pq.ParquetFile(path, read_dictionary=list(read_dictionary))
        str(file.schema_arrow), [field.name.encode() for field in file.schema_arrow]
        for key, value in (file.schema_arrow.metadata or {}).items():
            key.decode(), value.decode()
        _check_size(path, max(_decoded_bytes(file)))
        return file


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole table, or some of its columns; its text and offsets are sound.

    Raises:
        ArtifactError: As `open_table`, or if a column is absent.
    """
    with reading(path):
        schema = open_table(path).schema_arrow
        if absent := [name for name in columns or () if name not in schema.names]:
            raise ArtifactError(f"{path} has no column {absent[0]}; it has {', '.join(schema.names)}")
        # Text comes as numbers of its words: a word of a MB that a million rows repeat is counted before it is written out.
        words = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
        table = open_table(path, read_dictionary=words).read(list(columns) if columns is not None else None)
        table.validate(full=True)
        for name in [name for name in words if name in table.schema.names]:
            place = table.schema.get_field_index(name)
            column = table.column(place)
            if pa.types.is_dictionary(column.type):
                sizes = [
                    pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
                    for chunk in column.chunks
                ]
                _check_size(path, sum(sizes))
                table = table.set_column(place, schema.field(name), column.cast(schema.field(name).type))
        return table


def check_types(path: Path, schema: pa.Schema, types: Mapping[str, pa.DataType], what: str) -> None:
    """Raise unless the columns are these, of these types and in this order.

    Raises:
        ArtifactError: Naming what there is.
    """
    if schema.names != list(types) or [field.type for field in schema] != list(types.values()):
        same = schema.names == list(types)
        found = ", ".join(f"{field.name} ({field.type})" if same else field.name for field in schema)
        raise ArtifactError(f"{path} is not {what}: its columns are {found[:1000]}")


def check_no_nulls(path: Path, table: pa.Table, columns: Sequence[str]) -> None:
    """Raise if a row lacks one of these columns, or a list of theirs a number.

    Raises:
        ArtifactError: Naming the column.
    """
    for name in columns:
        for chunk in table[name].chunks:
            if chunk.null_count or (pa.types.is_fixed_size_list(chunk.type) and chunk.flatten().null_count):
                raise ArtifactError(f"{path} has rows without {name}")


def _decoded_bytes(file: pq.ParquetFile) -> tuple[int, int]:
    """What the schema makes of the stated rows, and what the row groups state themselves.

    Row groups are not asked for their columns: pyarrow 26 ends the interpreter where one's statistics are broken.
    """
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    rows, stated = ([getattr(group, name) for group in groups] for name in ("num_rows", "total_byte_size"))
    if min([0, *rows, *stated]) < 0:
        raise ValueError("a row group has a negative size")
    return sum(rows) * sum(_width(field.type) for field in file.schema_arrow), sum(stated)


def _width(kind: pa.DataType) -> int:
    """Bytes of a row in memory, or the least that they can be."""
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size * _width(kind.value_type)
    return max(kind.bit_width // 8, 1) if pa.types.is_primitive(kind) else 8


def _check_size(path: Path, decoded: int) -> None:
    size = path.stat().st_size
    if decoded > max(FREE_BYTES, MAX_RATIO * size):
        raise ArtifactError(
            f"{path} has {size:,} bytes and would become {decoded:,} in memory: too many to be believed"
        )
