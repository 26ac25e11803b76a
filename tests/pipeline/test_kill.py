"""Every stage killed with SIGKILL at random instants and started again ends with the output of an undisturbed one.

The stages run in children of a fork server that has everything imported, so a kill costs a fraction of a second.
PRETEXT_KILLS sets how often each stage is killed (default 3).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import time

import pytest
from drawn_judgments import draw_triplets
from tiny_chain import extract, prepare, train

from pretext import stage_configs as configs
from pretext.artifacts.metrics import read_metrics

KILLS = int(os.environ.get("PRETEXT_KILLS", "3"))
MOMENTARY = ("started", "finished", "wall_seconds")
TIMES = ("time/data_s", "time/step_s", "images_per_s")

NETWORK = {"network": "squeezenet1_1", "network_weights": "random"}

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "pretext.stages.pretrain", "pretext.stages.extract_features",
                                "pretext.stages.probe", "pretext.stages.fine_tune",
                                "pretext.stages.fit_metric", "pretext.stages.score_metric", "pretext.stages.report"])  # fmt: skip


def judge(root):
    """Judgments, whole or not at all."""
    if not (root / "judged").exists():
        draw_triplets(root / "drawing")
        (root / "drawing").rename(root / "judged")


def run_stage(stage, root):
    """One stage on the chain below `root`; runs in the child."""
    import torch

    from pretext.stages import fine_tune, fit_metric, probe, report, score_metric

    torch.set_num_threads(1)
    run = root / "runs" / "run"
    metric = {"judgments": root / "judged", "runs_dir": root / "runs", "device": "cpu"}
    work = {
        "prepare": lambda: prepare(root, name="killed", shard_mb=0.05),
        "colors": lambda: prepare(root, shard_mb=0.05, overwrite=True, color_space=("rgb", "lab-rescaled", "lab-313")),
        "train": lambda: train(root, "killed", save_every=0, log_every=3, augment="strong"),
        "train-colors": lambda: (prepare(root, color_space=("lab",), target_size=4),
                                 train(root, "killed", save_every=0, log_every=3, objective="split-brain",
                                       encoder="resnet18-fcn", latent_dim=None)),
        "extract": lambda: extract(root, splits=("test", "train"), overwrite=True),
        "one-layer": lambda: (extract(root, layer="conv2", pool="resize", max_features=72),
                              probe.run(configs.ProbeConfig(run=run, layer="conv2", k=3))),
        "probe-linear": lambda: probe.run(configs.ProbeConfig(run=run, k=3, labels_per_class=(1, 2))),
        "probe-mlp": lambda: probe.run(configs.ProbeConfig(run=run, kind="mlp", k=3, epochs=60)),
        "fine-tune": lambda: fine_tune.run(configs.FineTuneConfig(run=run, data_dir=root / "data", k=2, epochs=2, batch_size=8,
                                                                  save_every=0, labels_per_class=(1,), draws=1)),
        "network": lambda: (
            extract(root, run=None, data="shapes", layer="3", pool="avg", runs_dir=root / "runs", **NETWORK),
            train(root, "killed", objective="predict-features", features=root / "runs" / "shapes-squeezenet1_1-random",
                  layer=("3",), augment="none", save_every=0, log_every=3),
        ),
        "metric": lambda: (
            judge(root),
            fit_metric.run(configs.FitMetricConfig(k=3, strengths=(1e-3, 1e-1), layer=("1",), out=root / "fit",
                                                   **metric, **NETWORK)),
            score_metric.run(configs.ScoreMetricConfig(layer=("1",), channel_weights=str(root / "fit"),
                                                       out=root / "score", **metric, **NETWORK)),
        ),
        "report": lambda: report.run(configs.ReportConfig(runs=(root / "runs",), out=root / "report")),
    }[stage]  # fmt: skip
    work()


STAGES = ("prepare", "colors", "train", "train-colors", "extract", "one-layer", "probe-linear", "probe-mlp", "fine-tune",
          "network", "metric", "report")  # fmt: skip


def finish(stage, root):
    """Run a stage to its end; returns the seconds it took."""
    child = CONTEXT.Process(target=run_stage, args=(stage, root))
    started = time.monotonic()
    child.start()
    child.join()
    assert child.exitcode == 0
    return time.monotonic() - started


def contents(root):
    """Every file's bytes, less what must differ from one making to the next: times of day and seconds."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            continue
        name = str(path.relative_to(root))
        if path.name.endswith("manifest.json"):
            found[name] = without_moments(json.loads(path.read_text()), root)
        elif path.name == "metrics.parquet":
            found[name] = [{key: value for key, value in row.items() if key not in TIMES} for row in read_metrics(path)]
        elif "report" not in path.parts:  # a report prints the times of its runs
            found[name] = path.read_bytes().replace(str(root).encode(), b"ROOT")
        else:
            found[name] = True
    return found


def without_moments(value, root):
    if isinstance(value, dict):
        return {key: without_moments(item, root) for key, item in value.items()
                if key not in (*MOMENTARY, "metrics.parquet", "fingerprint", "sha256", "bytes")}  # fmt: skip
    if isinstance(value, list):
        return [without_moments(item, root) for item in value]
    return value.replace(str(root), "ROOT") if isinstance(value, str) else value


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_as_if_it_had_not_been(stage, chain, tmp_path):
    undisturbed, killed = tmp_path / "a" / "chain", tmp_path / "b" / "chain"
    for root in (undisturbed, killed):
        shutil.copytree(chain, root)
    seconds = finish(stage, undisturbed)
    expected = contents(undisturbed)
    chance = random.Random(stage)
    kills = 0
    for _ in range(4 * KILLS):  # bounded: on a loaded machine a kill may keep missing
        if kills == KILLS:
            break
        child = CONTEXT.Process(target=run_stage, args=(stage, killed))
        child.start()
        child.join(chance.uniform(0, seconds))
        if child.exitcode is None:
            child.kill()
            child.join()
            kills += 1
            check_manifests(killed)
        else:  # it was through before the kill: look at it, aim earlier, and begin anew
            seconds = 0.7 * seconds
            compare(expected, contents(killed))
            shutil.rmtree(killed)
            shutil.copytree(chain, killed)
    assert kills, "every attempt was over before it was killed"
    finish(stage, killed)
    compare(expected, contents(killed))
    assert not list(killed.rglob(".*.tmp")), "temporary files are left"


def compare(expected, found):
    assert expected.keys() == found.keys()
    for name, content in expected.items():
        assert found[name] == content, f"{name} differs"


def check_manifests(root):
    """No manifest may say done over files that are missing or of another size."""
    for path in root.rglob("*manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["status"] == "done":
            for name, facts in manifest["outputs"].items():
                assert (path.parent / name).stat().st_size == facts["bytes"]
