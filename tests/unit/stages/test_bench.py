"""`pretext bench`: the parts asked for, a table for people, JSON for machines, and no file overwritten."""

import json
import types

import pytest

from pretext.bench.measure import Row
from pretext.errors import ArtifactError
from pretext.stage_configs import BENCH_PARTS, BenchConfig
from pretext.stages import bench

CEILINGS = {"copy_bytes_per_s": 1e9, "matmul_fp32_flops_per_s": 1e12}


@pytest.fixture(autouse=True)
def quick_parts(monkeypatch):
    """Parts that measure nothing."""
    monkeypatch.setattr(bench, "measure_ceilings", lambda compute: CEILINGS)

    def load(name):
        part = name.removeprefix("pretext.bench.")
        row = Row(part=part, what=f"row of {part}", unit="images", rounds=3, per_s=4.0, per_s_iqr=0.1, against="plain",
                  against_per_s=2.0, against_per_s_iqr=0.1, ratio=2.0, ratio_iqr=0.1)  # fmt: skip
        return types.SimpleNamespace(measure=lambda compute: iter([row]))

    monkeypatch.setattr(bench.importlib, "import_module", load)


@pytest.mark.parametrize(
    ("asked", "done"),
    [(("all",), BENCH_PARTS), (("train", "loss"), ("loss", "train")), (("loss", "all"), BENCH_PARTS)],
)
def test_parts_are_measured_once_and_in_one_order(asked, done):
    outcome = bench.run(BenchConfig(parts=asked, device="cpu"))
    assert outcome["document"]["parts"] == list(done)
    assert [row["part"] for row in outcome["document"]["rows"]] == list(done)
    assert all(f"row of {part} " in outcome["text"] for part in done)


def test_the_file_holds_what_was_returned_and_is_not_lost(tmp_path):
    config = BenchConfig(parts=("loss",), device="cpu", out=tmp_path / "deep" / "bench.json")
    outcome = bench.run(config)
    assert json.loads(config.out.read_text()) == json.loads(json.dumps(outcome["document"]))
    with pytest.raises(ArtifactError, match="exists"):
        bench.run(config)
    bench.run(BenchConfig(parts=("color",), device="cpu", out=config.out, overwrite=True))
    assert json.loads(config.out.read_text())["parts"] == ["color"]


def test_a_dry_run_measures_nothing(tmp_path):
    outcome = bench.run(BenchConfig(device="cpu", dry_run=True, out=tmp_path / "bench.json"))
    assert (outcome["status"], outcome["parts"]) == ("dry run", list(BENCH_PARTS))
    assert not list(tmp_path.iterdir())
