"""`pretext list` and `pretext inspect`."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pretext.artifacts.atomic import write_json
from pretext.artifacts.checkpoint import write_tensors
from pretext.artifacts.features import write_features
from pretext.artifacts.manifest import Parent, Record
from pretext.artifacts.metrics import write_metrics
from pretext.artifacts.results import REQUIRED, Predictions, write_predictions, write_result
from pretext.artifacts.rows import write_rows
from pretext.artifacts.shards import write_shard
from pretext.catalog import AXES


class TestList:
    def test_all_axes(self, run_cli):
        outcome = run_cli("list")
        assert (outcome.code, outcome.err) == (0, "")
        blocks = outcome.out.strip().split("\n\n")
        assert [block.splitlines()[0] for block in blocks] == list(AXES)
        assert len(AXES) == 9

    @pytest.mark.parametrize("axis", AXES)
    def test_one_axis_has_a_line_for_each_row(self, run_cli, axis):
        lines = run_cli("list", axis).out.splitlines()
        assert lines[0] == axis
        assert len(lines) == 1 + len(AXES[axis])
        for line, row in zip(lines[1:], AXES[axis].values(), strict=True):
            assert line.split()[0] == row.name
            assert row.summary in line
            assert line.endswith(f"[{row.paper}]" if row.paper else row.summary)

    @pytest.mark.parametrize("axis", AXES)
    def test_the_name_an_error_uses_works_too(self, run_cli, axis):
        assert run_cli("list", AXES[axis].axis).out.splitlines()[1:] == run_cli("list", axis).out.splitlines()[1:]

    def test_an_unknown_axis(self, run_cli):
        outcome = run_cli("list", "los")
        assert (outcome.code, outcome.out) == (3, "")
        assert outcome.err == (
            "error: axis 'los' is unknown; there are: sources, color-spaces, objectives, losses, encoders, probes, "
            "protocols, networks, metrics\n"
            "hint: pretext list\n"
        )

    def test_json_of_one_axis(self, run_cli):
        rows = json.loads(run_cli("list", "losses", "--json").out)
        assert [row["name"] for row in rows] == list(AXES["losses"])
        assert rows[3]["options"] == {"sigma": 4.0, "truncate": 4.0, "padding": "symmetric", "residual": "abs"}
        assert all(row.keys() == {"name", "summary", "paper", "options"} for row in rows)

    def test_json_of_all(self, run_cli):
        tables = json.loads(run_cli("list", "--json").out)
        assert {axis: [row["name"] for row in rows] for axis, rows in tables.items()} == {
            axis: list(table) for axis, table in AXES.items()
        }


@pytest.fixture
def run_folder(tmp_path):
    """A run's folder with one artifact of every kind."""
    folder = tmp_path / "runs" / "x"
    record = Record(folder / "manifest.json", "pretrain", {"loss": "pse"}, [Parent("data", "data/noise", "sha256:d")])
    record.begin({"objective": {"name": "autoencode", "loss": "pse"}}, seed=3)
    write_tensors(folder / "checkpoint.safetensors", {"encoder.w": torch.zeros(2, 3), "n": torch.tensor(1)},
                  {"kind": "pretrain", "encoder": {"name": "cnn"}})  # fmt: skip
    write_metrics(folder / "metrics.parquet", [{"kind": "epoch", "step": 1, "train/loss": 0.5}])
    record.finish([folder / "checkpoint.safetensors", folder / "metrics.parquet"], summary={"images_seen": 10})
    write_features(folder / "features.parquet", {"checkpoint": "sha256:c"}, 2,
                   [("train", ["a"], np.array([0]), [[]], np.zeros((1, 2), np.float32))])  # fmt: skip
    write_result(folder / "probe-linear.json", dict.fromkeys(REQUIRED) | {"kind": "probe-linear", "folds": [
        {"fold": 0, "top1": 0.5}, {"fold": 1, "top1": 0.25}]})  # fmt: skip
    write_predictions(folder / "probe-linear-predictions.parquet",
                      Predictions(["a"], np.array([0]), np.ones((1, 1)), np.zeros((1, 5))))  # fmt: skip
    write_shard(folder / "train-00000-of-00001.arrow", [("a", np.zeros((8, 8, 3), np.uint8), 1, ())], image_size=8)
    return folder


class TestInspect:
    def facts(self, run_cli, path):
        outcome = run_cli("inspect", path, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        return json.loads(outcome.out)

    def text(self, run_cli, path):
        outcome = run_cli("inspect", path)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out

    def test_a_run(self, run_cli, run_folder):
        facts = self.facts(run_cli, run_folder)
        assert facts == self.facts(run_cli, run_folder / "manifest.json")
        assert (facts["what"], facts["stage"], facts["status"]) == ("manifest", "pretrain", "done")
        assert facts["parents"] == [{"kind": "data", "path": "data/noise", "fingerprint": "sha256:d"}]
        text = self.text(run_cli, run_folder)
        assert (
            "status: done\nrequest:\n  loss: pse\nconfig:\n  objective:\n    name: autoencode\n    loss: pse\n" in text
        )
        assert "parents:\n  - kind data, path data/noise, fingerprint sha256:d\n" in text

    @pytest.mark.parametrize("stem", ["features", "features-conv3"])
    def test_pixels_and_networks_that_have_features_only(self, run_cli, tmp_path, stem):
        record = Record(tmp_path / "pixels" / f"{stem}.manifest.json", "extract-features", {})
        record.begin({}, seed=None)
        facts = self.facts(run_cli, tmp_path / "pixels")
        assert (facts["what"], facts["stage"], facts["status"]) == ("manifest", "extract-features", "running")

    def test_weights(self, run_cli, run_folder):
        facts = self.facts(run_cli, run_folder / "checkpoint.safetensors")
        assert facts["what"] == "weights"
        assert facts["header"] == {"schema": 1, "kind": "pretrain", "encoder": {"name": "cnn"}}
        assert facts["tensors"] == {"encoder.w": "F32 (2, 3)", "n": "I64 ()"}
        assert "tensors:\n  encoder.w: F32 (2, 3)\n  n: I64 ()\n" in self.text(
            run_cli, run_folder / "checkpoint.safetensors"
        )

    def test_features(self, run_cli, run_folder):
        facts = self.facts(run_cli, run_folder / "features.parquet")
        assert (facts["what"], facts["rows"]) == ("table", 1)
        assert facts["header"] == {"schema": 1, "checkpoint": "sha256:c"}
        assert facts["columns"]["feature"].startswith("fixed_size_list<")

    @pytest.mark.parametrize(("name", "column"), [("metrics", "train/loss"), ("probe-linear-predictions", "prob")])
    def test_other_tables(self, run_cli, run_folder, name, column):
        facts = self.facts(run_cli, run_folder / f"{name}.parquet")
        assert (facts["what"], facts["rows"], facts["header"]) == ("table", 1, {})
        assert column in facts["columns"]

    def test_a_result(self, run_cli, run_folder):
        facts = self.facts(run_cli, run_folder / "probe-linear.json")
        assert (facts["what"], facts["kind"]) == ("result", "probe-linear")
        text = self.text(run_cli, run_folder / "probe-linear.json")
        assert "folds:\n  - fold 0, top1 0.5\n  - fold 1, top1 0.25\n" in text

    def test_a_shard(self, run_cli, run_folder):
        facts = self.facts(run_cli, run_folder / "train-00000-of-00001.arrow")
        assert (facts["what"], facts["rows"], facts["image"]) == ("shard of images", 1, "(8, 8, 3)")
        assert facts["columns"]["label"].startswith("class index from 0")

    def test_what_was_computed_from_a_shard(self, run_cli, tmp_path):
        file = tmp_path / "train-00000-of-00001.targets-lab-4.arrow"
        with write_rows(file, "target", (2, 4, 4), np.dtype(np.int16), dims=("group", "row", "column"),
                           meaning="bins", metadata={"quantizer": "lab"}) as writer:  # fmt: skip
            writer.write(np.zeros((3, 2, 4, 4), np.int16))
        facts = self.facts(run_cli, file)
        assert (facts["what"], facts["rows"]) == ("computed from a shard of images", 3)
        assert facts["columns"]["target"].endswith(": bins")
        assert facts["notes"]["quantizer"] == "lab"

    def test_an_empty_shard(self, run_cli, tmp_path):
        write_shard(tmp_path / "e.arrow", [], image_size=8)
        assert self.facts(run_cli, tmp_path / "e.arrow")["rows"] == 0

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("x.json", b"{", "is not valid JSON"), ("x.safetensors", b"xx", "can't be read as safetensors"),
            ("x.parquet", b"garbage, and more of it", "can't be read as Parquet"),
            ("x.parquet", b"", "can't be read as Parquet"),
            ("x.parquet", b"PAR1" + b"\xff" * 20 + (20).to_bytes(4, "little") + b"PAR1", "can't be read as Parquet"),
            ("x.arrow", b"garbage", "can't be read as an Arrow file"),
            ("x.lab.arrow", b"garbage", "can't be read as an Arrow file"),
            ("x.txt", b"hello", "is no artifact of this toolkit (.json, .safetensors, .parquet or .arrow)"),
        ],
    )  # fmt: skip
    def test_what_can_not_be_read(self, run_cli, tmp_path, name, content, said):
        (tmp_path / name).write_bytes(content)
        outcome = run_cli("inspect", tmp_path / name)
        assert (outcome.code, outcome.out) == (4, "")
        assert f"{name} {said}" in outcome.err
        assert "bug" not in outcome.err

    def test_nothing_there(self, run_cli, tmp_path):
        assert run_cli("inspect", "nowhere.json").err == "error: nowhere.json does not exist\n"
        outcome = run_cli("inspect", tmp_path)
        assert (outcome.code, outcome.err) == (
            4,
            f"error: {tmp_path} is neither a run nor a data set: it has no manifest.json\n",
        )

    def test_a_folder_named_as_a_table(self, run_cli, tmp_path):
        (tmp_path / "x.parquet").mkdir()
        assert "has no manifest.json" in run_cli("inspect", tmp_path / "x.parquet").err

    def test_a_foreign_file_can_not_command_the_terminal(self, run_cli, tmp_path):
        write_json(tmp_path / "x.json", {"kind": "\x1b]0;evil\x07", "two\nlines": ["\x1b[2J"]})
        text = self.text(run_cli, tmp_path / "x.json")
        assert "\x1b" not in text
        assert "\x07" not in text
        assert r"kind: \x1b]0;evil\x07" in text
        table = pa.table({"\x1b[2Jcolumn": [1]})
        pq.write_table(table, tmp_path / "x.parquet")
        assert "\x1b" not in self.text(run_cli, tmp_path / "x.parquet")
