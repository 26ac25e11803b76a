"""The quickstart study, whole: what `make demo` runs. Minutes long, so not part of the default run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pretext.artifacts.results import read_result

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_pretrained_encoders_beat_the_controls_with_intervals_that_do_not_touch(tmp_path):
    script = tmp_path / "pretext"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m pretext "$@"\n')
    script.chmod(0o755)
    subprocess.run(
        ["make", "-f", "examples/quickstart.mk", f"PRETEXT={script}", f"OUT={tmp_path}/demo"], cwd=ROOT, check=True
    )
    assert (tmp_path / "demo/report/report.html").stat().st_size > 100_000
    for probe in ("probe-linear", "probe-knn"):
        intervals = {run.name: read_result(run / f"{probe}.json")["ci95"]["ensemble_top1"]
                     for run in (tmp_path / "demo/runs").iterdir()}  # fmt: skip
        controls = [high for name, (_, high) in intervals.items() if name.startswith(("random", "shapes-pixels"))]
        trained = [low for name, (low, _) in intervals.items() if name.startswith(("mse", "pse"))]
        assert len(controls) == 3
        assert len(trained) == 4
        assert min(trained) > max(controls), (probe, intervals)
