"""The training curve in Parquet: one row per N steps and one per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path
from pretext.errors import ArtifactError

SCHEMA = pa.schema([
    ("kind", pa.string()),  # "step" or "epoch"
    ("step", pa.int64()),  # steps done
    ("epoch", pa.float64()),  # epochs done
    ("images_seen", pa.int64()),
    ("train/loss", pa.float64()),  # mean since the last row of this kind
    ("val/loss", pa.float64()),  # epoch rows only
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
    try:
        return pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path} can't be read as Parquet: {error}") from error
