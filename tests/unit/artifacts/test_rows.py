"""Rows of a tensor column: what goes in comes out, over any number of files, and what is not so is named."""

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretext.artifacts.rows import Rows, open_rows, write_rows
from pretext.errors import ArtifactError


def stored(path, blocks, *, shape=(2, 3, 3), dtype="int16", column="target"):
    with write_rows(path, column, shape, np.dtype(dtype), dims=[str(axis) for axis in range(len(shape))],
                       meaning="numbers", metadata={"made": "here"}) as writer:  # fmt: skip
        for block in blocks:
            writer.write(block)
    return path, sum(len(block) for block in blocks)


def numbers(count, *, shape=(2, 3, 3), dtype="int16", start=0):
    return (start + np.arange(count * int(np.prod(shape)))).astype(dtype).reshape(count, *shape)


class TestRead:
    @pytest.fixture
    def blocks(self):
        return [numbers(count, start=1000 * i) for i, count in enumerate((4, 1, 5, 2))]

    @pytest.fixture
    def rows(self, blocks):
        return Rows(blocks, (2, 3, 3), np.dtype(np.int16))

    def test_what_it_says_of_itself(self, rows):
        assert (len(rows), rows.row_shape, rows.dtype, rows.row_bytes) == (12, (2, 3, 3), np.int16, 36)

    @given(index=st.lists(st.integers(0, 11), max_size=30))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    def test_any_positions_in_any_order(self, rows, blocks, index):
        index_B = np.array(index, dtype=np.int64)
        found = rows.read(index_B)
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, np.concatenate(blocks)[index_B])

    @pytest.mark.parametrize(
        ("start", "stop", "views"),
        [(0, 4, True), (5, 9, True), (4, 5, True), (3, 6, False), (7, 12, False), (6, 6, False)],
    )
    def test_a_run_is_a_view_where_it_lies_in_one_block(self, rows, blocks, start, stop, views):
        found = rows.span(start, stop)
        np.testing.assert_array_equal(found, np.concatenate(blocks)[start:stop])
        assert any(np.shares_memory(found, block) for block in blocks) == views

    @pytest.mark.parametrize(("start", "stop"), [(-1, 2), (10, 13), (12, 13)])
    def test_a_run_that_is_not_there_is_named(self, rows, start, stop):
        with pytest.raises(IndexError, match=rf"0\.\.11, got {start}\.\.{stop - 1}"):
            rows.span(start, stop)

    def test_into_an_array_that_is_given(self, rows, blocks):
        out = np.zeros((2, 2, 3, 3), np.int16)
        assert rows.read(np.array([11, 0]), out) is out
        np.testing.assert_array_equal(out, np.concatenate(blocks)[[11, 0]])

    @pytest.mark.parametrize(("index", "told"), [([0, 12], "0..11, got 0..12"), ([-1, 3], "0..11, got -1..3")])
    def test_a_position_that_is_not_there_is_named(self, rows, index, told):
        with pytest.raises(IndexError, match=told):
            rows.read(np.array(index))

    def test_no_rows_still_have_a_shape(self):
        rows = Rows([], (8, 8, 3), np.dtype(np.float16))
        assert len(rows) == 0
        found = rows.read(np.empty(0, np.int64))
        assert (found.shape, found.dtype) == ((0, 8, 8, 3), np.float16)


class TestFiles:
    def test_a_file_that_is_cut_short_while_it_is_mapped_is_told(self, tmp_path):
        """The system would end the process at the first row behind the file's new end."""
        file = stored(tmp_path / "a.arrow", [numbers(4000)])
        other = stored(tmp_path / "b.arrow", [numbers(3)])
        rows = open_rows([file, other], "target", (2, 3, 3), np.dtype(np.int16))
        size = file[0].stat().st_size
        os.truncate(file[0], 8192)
        told = rf"a\.arrow was cut short while it was in use: it has 8192 of {size} bytes"
        for read in (lambda: rows.read(np.array([3999])), lambda: rows.span(3998, 4000)):
            with pytest.raises(ArtifactError, match=told):
                read()
        np.testing.assert_array_equal(rows.read(np.array([4001])), numbers(3)[1:2])

    def test_a_file_that_is_replaced_or_removed_while_it_is_mapped_is_read_on(self, tmp_path):
        file = stored(tmp_path / "a.arrow", [numbers(4000)])
        rows = open_rows([file], "target", (2, 3, 3), np.dtype(np.int16))
        stored(tmp_path / "a.arrow", [numbers(1, start=7)])
        np.testing.assert_array_equal(rows.read(np.array([3999])), numbers(4000)[3999:])
        file[0].unlink()
        np.testing.assert_array_equal(rows.read(np.array([3998])), numbers(4000)[3998:3999])

    @pytest.mark.parametrize(("dtype", "shape"), [("int16", (2, 5, 5)), ("uint8", (4, 4, 3)), ("float16", (4, 4, 3))])
    def test_what_is_written_is_read_from_the_map(self, tmp_path, dtype, shape):
        blocks = [numbers(count, shape=shape, dtype=dtype) for count in (3, 1)]
        file = stored(tmp_path / "a.arrow", blocks, shape=shape, dtype=dtype)
        other = stored(tmp_path / "b.arrow", blocks[:1], shape=shape, dtype=dtype)
        before = pa.total_allocated_bytes()
        rows = open_rows([file, other], "target", shape, np.dtype(dtype))
        assert pa.total_allocated_bytes() == before, "nothing of a file is copied"
        np.testing.assert_array_equal(rows.read(np.arange(7)), np.concatenate([*blocks, blocks[0]]))

    def test_rows_that_lie_transposed_in_memory_come_out_as_they_look(self, tmp_path):
        block = numbers(4, shape=(3, 3, 2)).transpose(0, 3, 1, 2)
        file = stored(tmp_path / "a.arrow", [block])
        np.testing.assert_array_equal(
            open_rows([file], "target", (2, 3, 3), np.dtype(np.int16)).read(np.arange(4)), block
        )

    def test_a_file_without_rows(self, tmp_path):
        empty, full = stored(tmp_path / "a.arrow", []), stored(tmp_path / "b.arrow", [numbers(2)])
        assert len(open_rows([empty, full, empty], "target", (2, 3, 3), np.dtype(np.int16))) == 2

    def test_its_schema_says_what_the_numbers_are(self, tmp_path):
        stored(tmp_path / "a.arrow", [numbers(1)])
        schema = pa.ipc.open_file(str(tmp_path / "a.arrow")).schema
        assert schema.metadata == {b"pretext.schema": b"1", b"made": b"here"}
        assert schema.field("target").metadata == {b"meaning": b"numbers"}
        assert schema.field("target").type.dim_names == ["0", "1", "2"]

    def test_what_fails_leaves_no_file(self, tmp_path):
        def blocks():
            yield numbers(2)
            raise RuntimeError("images broke")

        with pytest.raises(RuntimeError, match="images broke"):
            stored(tmp_path / "a.arrow", blocks())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("column", "shape", "dtype", "count"),
        [("lab", (2, 3, 3), "int16", 3), ("target", (2, 4, 4), "int16", 3), ("target", (2, 3, 3), "uint8", 3),
         ("target", (2, 3, 3), "int16", 4)],
    )  # fmt: skip
    def test_another_column_shape_dtype_or_number_of_rows_is_refused(self, tmp_path, column, shape, dtype, count):
        path, _ = stored(tmp_path / "a.arrow", [numbers(3)])
        with pytest.raises(
            ArtifactError, match=rf"a\.arrow does not hold {count} rows of {column} .*: it has 3 rows of target"
        ):
            open_rows([(path, count)], column, shape, np.dtype(dtype))

    def test_what_is_no_arrow_file_is_named(self, tmp_path):
        (tmp_path / "a.arrow").write_bytes(b"not arrow at all")
        with pytest.raises(ArtifactError, match=r"a\.arrow can't be read as an Arrow file") as caught:
            open_rows([(tmp_path / "a.arrow", 1)], "target", (2, 3, 3), np.dtype(np.int16))
        assert "--overwrite" in caught.value.hint
