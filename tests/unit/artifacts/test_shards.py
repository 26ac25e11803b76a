"""Images in Arrow files: what goes in comes out, read from the map without a copy."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretext.artifacts import shards as module
from pretext.artifacts.shards import DataSet, Shard, Split, data_fingerprint, open_data, shard_schema, write_shard
from pretext.errors import ArtifactError

SIZE = 8


def stored(tmp_path, rows, *, size=SIZE, name="train.arrow"):
    assert write_shard(tmp_path / name, rows, image_size=size) == len(rows)
    return Split([Shard(tmp_path / name)], size)


def images_of(rows):
    return np.stack([row[1] for row in rows])


class TestRoundTrip:
    @given(
        seed=st.integers(0, 2**32 - 1),
        size=st.integers(1, 9),
        facts=st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                st.none() | st.integers(0, 2**31 - 1),
                st.lists(st.integers(0, 2**15 - 1), max_size=4),
            ),
            max_size=12,
        ),
        chunk=st.integers(1, 5),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    def test_any_rows(self, tmp_path, monkeypatch, seed, size, facts, chunk):
        monkeypatch.setattr(module, "ROWS_PER_BATCH", chunk)
        image = np.random.default_rng(seed).integers(0, 256, (len(facts), size, size, 3), dtype=np.uint8)
        rows = [(name, image[i], label, folds) for i, (name, label, folds) in enumerate(facts)]
        split = stored(tmp_path, rows, size=size)
        assert len(split) == len(rows)
        assert split.ids() == [row[0] for row in rows]
        assert split.labels().tolist() == [-1 if row[2] is None else row[2] for row in rows]
        assert split.folds() == [row[3] for row in rows]
        np.testing.assert_array_equal(split.images.read(np.arange(len(rows))), image)

    def test_rows_keep_their_order_over_batches_and_equal_rows_give_equal_bytes(self, tmp_path, make_rows):
        rows = make_rows(1030)
        split = stored(tmp_path, rows)
        assert [len(view) for view in Shard(tmp_path / "train.arrow").image_views] == [512, 512, 6]
        assert split.ids() == [row[0] for row in rows]
        np.testing.assert_array_equal(split.images.read(np.arange(1030)), images_of(rows))
        stored(tmp_path, rows, name="again.arrow")
        assert (tmp_path / "again.arrow").read_bytes() == (tmp_path / "train.arrow").read_bytes()

    @pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (0, 2, 1)])
    def test_images_that_lie_transposed_in_memory_come_out_as_they_look(self, tmp_path, order):
        generator = np.random.default_rng(0)
        shape = np.empty(3, int)
        shape[list(order)] = SIZE, SIZE, 3
        rows = []
        for i in range(4):
            lying = generator.integers(0, 256, [[SIZE, SIZE, 3][axis] for axis in np.argsort(order)], dtype=np.uint8)
            rows.append((str(i), lying.transpose(order), i, ()))
        assert rows[0][1].shape == (SIZE, SIZE, 3)
        assert not rows[0][1].flags.c_contiguous
        split = stored(tmp_path, rows)
        np.testing.assert_array_equal(split.images.read(np.arange(4)), images_of(rows))

    def test_rows_are_streamed(self, tmp_path, make_rows, monkeypatch):
        monkeypatch.setattr(module, "ROWS_PER_BATCH", 4)
        alive, most = [0], [0]

        class Counted(np.ndarray):
            def __del__(self):
                alive[0] -= 1

        def rows():
            for name, image, label, folds in make_rows(40):
                counted = image.view(Counted)
                alive[0] += 1
                most[0] = max(most[0], alive[0])
                yield name, counted, label, folds

        assert write_shard(tmp_path / "x.arrow", rows(), image_size=SIZE) == 40
        assert most[0] < 12, "a shard must not be held in memory whole"

    def test_an_empty_shard(self, tmp_path):
        split = stored(tmp_path, [])
        assert len(split) == 0
        assert split.ids() == split.folds() == []
        assert split.labels().shape == (0,)
        assert split.images.read(np.arange(0)).shape == (0, SIZE, SIZE, 3)

    def test_a_row_that_fails_leaves_no_file(self, tmp_path, make_rows):
        def rows():
            yield from make_rows(3)
            raise RuntimeError("source broke")

        with pytest.raises(RuntimeError, match="source broke"):
            write_shard(tmp_path / "x.arrow", rows(), image_size=SIZE)
        assert list(tmp_path.iterdir()) == []

    def test_the_schema_says_what_each_column_means(self):
        schema = shard_schema(SIZE)
        assert schema.names == ["id", "image", "label", "folds"]
        assert schema.metadata == {b"pretext.schema": b"1", b"color": b"sRGB"}
        assert all(field.metadata[b"meaning"] for field in schema)
        assert schema.field("image").type.shape == [SIZE, SIZE, 3]


class TestMemoryMap:
    def test_images_are_views_into_the_map(self, tmp_path, make_rows):
        rows = make_rows(20)
        stored(tmp_path, rows)
        before = pa.total_allocated_bytes()
        shard = Shard(tmp_path / "train.arrow")
        assert pa.total_allocated_bytes() == before, "nothing of the file is copied"
        (view,) = shard.image_views
        assert view.shape == (20, SIZE, SIZE, 3)
        assert not view.flags.owndata
        assert not view.flags.writeable
        np.testing.assert_array_equal(view, images_of(rows))

    def test_views_outlive_their_shard(self, tmp_path, make_rows):
        rows = make_rows(5)
        stored(tmp_path, rows)
        (view,) = Shard(tmp_path / "train.arrow").image_views
        (tmp_path / "train.arrow").unlink()
        np.testing.assert_array_equal(view, images_of(rows))


class TestReadImages:
    @pytest.fixture
    def split(self, tmp_path, make_rows, monkeypatch):
        """Shards of 7, 0, 1 and 10 images, in batches of at most 4."""
        monkeypatch.setattr(module, "ROWS_PER_BATCH", 4)
        start, shards = 0, []
        for number, count in enumerate((7, 0, 1, 10)):
            path = tmp_path / f"{number}.arrow"
            write_shard(path, make_rows(count, start=start, seed=number), image_size=SIZE)
            shards.append(Shard(path))
            start += count
        return Split(shards, SIZE)

    @pytest.fixture
    def image_NHWC(self, make_rows):
        return np.concatenate([images_of(make_rows(count, seed=number)) for number, count in ((0, 7), (2, 1), (3, 10))])

    def test_all_in_order(self, split, image_NHWC):
        assert len(split) == 18
        assert split.ids() == [f"train/{i}" for i in range(18)]
        np.testing.assert_array_equal(split.images.read(np.arange(18)), image_NHWC)

    @given(index=st.lists(st.integers(0, 17), max_size=40))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    def test_any_positions_in_any_order_also_repeated(self, split, image_NHWC, index):
        index_B = np.array(index, dtype=np.int64)
        np.testing.assert_array_equal(split.images.read(index_B), image_NHWC[index_B])

    def test_into_an_array_that_is_given(self, split, image_NHWC):
        out = np.zeros((3, SIZE, SIZE, 3), np.uint8)
        index_B = np.array([17, 3, 7])
        assert split.images.read(index_B, out) is out
        np.testing.assert_array_equal(out, image_NHWC[index_B])

    def test_what_is_read_is_a_copy(self, split, image_NHWC):
        image = split.images.read(np.array([0]))
        image[:] = 0
        np.testing.assert_array_equal(split.images.read(np.array([0])), image_NHWC[:1])

    def test_a_position_that_is_not_there(self, split):
        with pytest.raises(IndexError):
            split.images.read(np.array([18]))


class TestDataSet:
    def test_what_it_says_of_itself(self, prepared):
        data = open_data(prepared())
        assert isinstance(data, DataSet)
        assert (data.name, data.fingerprint, data.image_size) == ("noise", "sha256:f", SIZE)
        assert data.class_names == ["a", "b", "c", "d", "e"]
        assert data.num_images == {"train": 7, "test": 2, "unlabeled": 5}

    def test_a_split_runs_over_its_shards_in_order(self, prepared):
        data = open_data(prepared())
        assert data.split("train").ids() == [f"train/{i}" for i in range(7)]
        assert data.split("test").ids() == ["train/7", "train/8"]

    def test_splits_can_be_joined(self, prepared):
        data = open_data(prepared())
        joined = data.split("train+unlabeled")
        assert joined.ids() == data.split("train").ids() + data.split("unlabeled").ids()
        np.testing.assert_array_equal(
            joined.images.read(np.array([8])), data.split("unlabeled").images.read(np.array([1]))
        )

    @pytest.mark.parametrize("name", ["val", "train+val", "train+", ""])
    def test_a_split_that_is_not_there_is_told_with_those_there_are(self, prepared, name):
        data = open_data(prepared())
        missing = name.split("+")[-1]
        with pytest.raises(
            ArtifactError, match=f"data set noise has no split '{missing}'; it has train, test, unlabeled"
        ):
            data.split(name)

    def test_unfinished_data_is_refused(self, prepared):
        layout = prepared()
        layout.manifest.write_text(json.dumps(json.loads(layout.manifest.read_text()) | {"status": "running"}))
        with pytest.raises(ArtifactError, match="the prepare-data is not finished") as caught:
            open_data(layout)
        assert caught.value.hint == "pretext prepare-data makes noise whole"

    def test_a_lost_shard_is_named(self, prepared):
        layout = prepared()
        layout.shard("train", 1, 2).unlink()
        with pytest.raises(ArtifactError, match=r"noise/train-00001-of-00002\.arrow is missing"):
            open_data(layout)

    def test_a_run_is_no_data_set(self, prepared):
        layout = prepared(stage="pretrain")
        with pytest.raises(ArtifactError, match="noise is no data set: it is the output of pretrain"):
            open_data(layout)


def test_the_fingerprint_of_data_depends_on_size_splits_and_content():
    base = data_fingerprint(32, {"train": ["a", "b"], "test": ["c"]})
    assert base == data_fingerprint(32, {"test": ["c"], "train": ["a", "b"]})
    others = [
        data_fingerprint(64, {"train": ["a", "b"], "test": ["c"]}),
        data_fingerprint(32, {"train": ["b", "a"], "test": ["c"]}),
        data_fingerprint(32, {"train": ["a"], "test": ["b", "c"]}),
    ]
    assert base not in others
