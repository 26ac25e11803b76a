"""Files that lie about themselves: every reader ends in one sentence that names the file, with bounded memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import hostile_readers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_counts import FACTOR, count
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pretext.artifacts.arrow_file import read_batches
from pretext.artifacts.features import read_feature_header, read_split
from pretext.artifacts.parts import part_at
from pretext.artifacts.shards import Shard, open_data, shard_schema
from pretext.artifacts.tables import FREE_BYTES, read_table
from pretext.errors import ArtifactError, PretextError

SUITE = "hostile files"
CHILD = """
import random, sys
from pathlib import Path
import hostile_readers
from hostile_bytes import harmed
from pretext.errors import PretextError

tries, files = int(sys.argv[1]), hostile_readers.whole_files(Path(sys.argv[2]))
for name in hostile_readers.READERS:
    whole = files[name].read_bytes()
    for number in range(tries):
        print(name, number, flush=True)
        files[name].write_bytes(harmed(name, whole, random.Random(number)))
        try:
            hostile_readers.read_as(name, files[name])
        except PretextError:
            pass
    files[name].write_bytes(whole)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        return {name: path.read_bytes() for name, path in
                hostile_readers.whole_files(tmp_path_factory.mktemp("whole")).items()}  # fmt: skip


def _refused(read, path: Path, match: str | None = None) -> str:
    """The reader's one sentence."""
    with pytest.raises(ArtifactError, match=match) as caught:
        read(path)
    assert path.name in caught.value.message
    assert len(caught.value.message) < 4000
    count(SUITE, 1, 1, inputs=1)
    return caught.value.message


def test_harmed_files_never_end_the_interpreter(tmp_path):
    tries = 400 * FACTOR
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", CHILD, str(tries), str(tmp_path)], capture_output=True, text=True,
                          env=environment, timeout=120 + tries / 10, check=False)  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}: {done.stderr[-2000:]}"
    assert len(lines) == tries * len(hostile_readers.READERS)
    count(SUITE, len(lines), len(lines), inputs=len(lines))


@pytest.mark.parametrize("name", list(hostile_readers.READERS))
def test_any_bytes_are_refused_or_read(tmp_path, whole, name):
    files = {other: tmp_path / file for other, file in hostile_readers.FILES.items()}
    for other, path in files.items():
        path.write_bytes(whole[other])

    # bytes of hypothesis at a place of its choice: those of the whole file around them are read as before
    @seed(0)
    @settings(max_examples=60 * FACTOR, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def search(data):
        place = data.draw(st.integers(0, len(whole[name])))
        new = data.draw(st.binary(max_size=16))
        files[name].write_bytes(
            whole[name][:place] + new + whole[name][place + data.draw(st.sampled_from([0, len(new)])) :]
        )
        try:
            hostile_readers.read_as(name, files[name])
        except PretextError:
            pass
        count(SUITE, 1, 1, inputs=1)

    search()


class TestArrow:
    def _write(self, path, schema, batches, **options):
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as to,
        ):
            for batch in batches:
                to.write_batch(batch)

    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    def test_a_compressed_bomb_is_refused_unread(self, tmp_path, codec):
        path = tmp_path / "x.arrow"
        batch = pa.record_batch({"x": np.zeros(32 << 20, np.uint8)})
        self._write(path, batch.schema, [batch], compression=codec)
        assert path.stat().st_size < 1 << 18
        before = pa.total_allocated_bytes()
        _refused(lambda p: read_batches(p, lambda schema: None), path, "it is compressed")
        assert pa.total_allocated_bytes() - before < 1 << 20

    def test_dictionaries_are_refused(self, tmp_path):
        path = tmp_path / "x.arrow"
        batch = pa.record_batch({"x": pa.array(["a" * 1000] * 5).dictionary_encode()})
        self._write(path, batch.schema, [batch])
        _refused(lambda p: read_batches(p, lambda schema: None), path, "it has dictionaries")

    def test_a_footer_of_any_length(self, tmp_path, whole):
        path = tmp_path / "x.arrow"
        for length in (-1, 0, 1, 8, len(whole["shard"]), 2**31 - 1, -(2**31)):
            path.write_bytes(whole["shard"][:-10] + struct.pack("<i", length) + b"ARROW1")
            _refused(Shard, path)

    @pytest.mark.parametrize(
        "shape", ["[-1, 8, 3]", "[4611686018427387904, 2, 3]", "[]", "[0, 8, 3]", "5", '["a"]', "[" * 5000]
    )
    def test_tensor_shapes_that_lie(self, tmp_path, whole, shape):
        side = hostile_readers.SIZE
        old = f'"shape":[{side},{side},3]'.encode()
        assert old in whole["shard"]
        schema = shard_schema(side)
        field = pa.field("image", pa.list_(pa.uint8(), 192), metadata={
            "ARROW:extension:name": "arrow.fixed_shape_tensor", "ARROW:extension:metadata": f'{{"shape":{shape}}}'})  # fmt: skip
        columns = [
            pa.array(["a"]),
            pa.array([[0] * 192], field.type),
            pa.array([0], pa.int32()),
            pa.array([None], pa.list_(pa.int16())),
        ]
        lied = pa.schema([schema.field("id"), field, schema.field("label"), schema.field("folds")], schema.metadata)
        self._write(tmp_path / "x.arrow", lied, [pa.record_batch(columns, schema=lied)])
        _refused(Shard, tmp_path / "x.arrow")

    @pytest.mark.parametrize("column", ["id", "image", "numbers"])
    def test_rows_without_a_value(self, tmp_path, column):
        schema = shard_schema(8)
        values = pa.array([None if column == "numbers" else 0] + [0] * 383, pa.uint8())
        mask = pa.array([column == "image", False])
        storage = pa.FixedSizeListArray.from_arrays(values, 192, mask=mask)
        ids = pa.array([None if column == "id" else "a", "b"], pa.string())
        batch = pa.record_batch([ids, pa.ExtensionArray.from_storage(schema.field("image").type, storage),
                                 pa.nulls(2, pa.int32()), pa.nulls(2, pa.list_(pa.int16()))], schema=schema)  # fmt: skip
        self._write(tmp_path / "x.arrow", schema, [batch])
        _refused(Shard, tmp_path / "x.arrow", "without i")


class TestParquet:
    def test_a_bomb_of_equal_numbers_is_refused_before_it_grows(self, tmp_path):
        path, rows = tmp_path / "bomb.parquet", 1 << 22
        block = pa.table({"x": pa.array(np.zeros(rows, np.int64))})
        with pq.ParquetWriter(path, block.schema, compression="zstd") as writer:
            for _ in range(2 * FREE_BYTES // (8 * rows)):
                writer.write_table(block, row_group_size=rows)
        assert path.stat().st_size < 1 << 20
        before = pa.total_allocated_bytes()
        _refused(read_table, path, "too many to be believed")
        assert pa.total_allocated_bytes() - before < 1 << 20

    def test_a_bomb_of_one_long_word_is_refused_before_it_grows(self, tmp_path):
        path, word, rows = tmp_path / "bomb.parquet", "x" * (1 << 16), (FREE_BYTES >> 16) + 1
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([word]))
        pq.write_table(pa.table({"id": column.dictionary_decode() if rows < 10 else column}), path, compression="none",
                       store_schema=False)  # fmt: skip
        assert path.stat().st_size < 1 << 20
        _refused(read_table, path, "too many to be believed")

    def test_broken_levels_do_not_end_the_interpreter(self, tmp_path, whole):
        # A column's field says "required" for "optional": pyarrow's own ColumnChunkMetaData aborts the process over it.
        path, levels = tmp_path / "features.parquet", b"\x15\x02%\x02\x18\x07element"
        assert levels in whole["features"]
        path.write_bytes(whole["features"].replace(levels, levels.replace(b"%\x02", b"%\x00")))
        _refused(lambda p: read_split(p, "train"), path)
        assert part_at(path, 0, 10**6) == ""
        count(SUITE, 1, 1, inputs=1)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_features_that_are_not_finite(self, tmp_path, value):
        from pretext.artifacts.features import write_features

        path = tmp_path / "features.parquet"
        write_features(path, {"data": {"name": "d", "fingerprint": "x"}}, 2, [
            ("train", ["a", "b"], np.zeros(2, np.int64), [(), ()], np.array([[0, 1], [value, 0]], np.float32))])  # fmt: skip
        _refused(lambda p: read_split(p, "train"), path, "not finite")

    @pytest.mark.parametrize("header", [b"{", b"\xff", b"[]", b"5", b'{"data": 5}', b'{"data": {"name": 5}}', b'{"encoder": []}',
                                        b'{"a": NaN}', b"[" * 10**5])  # fmt: skip
    def test_feature_headers_of_wrong_types(self, tmp_path, whole, header):
        path = tmp_path / "features.parquet"
        path.write_bytes(whole["features"])
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({b"pretext": header}), path)
        _refused(read_feature_header, path)

    @pytest.mark.parametrize(
        "feature",
        [
            pa.array([[1.0]]),
            pa.array([1.0]),
            pa.array([[1.0]], pa.list_(pa.float64(), 1)),
            pa.array(["x"]),
            pa.array([None]),
        ],
    )
    def test_features_of_other_types(self, tmp_path, feature):
        path = tmp_path / "features.parquet"
        columns = {
            "id": ["a"],
            "split": ["train"],
            "label": pa.array([0], pa.int32()),
            "folds": pa.array([[0]], pa.list_(pa.int16())),
        }
        pq.write_table(pa.table(columns | {"feature": feature}).replace_schema_metadata({b"pretext": b"{}"}), path)
        _refused(read_feature_header, path, "is not a feature file of this toolkit: its columns are")
        _refused(lambda p: read_split(p, "train"), path, "is not a feature file of this toolkit")


def test_a_data_set_can_not_name_shards_elsewhere_or_of_wrong_types(tmp_path, whole):
    from pretext.artifacts.layout import DataLayout
    from pretext.artifacts.manifest import Record

    layout = DataLayout(tmp_path / "data" / "d")
    file = layout.shard("train", 0, 1)
    file.parent.mkdir(parents=True)
    file.write_bytes(whole["shard"])
    (tmp_path / "secret.arrow").write_bytes(whole["shard"])
    shard = {"file": file.name, "num_images": 4, "sha256": "x"}
    good = {"name": "d", "fingerprint": "f", "image_size": hostile_readers.SIZE, "class_names": ["a", "b", "c"],
            "splits": {"train": {"num_images": 4, "shards": [shard]}}}  # fmt: skip

    def opened(**changes):
        layout.manifest.unlink(missing_ok=True)
        record = Record(layout.manifest, "prepare-data", {})
        record.begin({}, seed=0)
        record.finish([file], summary=good | changes)
        return open_data(layout)

    assert opened().split("train").ids() == [f"train/{i}" for i in range(4)]
    wrong = [{"image_size": "16"}, {"image_size": -1}, {"image_size": 10**30}, {"class_names": 3}, {"class_names": [1]},
             {"splits": []}, {"splits": {"train": 5}}, {"splits": {"train": {"num_images": 4, "shards": 7}}}, {"name": None}]  # fmt: skip
    wrong += [{"splits": {"train": {"num_images": 4, "shards": [shard | change]}}} for change in
              ({"file": "../secret.arrow"}, {"file": str(tmp_path / "secret.arrow")}, {"file": 5}, {"num_images": "4"})]  # fmt: skip
    for changes in wrong:
        with pytest.raises(ArtifactError, match=r"manifest\.json is damaged: its section 'summary'"):
            opened(**changes)
    for changes, match in (({"class_names": ["a"]}, "has labels 0 to 2"), ({"image_size": 8}, "does not hold the 4 images of 8 px"),
                           ({"splits": {"train": {"num_images": 9, "shards": [shard | {"num_images": 9}]}}}, "the 9 images")):  # fmt: skip
        with pytest.raises(ArtifactError, match=match):
            opened(**changes).split("train")
    count(SUITE, len(wrong) + 3, len(wrong) + 3, inputs=len(wrong) + 3)
