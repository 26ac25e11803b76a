"""Features in Parquet: one row per image with id, split, label, folds and a fixed-size float32 vector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path, loads_strictly
from pretext.artifacts.layout import LATENT, RunLayout, features_stem
from pretext.artifacts.manifest import require_done
from pretext.artifacts.overlap import overlap
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet
from pretext.artifacts.tables import check_no_nulls, check_types, open_table, read_table, reading
from pretext.artifacts.verify import check_bytes
from pretext.errors import ArtifactError

# split, ids, labels, folds, features: see `write_features`
FeatureChunk = tuple[str, Sequence[str] | pa.ChunkedArray, np.ndarray | pa.ChunkedArray,
                     Sequence[Sequence[int]] | pa.ChunkedArray, Any]  # fmt: skip
META_KEY = b"pretext"
COLUMNS = ("id", "split", "label", "folds", "feature")
# Sections of the header that code relies on, and their texts.
HEADER: dict[str, tuple[str, ...]] = {"data": ("name", "fingerprint"), "encoder": ("name",), "network": ()}


def feature_schema(num_features: int, header: Mapping[str, Any]) -> pa.Schema:
    """The schema of a feature file with vectors of `num_features`; `header` says what it was made from."""
    return pa.schema(
        [("id", pa.string()), ("split", pa.string()), ("label", pa.int32()), ("folds", pa.list_(pa.int16())),
         ("feature", pa.list_(pa.float32(), num_features))],
        metadata={META_KEY: json.dumps({"schema": 1, **header}, sort_keys=True).encode()},
    )  # fmt: skip


def write_features(path: Path, header: Mapping[str, Any], num_features: int, chunks: Iterable[FeatureChunk]) -> int:
    """Stream chunks to one file, a row group each; returns the rows.

    A chunk is (split, ids, labels, folds, feature_ND float32). Labels are -1 for none or null, folds empty or null;
    ids, labels and folds may be columns of a shard. While a chunk is written, later ones are made; features may be
    anything that becomes an array then. Three chunks are in memory at most.
    """
    schema = feature_schema(num_features, header)
    with atomic_path(path) as temporary, _writer(temporary, schema) as writer:

        def write(chunk: FeatureChunk) -> int:
            split, ids, labels, folds, feature_ND = chunk
            flat = pa.array(np.ascontiguousarray(feature_ND, np.float32).reshape(-1))
            own_folds = folds if isinstance(folds, pa.ChunkedArray) else [fold or None for fold in folds]
            mask = labels < 0 if isinstance(labels, np.ndarray) else None
            columns = [_column(ids, pa.string()), pa.array([split] * len(ids), pa.string()),
                       _column(labels, pa.int32(), mask), _column(own_folds, pa.list_(pa.int16())),
                       pa.FixedSizeListArray.from_arrays(flat, num_features)]  # fmt: skip
            writer.write_table(pa.table(columns, schema=schema))
            return len(ids)

        return sum(overlap(write, chunks))


def _column(values: Any, kind: pa.DataType, mask: np.ndarray | None = None) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values, kind, mask=mask)


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
    if not path.exists():
        raise ArtifactError(f"{path} does not exist", hint="pretext extract-features makes it")
    schema = open_table(path).schema_arrow
    _check_schema(path, schema)
    text = (schema.metadata or {}).get(META_KEY)
    if text is None:
        raise ArtifactError(f"{path} is not a feature file of this toolkit: its header has no '{META_KEY.decode()}'")
    header = loads_strictly(path, text, problem="has a damaged header")
    if not all(_has_types(header, section, keys) for section, keys in HEADER.items()):
        raise ArtifactError(f"{path} is damaged: its header is not what this toolkit writes",
                            hint="extract-features with --overwrite replaces it")  # fmt: skip
    return header


def _check_schema(path: Path, schema: pa.Schema) -> None:
    kind = schema.field("feature").type if schema.names == list(COLUMNS) else None
    size = kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else 1
    wanted = feature_schema(max(size, 1), {})
    check_types(path, schema, dict(zip(wanted.names, wanted.types, strict=True)), "a feature file of this toolkit")


def _has_types(header: Any, section: str, keys: Sequence[str]) -> bool:
    found = header.get(section, {}) if isinstance(header, dict) else None
    return isinstance(found, dict) and (not found or all(isinstance(found.get(key), str) for key in keys))


def read_split(path: Path, split: str) -> FeatureSplit | None:
    """The rows of one split, None if there are none. Memory: the split's features once.

    Raises:
        ArtifactError: If the file is missing or broken.
    """
    with reading(path):
        source = open_table(path)
        _check_schema(path, source.schema_arrow)
        blocks = []
        for group in range(source.num_row_groups):  # with a filter, pyarrow 26 never returns from some broken pages
            block = source.read_row_group(group)
            block.validate(full=True)
            blocks.append(block.filter(pc.equal(block["split"], split)))
    if not (table := pa.concat_tables(blocks or [source.schema_arrow.empty_table()])).num_rows:
        return None
    check_no_nulls(path, table, ("id", "feature"))
    feature_ND = np.concatenate([chunk.flatten().to_numpy() for chunk in table["feature"].chunks]).reshape(
        table.num_rows, -1
    )
    if not np.isfinite(feature_ND).all():
        raise ArtifactError(f"{path} holds features that are not finite")
    label = table["label"].fill_null(-1).to_numpy().astype(np.int64)
    return FeatureSplit(table["id"].to_pylist(), label, [fold or [] for fold in table["folds"].to_pylist()], feature_ND)


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
    check_bytes(file, made)
    header = read_feature_header(file)
    if not header.get("data") or not (header.get("network") or header.get("encoder")):
        raise ArtifactError(f"{file} is damaged: its header does not say what it was made from",
                            hint=f"{_commands(layer, data, ' --overwrite')} replaces it")  # fmt: skip
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
    with reading(path):
        source = open_table(path)
        names = read_table(path, ["id", "split"])
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
            block = source.read_row_group(group, ["feature"])
            block.validate(full=True)
            check_no_nulls(path, block, ("feature",))
            column = block["feature"].combine_chunks()
            place_B = place_M[start : start + len(column)]
            block_BD = column.flatten().to_numpy().reshape(len(column), -1)[place_B >= 0]
            if not np.isfinite(block_BD).all():
                raise ArtifactError(f"{path} holds features that are not finite")
            feature_ND[place_B[place_B >= 0]] = block_BD
            start += len(column)
    return feature_ND
