"""The training curve in Parquet: one row per N steps and one per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path
from pretext.artifacts.tables import check_no_nulls, check_types, read_table

SCHEMA = pa.schema([
    ("kind", pa.string()),  # "step" or "epoch"
    ("step", pa.int64()),  # steps done
    ("epoch", pa.float64()),  # epochs done
    ("images_seen", pa.int64()),
    ("train/loss", pa.float64()),  # mean since the last row of this kind
    ("val/loss", pa.float64()),  # epoch rows only
    ("val/effective_rank", pa.float64()),  # epoch rows only: of the features of some validation images
    ("train/loss_over_median", pa.float64()),  # of the last rows of this kind before it
    ("train/skipped", pa.int64()),  # steps since the last row of this kind that gave no number and were left out
    ("train/grad_norm", pa.float64()),  # before clipping; mean since the last row of this kind
    ("lr", pa.float64()),
    ("time/data_s", pa.float64()),  # waiting for data, per step
    ("time/step_s", pa.float64()),  # a whole step
    ("images_per_s", pa.float64()),
])  # fmt: skip


def write_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the curve atomically; absent values are null."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA), temporary, compression="zstd")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the curve.

    Raises:
        ArtifactError: If the file is missing or broken.
    """
    table = read_table(path)
    types = {field.name: field.type for field in SCHEMA}  # an older file has fewer
    check_types(path, table.schema, {name: kind for name, kind in types.items() if name in table.schema.names},
                "a training curve of this toolkit")  # fmt: skip
    check_no_nulls(path, table, ("kind", "step", "epoch"))
    return table.to_pylist()
