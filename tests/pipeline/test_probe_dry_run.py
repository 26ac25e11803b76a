"""A dry run of the probe times a few images and tells what all of them take; it writes nothing."""

from __future__ import annotations

import itertools

import pytest

from pretext import stage_configs as configs
from pretext.stages import probe


def dry(root, **changes):
    return probe.run(configs.ProbeConfig(**{"run": root / "runs/run", "k": 3, "dry_run": True} | changes))


@pytest.mark.parametrize("kind", ["linear", "knn", "mlp", "mlp-seven"])
def test_every_kind_tells_its_time_and_writes_nothing(chain, kind):
    before = sorted((chain / "runs/run").iterdir())
    told = dry(chain, kind=kind, labels_per_class=(1, 2), draws=2)
    assert told["status"] == "dry run"
    assert told["models"] == 3 + 4
    assert told["expected seconds"] > 0
    assert sorted((chain / "runs/run").iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "expected"), [("linear", 5.0 * 3 * 60**2 / (2 * 20**2)), ("mlp", 5.0 * 500 * 3 * 60 / (2 * 20))]
)
def test_the_piece_is_multiplied_by_the_work(chain, monkeypatch, kind, expected):
    # All 60 training images are every fold's, of which every third is timed: 13 or 14 to fit and 7 to choose by.
    monkeypatch.setattr(probe, "PIECE_IMAGES", 20)
    clock = itertools.count(step=5.0)
    monkeypatch.setattr(probe.time, "perf_counter", lambda: next(clock))
    sizes = []

    def judge(row, options, config, header, train, test, plans, folder):
        sizes.append(([len(plan.train) for plan in plans], len(test.feature_ND), options.get("epochs")))
        return []

    monkeypatch.setattr(probe, "_judge", judge)
    seconds = dry(chain, kind=kind)["expected seconds"]
    assert sizes == [([21, 21], 17, None if kind == "linear" else 1)] * 2
    assert seconds == pytest.approx(expected * (20 / 21) ** (2 if kind == "linear" else 1))
