"""Prepared images on disk: Arrow IPC files, read by memory map without a copy.

A shard has one row per image and four columns; the schema's metadata says what each means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pretext.artifacts.arrow_file import read_batches, tensor_views
from pretext.artifacts.atomic import atomic_path, content_sha256
from pretext.artifacts.layout import LAB, TARGETS, DataLayout
from pretext.artifacts.manifest import missing_outputs, read_manifest, require_done
from pretext.artifacts.rows import Rows, open_rows
from pretext.artifacts.verify import check_bytes
from pretext.errors import ArtifactError

COLUMNS = {
    "id": "where the image comes from: split and number, or the path below the source's folder",
    "image": "uint8 sRGB, rows x columns x (red, green, blue), row 0 at the top",
    "label": "class index from 0; null where the image has no label",
    "folds": "numbers of the data set's official folds whose training part holds the image; null where there are none",
}
ROWS_PER_BATCH = 512


def shard_schema(image_size: int) -> pa.Schema:
    """The schema of shards with square images of `image_size` px."""
    image = pa.fixed_shape_tensor(pa.uint8(), (image_size, image_size, 3), dim_names=["row", "column", "channel"])
    types = {"id": pa.string(), "image": image, "label": pa.int32(), "folds": pa.list_(pa.int16())}
    return pa.schema([pa.field(name, types[name], metadata={"meaning": text}) for name, text in COLUMNS.items()],
                     metadata={"pretext.schema": "1", "color": "sRGB"})  # fmt: skip


def write_shard(
    path: Path, rows: Iterable[tuple[str, np.ndarray, int | None, Sequence[int]]], *, image_size: int
) -> int:
    """Write rows (id, image_HWC uint8, label, folds) atomically; holds 512 images at a time. Returns their number."""
    schema = shard_schema(image_size)
    count = 0
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for chunk in _chunks(rows, ROWS_PER_BATCH):
            writer.write_batch(_record_batch(chunk, schema))
            count += len(chunk)
    return count


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _record_batch(rows: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    ids, images, labels, folds = zip(*rows, strict=True)
    # Contiguous: Arrow takes an array's memory as it lies, and a stack of transposed images lies transposed.
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(np.stack(images))).storage
    image = pa.ExtensionArray.from_storage(schema.field("image").type, tensor)
    columns = [pa.array(ids, pa.string()), image, pa.array(labels, pa.int32()),
               pa.array([list(fold) or None for fold in folds], pa.list_(pa.int16()))]  # fmt: skip
    return pa.record_batch(columns, schema=schema)


class Shard:
    """One memory-mapped shard. `image_NHWC` is made of views into the map: reading a row touches only its pages."""

    def __init__(self, path: Path) -> None:
        self.file = read_batches(path, partial(_check_schema, path), hint="prepare the data again with --overwrite")
        self.image_views = tensor_views(path, self.file.batches, "image")
        self.table = pa.Table.from_batches(self.file.batches, schema=self.file.schema)
        if self.table["id"].null_count:
            raise ArtifactError(f"{path} has images without id")

    def __len__(self) -> int:
        return self.table.num_rows


def _check_schema(path: Path, schema: pa.Schema) -> None:
    image = schema.field("image").type if schema.names == list(COLUMNS) else None
    side = image.shape[0] if isinstance(image, pa.FixedShapeTensorType) and image.shape else 0
    if not side or not schema.equals(shard_schema(side)):
        raise ArtifactError(f"{path} is not a shard of this toolkit: its columns are "
                            + ", ".join(f"{field.name} ({field.type})" for field in schema))  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataSet:
    """A prepared data set that is done and whole."""

    layout: DataLayout
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["summary"]["name"])

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["summary"]["fingerprint"])

    @property
    def image_size(self) -> int:
        return int(self.manifest["summary"]["image_size"])

    @property
    def class_names(self) -> list[str]:
        return list(self.manifest["summary"]["class_names"])

    @property
    def num_images(self) -> dict[str, int]:
        """Images per split."""
        return {name: split["num_images"] for name, split in self.manifest["summary"]["splits"].items()}

    def split(self, name: str) -> Split:
        """Open one split, or several joined by + such as "train+unlabeled".

        Raises:
            ArtifactError: If the data set has no such split, or a byte of it is not the one that was written.

        Cost: reading the files once in a process, and a quarter of a second for each GB.
        """
        files = [self.layout.folder / shard["file"] for shard in self.shards(name)]
        for file in files:
            check_bytes(file, self.manifest)
        shards = [Shard(file) for file in files]
        for file, shard, stated in zip(files, shards, self.shards(name), strict=True):
            self._check_shard(file, shard, stated["num_images"])
        return Split(shards, self.image_size)

    def _check_shard(self, file: Path, shard: Shard, num_images: int) -> None:
        shape = (self.image_size, self.image_size, 3)
        if len(shard) != num_images or any(view.shape[1:] != shape for view in shard.image_views):
            raise ArtifactError(f"{file} does not hold the {num_images} images of {self.image_size} px that "
                                f"{self.layout.manifest} tells of")  # fmt: skip
        extremes = pc.min_max(shard.table["label"]).as_py()
        if extremes["min"] is not None and not 0 <= extremes["min"] <= extremes["max"] < len(self.class_names):
            raise ArtifactError(f"{file} has labels {extremes['min']} to {extremes['max']}, but {self.layout.manifest} tells "
                                f"of {len(self.class_names)} classes")  # fmt: skip

    def shards(self, split: str) -> list[dict[str, Any]]:
        """`file`, `num_images` and `sha256` of every shard of one split, or of several joined by +.

        Raises:
            ArtifactError: If the data set has no such split.
        """
        splits = self.manifest["summary"]["splits"]
        parts = split.split("+")
        if absent := [part for part in parts if part not in splits]:
            raise ArtifactError(f"data set {self.name} has no split '{absent[0]}'; it has {', '.join(splits)}")
        return [shard for part in parts for shard in splits[part]["shards"]]

    def lab(self, split: str) -> Rows | None:
        """The split's images in Lab, (H, W, 3) uint8 code or float16 in 0..1 each; None where none were prepared.

        Raises:
            ArtifactError: If there is no such split, or the Lab images are unfinished, broken or of other images.
        """
        if not self.layout.record(LAB).exists():
            return None
        content = self._computed(LAB, "lab")
        dtype = np.dtype(content["request"]["lab_dtype"])
        return self._tensors(split, LAB, content, "lab", (self.image_size, self.image_size, 3), dtype)

    def target_sets(self) -> dict[str, dict[str, Any]]:
        """The manifest of every finished, whole set of colour targets of these images, by its stem."""
        found = {stem: read_manifest(self.layout.record(stem)) for stem in self.layout.target_stems()}
        return {stem: content for stem, content in found.items()
                if content["status"] == "done" and self._is_parent(content)
                and not missing_outputs(self.layout.record(stem), content)}  # fmt: skip

    def targets(self, split: str, stem: str) -> Rows:
        """One set of colour targets, (2, S, S) int16 each: the bins of both groups of channels.

        Args:
            split: A split, or several joined by +.
            stem: `targets-SPACE-SIZE`.

        Raises:
            ArtifactError: If there is no such split or set, or the set is unfinished, broken or of other images.
        """
        space, _, size = stem.removeprefix(f"{TARGETS}-").rpartition("-")
        if stem not in self.layout.target_stems():
            there = ", ".join(self.target_sets()) or "no colour targets"
            raise ArtifactError(f"data set {self.name} has no {stem}; it has {there}",
                                hint=f"{self._command(space or 'SPACE')} --target-size {size}")  # fmt: skip
        content = self._computed(stem, f"{space} --target-size {size}")
        side = int(content["request"]["target_size"])
        return self._tensors(split, stem, content, "target", (2, side, side), np.dtype(np.int16))

    def _computed(self, stem: str, space: str) -> dict[str, Any]:
        """The manifest of what was computed from the images."""
        path = self.layout.record(stem)
        content = require_done(path, hint=self._command(space))
        if not self._is_parent(content):
            raise ArtifactError(f"{path} was made from other images than those of data set {self.name}",
                                hint=f"{self._command(space)} --overwrite")  # fmt: skip
        return content

    def _command(self, space: str) -> str:
        """The command that adds a colour space; what else was given when the images were made, it needs again."""
        asked = (self.manifest["request"].get("source", "SOURCE"), self.manifest["config"].get("path"))
        return f"pretext prepare-data {' '.join(word for word in asked if word)} --color-space {space}"

    def _is_parent(self, content: dict[str, Any]) -> bool:
        return [parent["fingerprint"] for parent in content["parents"]] == [self.fingerprint]

    def _tensors(self, split: str, stem: str, content: dict[str, Any], column: str, row_shape: tuple[int, ...],
                 dtype: np.dtype) -> Rows:  # fmt: skip
        files = [(self.layout.beside(shard["file"], stem), shard["num_images"]) for shard in self.shards(split)]
        for file, _ in files:
            check_bytes(file, content)
        return open_rows(files, column, row_shape, dtype)


def open_data(layout: DataLayout) -> DataSet:
    """Open a prepared data set.

    Raises:
        ArtifactError: If it is no data set, unfinished, or a shard is missing or of the wrong size.
    """
    manifest = require_done(layout.manifest, hint=f"pretext prepare-data makes {layout.folder.name} whole")
    if manifest["stage"] != "prepare-data":
        raise ArtifactError(f"{layout.folder} is no data set: it is the output of {manifest['stage']}")
    if not _is_summary(manifest["summary"], manifest["outputs"]):
        raise ArtifactError(f"{layout.manifest} is damaged: its section 'summary' is not what this toolkit writes",
                            hint="prepare the data again with --overwrite")  # fmt: skip
    return DataSet(layout, manifest)


def _is_summary(summary: dict[str, Any], outputs: dict[str, Any]) -> bool:
    """Whether a data set's manifest tells what code relies on; shards must be outputs, so none lies elsewhere."""
    try:
        texts = [summary["name"], summary["fingerprint"], *summary["class_names"]]
        counts = [summary["image_size"]]
        for split in summary["splits"].values():
            counts += [split["num_images"], *(shard["num_images"] for shard in split["shards"])]
            if any(shard["file"] not in outputs for shard in split["shards"]):
                return False
    except (KeyError, TypeError, AttributeError):
        return False
    return (isinstance(summary["class_names"], list) and all(isinstance(text, str) for text in texts)
            and all(type(number) is int and 0 <= number < 2**31 for number in counts) and summary["image_size"] > 0)  # fmt: skip


def data_fingerprint(image_size: int, shards: dict[str, list[str]]) -> str:
    """The fingerprint of a data set's content: sizes, splits and the shards' own fingerprints."""
    return content_sha256({"schema": 1, "image_size": image_size, "shards": shards})


class Split:
    """One split, in order, over all its shards; `images` are its rows (H, W, 3) uint8 sRGB."""

    def __init__(self, shards: list[Shard], image_size: int) -> None:
        self._shards = shards
        self.images = Rows([view for shard in shards for view in shard.image_views],
                           (image_size, image_size, 3), np.dtype(np.uint8),
                           [shard.file for shard in shards for _ in shard.image_views])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def facts(self, start: int, stop: int) -> pa.Table:
        """Columns id, label and folds of the images from `start` up to `stop`: views into the memory maps."""
        names = ["id", "label", "folds"]
        own = [shard.table.select(names) for shard in self._shards]
        whole = pa.concat_tables(own) if own else shard_schema(self.images.row_shape[0]).empty_table().select(names)
        return whole.slice(start, stop - start)

    def ids(self) -> list[str]:
        return [value for shard in self._shards for value in shard.table["id"].to_pylist()]

    def labels(self) -> np.ndarray:
        """Labels (N,) int64, -1 for none: only for masks, never for scores."""
        columns = [shard.table["label"].fill_null(-1).to_numpy() for shard in self._shards]
        return np.concatenate(columns).astype(np.int64) if columns else np.empty(0, np.int64)

    def folds(self) -> list[list[int]]:
        """Official folds of each image; empty lists where there are none."""
        return [value or [] for shard in self._shards for value in shard.table["folds"].to_pylist()]
