"""Results and per-image predictions."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretext.artifacts.layout import DataLayout
from pretext.artifacts.results import (
    REQUIRED,
    Predictions,
    describe_run,
    read_predictions,
    read_result,
    write_few_label_sets,
    write_predictions,
    write_result,
)
from pretext.artifacts.shards import DataSet
from pretext.errors import ArtifactError

RESULT = dict.fromkeys(REQUIRED) | {"kind": "probe-linear", "mean": {"top1": 0.1 + 0.2}, "notes": []}


class TestResult:
    def test_round_trip(self, tmp_path):
        write_result(tmp_path / "probe-linear.json", RESULT)
        assert read_result(tmp_path / "probe-linear.json") == {"schema": 1, **RESULT}

    @pytest.mark.parametrize("name", REQUIRED)
    def test_a_missing_section_is_our_bug_when_written(self, tmp_path, name):
        with pytest.raises(AssertionError, match=rf"result lacks \['{name}'\]"):
            write_result(tmp_path / "x.json", {key: value for key, value in RESULT.items() if key != name})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", REQUIRED)
    def test_a_missing_section_is_told_when_read(self, tmp_path, name):
        content = {"schema": 1, **{key: value for key, value in RESULT.items() if key != name}}
        (tmp_path / "x.json").write_text(json.dumps(content))
        with pytest.raises(ArtifactError, match=rf"x\.json is not a result of schema 1: it lacks \['{name}'\]"):
            read_result(tmp_path / "x.json")

    @pytest.mark.parametrize("schema", [2, None, "1"])
    def test_another_schema_is_told(self, tmp_path, schema):
        (tmp_path / "x.json").write_text(json.dumps(RESULT | {"schema": schema}))
        with pytest.raises(ArtifactError, match=r"x\.json is not a result of schema 1$"):
            read_result(tmp_path / "x.json")

    @pytest.mark.parametrize("text", ["[]", "null", '"x"', "{}"])
    def test_other_json_is_told(self, tmp_path, text):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"x\.json is not a result of schema 1: it lacks \['kind', 'protocol'"):
            read_result(tmp_path / "x.json")

    def test_no_json_is_told(self, tmp_path):
        (tmp_path / "x.json").write_text("{")
        with pytest.raises(ArtifactError, match=r"x\.json is not valid JSON"):
            read_result(tmp_path / "x.json")


class TestPredictions:
    def make(self):
        generator = np.random.default_rng(0)
        prob_NK = generator.dirichlet(np.ones(4), 6)
        rank_NF = generator.integers(-1, 4, (6, 3))
        return Predictions([f"test/{i}" for i in range(6)], np.arange(6) % 4, prob_NK, rank_NF)

    def test_round_trip(self, tmp_path):
        want = self.make()
        write_predictions(tmp_path / "p.parquet", want)
        found = read_predictions(tmp_path / "p.parquet")
        assert list(found.ids) == list(want.ids)
        np.testing.assert_array_equal(found.label_N, want.label_N)
        np.testing.assert_array_equal(found.prob_NK, want.prob_NK.astype(np.float32))
        np.testing.assert_array_equal(found.rank_NF, want.rank_NF)
        assert (found.prob_NK.dtype, found.rank_NF.dtype) == (np.float32, np.int16)

    def test_arrays_that_lie_transposed_come_out_as_they_look(self, tmp_path):
        want = self.make()
        lying = Predictions(want.ids, want.label_N, np.asfortranarray(want.prob_NK), np.asfortranarray(want.rank_NF))
        write_predictions(tmp_path / "p.parquet", lying)
        np.testing.assert_array_equal(read_predictions(tmp_path / "p.parquet").rank_NF, want.rank_NF)
        np.testing.assert_array_equal(read_predictions(tmp_path / "p.parquet").prob_NK, want.prob_NK.astype(np.float32))

    def test_missing(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"p\.parquet does not exist"):
            read_predictions(tmp_path / "p.parquet")

    def test_garbage(self, tmp_path):
        (tmp_path / "p.parquet").write_bytes(b"garbage that is longer than a footer")
        with pytest.raises(ArtifactError, match=r"p\.parquet can't be read as Parquet"):
            read_predictions(tmp_path / "p.parquet")

    def test_other_columns(self, tmp_path):
        pq.write_table(pa.table({"id": ["a"], "score": [1.0]}), tmp_path / "p.parquet")
        with pytest.raises(ArtifactError, match=r"p\.parquet is not a predictions file: its columns are id, score"):
            read_predictions(tmp_path / "p.parquet")

    def test_few_label_sets(self, tmp_path):
        write_few_label_sets(tmp_path / "f.parquet", [(1, 0, "train/3"), (1, 1, "train/5"), (4, 0, "train/3")])
        assert pq.read_table(tmp_path / "f.parquet").to_pydict() == {
            "labels_per_class": [1, 1, 4], "draw": [0, 1, 0], "id": ["train/3", "train/5", "train/3"],
        }  # fmt: skip


class TestDescribeRun:
    DATA = DataSet(DataLayout(Path("data/noise")), {"summary": {
        "name": "noise", "fingerprint": "sha256:f", "image_size": 8, "class_names": ["a", "b"],
        "splits": {"train": {"num_images": 7, "shards": []}, "unlabeled": {"num_images": 9, "shards": []}},
    }})  # fmt: skip

    def manifest(self, images_seen):
        return {"config": {"encoder": {"name": "cnn", "width": 1.0},
                           "objective": {"name": "autoencode", "loss": "mse"}},
                "seed": 3, "summary": {"data": {"name": "noise", "fingerprint": "sha256:f"}, "split": "unlabeled",
                                       "num_images": 8, "images_seen": images_seen,
                                       "parameters": {"encoder": 100, "decoder": 200}}}  # fmt: skip

    def test_a_pretrained_encoder(self):
        facts = describe_run(self.manifest(400), self.DATA)
        assert facts["data"] == {"name": "noise", "fingerprint": "sha256:f", "class_names": ["a", "b"], "image_size": 8,
                                 "num_train": 7, "num_test": 0}  # fmt: skip
        assert facts["encoder"] == {"name": "cnn", "width": 1.0, "parameters": 100}
        assert facts["objective"] == {"name": "autoencode", "loss": "mse"}
        assert facts["pretraining"] == {"data": "noise", "split": "unlabeled", "num_images": 8, "images_seen": 400}
        assert facts["seed"] == 3

    def test_a_control_that_saw_nothing_has_no_pretraining(self):
        assert describe_run(self.manifest(0), self.DATA)["pretraining"] is None

    def test_raw_pixels_have_no_run(self):
        facts = describe_run(None, self.DATA)
        assert facts["encoder"] == {"name": "pixels"}
        assert facts["objective"] == {"name": "none"}
        assert facts["pretraining"] is None
        assert facts["seed"] is None
