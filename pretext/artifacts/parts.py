"""What lies where in a file, so that damage can be told by more than a number."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq


def part_at(path: Path, start: int, stop: int) -> str:
    """The columns or tensors that lie in these bytes, as words for a sentence; nothing where that can't be said."""
    spans = {".parquet": _columns, ".safetensors": _tensors}.get(path.suffix)
    try:
        names = spans(path) if spans else []
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error,
            subprocess.SubprocessError):  # fmt: skip
        return ""  # the damage is where the file says what it holds
    hit = list(dict.fromkeys(name for name, first, last in names if first < stop and start < last))
    if not hit:
        return ""
    more = f" and {len(hit) - 3} more" if len(hit) > 3 else ""
    return f" ({'column' if path.suffix == '.parquet' else 'tensor'} {', '.join(hit[:3])}{more})"


def _columns(path: Path) -> list[tuple[str, int, int]]:
    """`column_spans`, asked of a process of its own: pyarrow 26 ends the interpreter over some damage to a file's end."""
    code = "import sys; from pretext.artifacts.parts import column_spans; print(column_spans(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    return [(str(name), int(first), int(last)) for name, first, last in json.loads(done.stdout or "[]")]


def column_spans(path: str) -> str:
    """Every column's name and place as JSON, one entry for each row group."""
    metadata = pq.read_metadata(path)
    found = []
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            first = column.dictionary_page_offset or column.data_page_offset
            found.append((column.path_in_schema.partition(".")[0], first, first + column.total_compressed_size))
    return json.dumps(found)


def _tensors(path: Path) -> list[tuple[str, int, int]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, path.stat().st_size)))
    return [(name, *(8 + length + int(place) for place in facts["data_offsets"]))
            for name, facts in header.items() if name != "__metadata__"]  # fmt: skip
