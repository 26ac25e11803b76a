"""The training curve in Parquet."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretext.artifacts.metrics import SCHEMA, read_metrics, write_metrics
from pretext.errors import ArtifactError

STEP = {"kind": "step", "step": 50, "epoch": 0.5, "images_seen": 6400, "train/loss": 0.1 + 0.2, "train/grad_norm": 1.5,
        "lr": 1e-3, "time/data_s": 0.01, "time/step_s": 0.1, "images_per_s": 1280.0}  # fmt: skip
EPOCH = STEP | {"kind": "epoch", "val/loss": 0.25, "val/effective_rank": 7.5, "train/loss_over_median": 0.5,
                "train/skipped": 2}  # fmt: skip
ABSENT = dict.fromkeys(("val/loss", "val/effective_rank", "train/loss_over_median", "train/skipped"))


def test_round_trip_with_null_where_a_value_is_absent(tmp_path):
    write_metrics(tmp_path / "m.parquet", [STEP, EPOCH])
    found = read_metrics(tmp_path / "m.parquet")
    assert found == [STEP | ABSENT, EPOCH]
    assert list(found[0]) == SCHEMA.names
    assert pq.read_schema(tmp_path / "m.parquet").equals(SCHEMA)


def test_a_curve_without_the_columns_of_today_is_read(tmp_path):
    pq.write_table(pa.Table.from_pylist([STEP]), tmp_path / "m.parquet")
    assert read_metrics(tmp_path / "m.parquet") == [STEP]


def test_no_rows(tmp_path):
    write_metrics(tmp_path / "m.parquet", [])
    assert read_metrics(tmp_path / "m.parquet") == []


def test_a_value_of_another_kind_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises((TypeError, ValueError), match=r"half|int"):
        write_metrics(tmp_path / "m.parquet", [STEP | {"step": "half"}])
    assert list(tmp_path.iterdir()) == []


def test_missing(tmp_path):
    with pytest.raises(ArtifactError, match=r"m\.parquet does not exist"):
        read_metrics(tmp_path / "m.parquet")


def test_broken(tmp_path):
    write_metrics(tmp_path / "m.parquet", [STEP])
    (tmp_path / "m.parquet").write_bytes((tmp_path / "m.parquet").read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"m\.parquet can't be read as Parquet: "):
        read_metrics(tmp_path / "m.parquet")
