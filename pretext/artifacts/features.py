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
from pretext.artifacts.layout import LATENT, RunLayout, features_stem
from pretext.artifacts.manifest import require_done
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet
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


def open_feature_targets(folder: Path, layer: str, data: DataSet, split: str) -> tuple[Rows, dict[str, Any]]:
    """The features of a split's images, row by row in the order of its images, as a training's targets.

    Args:
        folder: A run that `extract-features` has written to.
        layer: The layer they are of.
        data: The data set that is trained on.
        split: Its split, or several joined by +.

    Returns:
        Their rows, float32: maps (C, h, w) where the file's header tells their `map_shape`, else vectors (D,); and what
        the header says of the network, with `features_file` and `features_fingerprint`.

    Raises:
        ArtifactError: If they are missing, unfinished, broken, not finite, or of other images.

    Memory: the split's features once, 4 bytes a number.
    """
    file = RunLayout(folder).features_of(layer)
    made = require_done(RunLayout(folder).record(features_stem(layer)), hint=f"{_commands(layer, data)} makes them")
    header = read_feature_header(file)
    if header["data"]["fingerprint"] != data.fingerprint:
        raise ArtifactError(f"{file} is of data set {header['data']['name']}, and of other images than those of data set "
                            f"{data.name}", hint=f"{_commands(layer, data, ' --overwrite')} replaces it")  # fmt: skip
    feature_ND = _read_in_order(file, split, data.split(split).ids())
    facts = dict(header.get("network") or header["encoder"])
    shape = tuple(header.get("map_shape") or feature_ND.shape[1:])
    facts |= {
        "checkpoint": header.get("checkpoint"),
        "features_file": str(file),
        "features_fingerprint": made["outputs"][file.name]["sha256"],
    }
    return Rows([feature_ND.reshape(-1, *shape)], shape, feature_ND.dtype), facts


def _commands(layer: str, data: DataSet, end: str = "") -> str:
    """What makes the features of a layer: of a run, or of a published network, which has no latent."""
    sources = ("RUN",) if layer == LATENT else (f"RUN --layer {layer}", f"--network NAME --layer {layer}")
    return " or ".join(f"`pretext extract-features {source} --data {data.name}{end}`" for source in sources)


def _read_in_order(path: Path, split: str, ids: list[str]) -> np.ndarray:
    """The features of these images, split after split; one row group is held besides."""
    try:
        source = pq.ParquetFile(path)
        names = source.read(["id", "split"])
        in_split = [np.flatnonzero(names["split"].to_numpy() == part) for part in split.split("+")]
        row_N = np.concatenate(in_split)
        if names["id"].take(pa.array(row_N)).to_pylist() != ids:
            raise ArtifactError(f"{path} does not hold all {len(ids)} images of split {split}, each once and in order",
                                hint="extract-features with --splits all and --overwrite")  # fmt: skip
        place_M = np.full(names.num_rows, -1)
        place_M[row_N] = np.arange(len(row_N))
        feature_ND = np.empty((len(ids), source.schema_arrow.field("feature").type.list_size), np.float32)
        start = 0
        for group in range(source.num_row_groups):
            column = source.read_row_group(group, ["feature"])["feature"].combine_chunks()
            place_B = place_M[start : start + len(column)]
            block_BD = column.values.to_numpy().reshape(len(column), -1)[place_B >= 0]
            if not np.isfinite(block_BD).all():
                raise ArtifactError(f"{path} holds features that are not finite")
            feature_ND[place_B[place_B >= 0]] = block_BD
            start += len(column)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} can't be read as Parquet: {error}") from error
    return feature_ND
