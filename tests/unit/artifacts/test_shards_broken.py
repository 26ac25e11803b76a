"""Shards that are cut, harmed, or another program's."""

import numpy as np
import pyarrow as pa
import pytest

from pretext.artifacts.shards import Shard, shard_schema, write_shard
from pretext.errors import ArtifactError

SIZE = 8


def test_missing(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.arrow can't be read as an Arrow file") as caught:
        Shard(tmp_path / "none.arrow")
    assert "prepare the data again" in caught.value.hint


def test_truncated_anywhere(tmp_path, make_rows):
    write_shard(tmp_path / "train.arrow", make_rows(3), image_size=SIZE)
    whole = (tmp_path / "train.arrow").read_bytes()
    for size in range(0, len(whole), 41):
        (tmp_path / "cut.arrow").write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=r"cut\.arrow can't be read as an Arrow file"):
            Shard(tmp_path / "cut.arrow")


def test_changed_bytes_are_refused_or_read_never_a_crash(tmp_path, make_rows):
    write_shard(tmp_path / "train.arrow", make_rows(3), image_size=SIZE)
    whole = (tmp_path / "train.arrow").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for position in generator.choice(len(whole), 300):
        harmed = bytearray(whole)
        harmed[position] ^= generator.integers(1, 256)
        (tmp_path / "harmed.arrow").write_bytes(harmed)
        try:
            assert Shard(tmp_path / "harmed.arrow").table.num_rows <= 3
        except ArtifactError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"x": [1]}), r"x \(int64\)"),
        (pa.table({"id": ["a"], "image": [1], "label": [0], "folds": [[0]], "more": [1]}), r"more \(int64\)"),
        (pa.table({"id": ["a"], "image": [[1, 2]], "label": [0], "folds": [[0]]}), r"image \(list<"),
        (pa.table({}), "its columns are $"),
    ],
)
def test_another_programs_arrow_file_is_told_with_its_columns(tmp_path, table, said):
    path = tmp_path / "foreign.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ArtifactError, match=rf"foreign\.arrow is not a shard of this toolkit: .*{said}"):
        Shard(path)


def test_images_of_another_type_are_refused(tmp_path):
    image = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, SIZE, SIZE, 3), np.float32))
    schema = pa.schema([shard_schema(SIZE).field("id"), pa.field("image", image.type), *list(shard_schema(SIZE))[2:]])
    path = tmp_path / "float.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([["a", "b"], image, pa.nulls(2, pa.int32()),
                                            pa.nulls(2, pa.list_(pa.int16()))], schema=schema))  # fmt: skip
    with pytest.raises(ArtifactError, match="is not a shard of this toolkit"):
        Shard(path)


def test_an_image_that_does_not_fit_the_schema_is_refused_when_written(tmp_path, make_rows):
    with pytest.raises(TypeError, match=r"[Ii]ncompatible storage type"):
        write_shard(tmp_path / "x.arrow", make_rows(2, size=9), image_size=8)
    assert list(tmp_path.iterdir()) == []
