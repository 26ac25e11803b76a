"""Features in Parquet: one row per image with id, split, label, folds and a fixed-size float32 vector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path
from pretext.errors import ArtifactError

META_KEY = b"pretext"
COLUMNS = ("id", "split", "label", "folds", "feature")


def feature_schema(num_features: int, header: Mapping[str, Any]) -> pa.Schema:
    """The schema of a feature file with vectors of `num_features`; `header` says what it was made from."""
    return pa.schema(
        [("id", pa.string()), ("split", pa.string()), ("label", pa.int32()), ("folds", pa.list_(pa.int16())),
         ("feature", pa.list_(pa.float32(), num_features))],
        metadata={META_KEY: json.dumps({"schema": 1, **header}, sort_keys=True).encode()},
    )  # fmt: skip


def write_features(path: Path, header: Mapping[str, Any], num_features: int,
                   chunks: Iterable[tuple[str, list[str], np.ndarray, list[list[int]], np.ndarray]]) -> int:  # fmt: skip
    """Stream chunks (split, ids, label_N with -1 for none, folds, feature_ND float32) to one file; returns the rows."""
    schema = feature_schema(num_features, header)
    count = 0
    with atomic_path(path) as temporary, _writer(temporary, schema) as writer:
        for split, ids, label_N, folds, feature_ND in chunks:
            flat = pa.array(np.ascontiguousarray(feature_ND, np.float32).reshape(-1))
            columns = [pa.array(ids, pa.string()), pa.array([split] * len(ids), pa.string()),
                       pa.array(label_N, pa.int32(), mask=label_N < 0),
                       pa.array([fold or None for fold in folds], pa.list_(pa.int16())),
                       pa.FixedSizeListArray.from_arrays(flat, num_features)]  # fmt: skip
            writer.write_table(pa.table(columns, schema=schema))
            count += len(ids)
    return count


def assemble_features(path: Path, parts: Sequence[Path], header: Mapping[str, Any], num_features: int) -> int:
    """Join part files into one, a row group at a time; returns the rows."""
    count = 0
    with atomic_path(path) as temporary, _writer(temporary, feature_schema(num_features, header)) as writer:
        for part in parts:
            source = pq.ParquetFile(part)
            for group in range(source.num_row_groups):
                table = source.read_row_group(group)
                writer.write_table(table)
                count += table.num_rows
    return count


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Float vectors do not compress; spending time on it would be the slowest part of the stage.
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=["split"], write_statistics=False)


@dataclass(frozen=True, slots=True)
class FeatureSplit:
    """The rows of one split."""

    ids: list[str]
    label_N: np.ndarray
    folds: list[list[int]]
    feature_ND: np.ndarray


def read_feature_header(path: Path) -> dict[str, Any]:
    """What a feature file was made from.

    Raises:
        ArtifactError: If it is missing, broken, or not a feature file of this toolkit.
    """
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist", hint="pretext extract-features makes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path} can't be read as Parquet: {error}") from error
    text = (schema.metadata or {}).get(META_KEY)
    if text is None or tuple(schema.names) != COLUMNS:
        raise ArtifactError(f"{path} is not a feature file of this toolkit: its columns are {', '.join(schema.names)}")
    return json.loads(text)


def read_split(path: Path, split: str) -> FeatureSplit | None:
    """The rows of one split, None if there are none. Memory: the split's features once.

    Raises:
        ArtifactError: If the file is missing or broken.
    """
    try:
        table = pq.read_table(path, filters=[("split", "=", split)])
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} can't be read as Parquet: {error}") from error
    if table.num_rows == 0:
        return None
    feature = table["feature"].combine_chunks()
    label = table["label"].fill_null(-1).to_numpy().astype(np.int64)
    return FeatureSplit(table["id"].to_pylist(), label, [fold or [] for fold in table["folds"].to_pylist()],
                        feature.values.to_numpy().reshape(table.num_rows, -1).copy())  # fmt: skip
