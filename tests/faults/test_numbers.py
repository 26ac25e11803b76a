"""Steps that give no number in the real stage, in one process and in two; and mixed precision against full precision."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fault_counts import FACTOR, count
from tiny_chain import TINY, prepare, train

from pretext.artifacts.checkpoint import read_header, write_tensors
from pretext.artifacts.layout import RunLayout, find_runs
from pretext.artifacts.manifest import read_manifest
from pretext.artifacts.metrics import read_metrics
from pretext.artifacts.verify import verify
from pretext.cli.listing import describe
from pretext.errors import PretextError
from pretext.objectives.base import PretextLearner
from pretext.reports.answer import warnings
from pretext.reports.compare import compare
from pretext.reports.gather import gather
from pretext.stages import pretrain

SUITE = "loss or gradient that is no number"
BROKEN = {"loss": math.nan, "infinite loss": math.inf, "gradient": 0.0}
COMMON = {"epochs": 2, "batch_size": 12, "log_every": 3, "lr": 3e-4}  # six steps an epoch
FAR_TOO_FAST = {**COMMON, "lr": 1e30, "grad_clip": 0.0, "warmup_epochs": 0.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("numbers")
    prepare(root, image_size=32, num_unlabeled=90, num_train=20, num_test=20)
    return root


def break_steps(monkeypatch, steps, how):
    """From now on these steps of a training, counted from 1 by what they draw, give no number."""
    plain, calls = PretextLearner.train_loss, []

    def broken(self, batch, generator):
        loss = plain(self, batch, generator)
        calls.append(None)
        if len(calls) not in steps:
            return loss
        if how == "gradient":
            weight = next(self.module.parameters()).sum()
            return loss + (weight - weight).sqrt()
        return loss * BROKEN[how]

    monkeypatch.setattr(PretextLearner, "train_loss", broken)


def weights(root, name):
    return (root / "runs" / name / "checkpoint-last.safetensors").read_bytes()


@pytest.mark.parametrize("trial", range(4 * FACTOR))
def test_a_stage_stops_before_anything_broken_is_saved_and_the_same_command_then_ends_as_if_undisturbed(
    root, monkeypatch, trial
):
    draw = random.Random(trial)
    step, how, name = draw.randint(1, 12), draw.choice(list(BROKEN)), f"stopped-{trial}"
    if not (root / "runs" / "whole").exists():
        train(root, "whole", **COMMON)
    with monkeypatch.context() as patch:
        break_steps(patch, {step}, how)
        with pytest.raises(PretextError, match=rf"became (nan|inf) in step {step}; .*failed-step") as caught:
            train(root, name, **COMMON, save_every=draw.choice([0, 1e9]))
    assert "--on-nan skip" in caught.value.hint
    layout = RunLayout(root / "runs" / name)
    (path, record) = sorted(layout.failed_steps(), reverse=True)
    assert record.name == f"failed-step-{step:09d}.manifest.json"
    assert read_header(path)["step"] == step
    assert verify(path)["damaged"] == []
    assert read_manifest(layout.manifest)["status"] == "running"
    train(root, name, **COMMON)
    assert weights(root, name) == weights(root, "whole")
    count(SUITE, 1, 1)


@pytest.mark.parametrize("trial", range(2 * FACTOR))
def test_steps_are_skipped_and_counted(root, monkeypatch, trial):
    draw = random.Random(100 + trial)
    steps, how = set(draw.sample(range(1, 13), draw.randint(1, 5))), draw.choice(list(BROKEN))
    break_steps(monkeypatch, steps, how)
    train(root, f"skipped-{trial}", **COMMON, on_nan="skip")
    layout = RunLayout(root / "runs" / f"skipped-{trial}")
    summary = read_manifest(layout.manifest)["summary"]
    assert (summary["skipped_steps"], summary["rewinds"], summary["epochs_run"]) == (len(steps), 0, 2)
    rows = read_metrics(layout.metrics)
    assert sum(row["train/skipped"] for row in rows if row["kind"] == "step") == len(steps)
    assert math.isfinite(summary["best_val_loss"])
    count(SUITE, len(steps), len(steps))


@pytest.mark.parametrize("trial", range(2 * FACTOR))
def test_training_goes_back_and_on(root, monkeypatch, trial):
    draw = random.Random(200 + trial)
    break_steps(monkeypatch, set(draw.sample(range(1, 13), 2)), draw.choice(list(BROKEN)))
    train(root, f"rewound-{trial}", **COMMON, on_nan="rewind", save_every=draw.choice([0, 1e9]))
    layout = RunLayout(root / "runs" / f"rewound-{trial}")
    summary = read_manifest(layout.manifest)["summary"]
    assert 1 <= summary["rewinds"] <= 2
    assert (summary["skipped_steps"], summary["epochs_run"]) == (0, 2)
    count(SUITE, 2, 2)


def test_the_step_is_told_of_by_inspect_and_replayed_from_its_own_options(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(PretextError, match="became (nan|inf) in step"):
        train(Path(), "fast", **FAR_TOO_FAST, loss="pse", sigma=1.5, augment="strong")
    path = sorted(RunLayout(Path("runs/fast")).failed_steps())[-1]
    told = describe(path, as_json=False)
    assert "what: step that gave no number: its batch and the state it began with" in told
    assert "batch.image: U8 (12, 32, 32, 3)" in told
    found = pretrain.replay(path)
    assert str(found.loss) == str(found.loss_in_training)
    assert str(found.grad_norm) == str(found.grad_norm_in_training)
    assert not (math.isfinite(found.loss) and math.isfinite(found.grad_norm))
    train(Path(), "fast", **COMMON, overwrite=True)
    assert RunLayout(Path("runs/fast")).failed_steps() == []


@pytest.mark.parametrize("options", [None, [], {"quality": "os:getcwd"}, {"epochs": "many"}, {"unknown": 1}])
def test_a_failed_step_whose_options_lie_is_refused_and_calls_nothing(tmp_path, options):
    header = {"kind": "failed-step", "step": 1, "precision": "fp32", "options": options}
    write_tensors(tmp_path / "failed-step-1.safetensors", {"batch.index": torch.zeros(2)}, header)
    with pytest.raises(PretextError):
        pretrain.replay(tmp_path / "failed-step-1.safetensors")


def test_two_processes_stop_alike_and_one_replays_the_step(root):
    flags = [word for key, value in {**TINY, **FAR_TOO_FAST, "data_dir": "data", "out": "runs/two", "augment": "none"}.items()
             for word in (f"--{key.replace('_', '-')}", str(value))]  # fmt: skip
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pretext",
               "pretrain", *flags)  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, cwd=root, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode != 0
    said = re.search(r"became (nan|inf) in step (\d+); (\S+) holds its batch", done.stderr)
    assert said, done.stderr
    path = root / said[3]
    header = read_header(path)
    assert (header["step"], header["processes"]) == (int(said[2]), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        found = pretrain.replay(path)
    assert not (math.isfinite(found.loss) and math.isfinite(found.grad_norm))
    count(SUITE, 1, 1)


def golden():
    path = Path(__file__).parents[1] / "pipeline" / "test_golden.py"
    spec = importlib.util.spec_from_file_location("golden_curves", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOLDEN = golden()
OF_LOSS, OF_RANK = 0.01, 0.1  # relative; measured: 0.0022 and 0.04


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("golden")
    GOLDEN.prepare_curves(root)
    return root


@pytest.mark.parametrize("name", GOLDEN.CURVES)
def test_bf16_follows_the_stored_curves_of_fp32_and_its_features_span_as_much(golden_root, name):
    stored, ranks = json.loads(GOLDEN.STORED.read_text())[name], {}
    for precision in ("bf16", "fp32") if FACTOR > 1 or name == "split-brain" else ("bf16",):
        rows = GOLDEN.epochs_of(golden_root, name, precision=precision)
        ranks[precision] = [row["val/effective_rank"] for row in rows]
        for key, want in stored.items():
            assert [row[key] for row in rows] == pytest.approx(want, rel=OF_LOSS)
    for found in ranks.values():
        assert found == pytest.approx(ranks["bf16"], rel=OF_RANK)
        assert min(found) >= 1


def test_the_bounds_are_those_that_are_stated():
    words = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    assert f"within {100 * OF_LOSS:.0f} % at every epoch" in words
    assert f"directions within {100 * OF_RANK:.0f} % (effective rank)" in words


def test_what_is_watched_leaves_weights_and_random_numbers_alone(root, monkeypatch):
    train(root, "watched", **COMMON, objective="denoise", loss="mse", noise="gaussian")
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "_watch", lambda *args: {})
        train(root, "unwatched", **COMMON, objective="denoise", loss="mse", noise="gaussian")
    assert weights(root, "watched") == weights(root, "unwatched")


def test_the_report_warns_of_features_that_collapsed(root, monkeypatch):
    plain = pretrain.effective_rank
    monkeypatch.setattr(pretrain, "effective_rank", lambda feature_ND: plain(torch.ones_like(feature_ND)))
    train(root, "collapsed", **COMMON)
    (line,) = [
        line for line in warnings(compare(gather(find_runs((root / "runs" / "collapsed",))))) if "collapsed" in line
    ]
    assert (
        line
        == "The features of these collapsed, they span almost one direction (effective rank): collapsed (1.0 of 12)."
    )
