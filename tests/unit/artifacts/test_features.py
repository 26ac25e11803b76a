"""Features in Parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretext.artifacts.features import assemble_features, read_feature_header, read_split, write_features
from pretext.errors import ArtifactError

HEADER = {"checkpoint": "sha256:c", "data": {"name": "noise", "fingerprint": "sha256:d"}, "seed": None}
WIDTH = 3


def make_chunks(sizes=(("train", 5), ("train", 2), ("test", 4))):
    generator = np.random.default_rng(0)
    chunks, start = [], 0
    for split, count in sizes:
        number_N = np.arange(start, start + count)
        label_N = np.where(number_N % 4 == 3, -1, number_N % 10)
        folds = [[0, int(number) % 5] if number % 2 else [] for number in number_N]
        feature_ND = generator.standard_normal((count, WIDTH)).astype(np.float32)
        chunks.append((split, [f"{split}/{number}" for number in number_N], label_N, folds, feature_ND))
        start += count
    return chunks


@pytest.fixture
def path(tmp_path):
    assert write_features(tmp_path / "features.parquet", HEADER, WIDTH, iter(make_chunks())) == 11
    return tmp_path / "features.parquet"


class TestRoundTrip:
    def test_each_split_comes_back(self, path):
        for name, parts in (("train", make_chunks()[:2]), ("test", make_chunks()[2:])):
            found = read_split(path, name)
            assert found.ids == [value for part in parts for value in part[1]]
            assert found.label_N.dtype == np.int64
            np.testing.assert_array_equal(found.label_N, np.concatenate([part[2] for part in parts]))
            assert found.folds == [value for part in parts for value in part[3]]
            assert found.feature_ND.dtype == np.float32
            np.testing.assert_array_equal(found.feature_ND, np.concatenate([part[4] for part in parts]))

    def test_absent_labels_and_folds_are_null_in_the_file(self, path):
        table = pq.read_table(path)
        assert table["label"].to_pylist() == [0, 1, 2, None, 4, 5, 6, None, 8, 9, 0]
        assert table["folds"].to_pylist()[:2] == [None, [0, 1]]
        assert table.schema.field("feature").type == pa.list_(pa.float32(), WIDTH)

    def test_splits_that_lie_in_turns_are_gathered_in_order(self, tmp_path):
        write_features(tmp_path / "x.parquet", HEADER, WIDTH, make_chunks([("a", 3), ("b", 2), ("a", 1), ("b", 4)]))
        assert read_split(tmp_path / "x.parquet", "a").ids == ["a/0", "a/1", "a/2", "a/5"]
        assert read_split(tmp_path / "x.parquet", "b").ids == ["b/3", "b/4", "b/6", "b/7", "b/8", "b/9"]

    def test_a_split_that_is_not_there_is_none(self, path):
        assert read_split(path, "unlabeled") is None

    def test_other_float_types_become_float32(self, tmp_path):
        (split, ids, label_N, folds, feature_ND), *_ = make_chunks()
        write_features(
            tmp_path / "x.parquet", {}, WIDTH, [(split, ids, label_N, folds, np.asfortranarray(feature_ND, np.float64))]
        )
        np.testing.assert_array_equal(read_split(tmp_path / "x.parquet", "train").feature_ND, feature_ND)

    def test_the_header(self, path):
        assert read_feature_header(path) == {"schema": 1, **HEADER}

    def test_no_rows_at_all(self, tmp_path):
        assert write_features(tmp_path / "x.parquet", HEADER, WIDTH, []) == 0
        assert read_split(tmp_path / "x.parquet", "train") is None
        assert read_feature_header(tmp_path / "x.parquet")["seed"] is None

    def test_a_chunk_that_fails_leaves_no_file(self, tmp_path):
        def chunks():
            yield make_chunks()[0]
            raise RuntimeError("encoder broke")

        with pytest.raises(RuntimeError, match="encoder broke"):
            write_features(tmp_path / "x.parquet", HEADER, WIDTH, chunks())
        assert list(tmp_path.iterdir()) == []


class TestAssembly:
    def test_parts_joined_equal_the_file_made_in_one_go(self, path, tmp_path):
        parts = []
        for number, chunk in enumerate(make_chunks()):
            parts.append(tmp_path / f"part-{number}.parquet")
            write_features(parts[-1], {"part": number}, WIDTH, [chunk])
        assert assemble_features(tmp_path / "joined.parquet", parts, HEADER, WIDTH) == 11
        assert pq.read_table(tmp_path / "joined.parquet").equals(pq.read_table(path), check_metadata=True)
        assert read_feature_header(tmp_path / "joined.parquet") == read_feature_header(path)
        assert (tmp_path / "joined.parquet").read_bytes() == path.read_bytes()

    def test_no_parts(self, tmp_path):
        assert assemble_features(tmp_path / "joined.parquet", [], HEADER, WIDTH) == 0

    def test_parts_of_another_width_are_refused(self, tmp_path):
        write_features(tmp_path / "part.parquet", {}, WIDTH, make_chunks()[:1])
        with pytest.raises(ValueError, match="schema does not match"):
            assemble_features(tmp_path / "joined.parquet", [tmp_path / "part.parquet"], HEADER, WIDTH + 1)
        assert not (tmp_path / "joined.parquet").exists()


class TestBrokenFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"none\.parquet does not exist") as caught:
            read_feature_header(tmp_path / "none.parquet")
        assert caught.value.hint == "pretext extract-features makes it"
        with pytest.raises(ArtifactError, match=r"none\.parquet does not exist"):
            read_split(tmp_path / "none.parquet", "train")

    @pytest.mark.parametrize("content", [b"", b"garbage that is longer than a footer"])
    def test_garbage(self, tmp_path, content):
        (tmp_path / "x.parquet").write_bytes(content)
        for read in (read_feature_header, lambda path: read_split(path, "train")):
            with pytest.raises(ArtifactError, match=r"x\.parquet can't be read as Parquet: "):
                read(tmp_path / "x.parquet")

    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(ArtifactError, match=r"features\.parquet can't be read as Parquet: "):
            read_feature_header(path)

    def test_a_hole_inside_is_told_when_it_is_read(self, path):
        content = bytearray(path.read_bytes())
        content[4:60] = bytes(56)
        path.write_bytes(content)
        assert read_feature_header(path)["seed"] is None, "the footer is whole"
        with pytest.raises(ArtifactError, match=r"features\.parquet can't be read as Parquet: "):
            read_split(path, "train")

    def test_another_programs_table(self, tmp_path):
        pq.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "x.parquet")
        with pytest.raises(
            ArtifactError, match=r"x\.parquet is not a feature file of this toolkit: its columns are x, y"
        ):
            read_feature_header(tmp_path / "x.parquet")

    def test_the_right_columns_without_the_header(self, path, tmp_path):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), tmp_path / "x.parquet")
        with pytest.raises(ArtifactError, match="is not a feature file of this toolkit"):
            read_feature_header(tmp_path / "x.parquet")
