"""Stages run in children of a fork server that has everything imported, and what they leave, to be compared bit for bit."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from drawn_judgments import draw, draw_triplets
from file_faults import CHANGES, Fault, FileLayer
from tiny_chain import extract, prepare, train

from pretext import stage_configs as configs
from pretext.artifacts.manifest import read_manifest
from pretext.artifacts.metrics import read_metrics
from pretext.artifacts.verify import verify

MOMENTARY = ("started", "finished", "wall_seconds")
TIMES = ("time/data_s", "time/step_s", "images_per_s")
NETWORK = {"network": "squeezenet1_1", "network_weights": "random"}
STAGES = ("prepare", "colors", "train", "train-colors", "extract", "one-layer", "probe-linear", "probe-mlp", "fine-tune",
          "network", "metric", "report", "export")  # fmt: skip

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "pretext.stages.pretrain", "pretext.stages.extract_features",
                                "pretext.stages.probe", "pretext.stages.fine_tune", "pretext.cli.app",
                                "pretext.stages.fit_metric", "pretext.stages.score_metric", "pretext.stages.report",
                                "pretext.stages.export"])  # fmt: skip


def run_stage(stage, root):
    """One stage on the chain below `root`; runs in the child."""
    import torch

    from pretext.stages import export, fine_tune, fit_metric, prepare_data, probe, report, score_metric

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
        "export": lambda: export.run(configs.ExportConfig(run=run)),
        "folder": lambda: prepare_data.run(configs.PrepareDataConfig(source="folder", path=root / "pictures", workers=1,
                                                                     data_dir=root / "data", shard_mb=0.3)),
    }[stage]  # fmt: skip
    work()


def judge(root):
    """Judgments, whole or not at all; no part of the toolkit, so they are drawn before any fault can strike."""
    if not (root / "judged").exists():
        draw_triplets(root / "drawing")
        (root / "drawing").rename(root / "judged")


def finish(stage, root):
    """Run a stage to its end; returns the seconds it took."""
    child = CONTEXT.Process(target=run_stage, args=(stage, root))
    started = time.monotonic()
    child.start()
    child.join()
    assert child.exitcode == 0
    return time.monotonic() - started


@dataclass(frozen=True)
class Ending:
    """How a faulty run ended: its exit code (negative: the signal), what it said, what it did with files."""

    code: int
    said: str
    log: list[list[str]]


def start_faulty(stage, root, fault, told):
    """Start a stage as a command runs it, with errors told and turned into exit codes, and a fault on the way.

    Args:
        stage: A name of `STAGES`, or "folder", which prepares image files.
        root: The chain's folder; `told` lies outside of it.
        fault: What goes wrong, and where; None for nothing.
        told: Where the child writes its stderr and, with the suffix .json, its log.
    """
    if stage == "metric":
        judge(root)
    if stage == "folder" and not (root / "pictures").exists():
        draw(root / "pictures")
    # A daemon: where a test fails while its child waits for something, nobody waits for the child at the end.
    child = CONTEXT.Process(target=_run_faulty, args=(stage, root, fault, told), daemon=True)
    child.start()
    return child


def end_of(child, told, seconds=120):
    """Wait for a child of `start_faulty`.

    Seconds are counted one by one, and only those in which it was not stopped: a machine or a session that was paused
    was once taken for a child that hung.
    """
    while child.exitcode is None and seconds:
        child.join(1)
        seconds -= not is_stopped(child.pid)
    if child.exitcode is None:
        os.kill(child.pid, signal.SIGABRT)  # it then says where every thread stands
        child.join()
        raise AssertionError(f"it hung; it said: {told.read_text()}")
    log = told.with_suffix(".json")
    return Ending(child.exitcode, told.read_text(), json.loads(log.read_text() or "[]"))


def is_stopped(pid):
    """Whether a signal keeps a process from going on; False where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def run_faulty(stage, root, fault, told):
    """`start_faulty`, and wait for it."""
    return end_of(start_faulty(stage, root, fault, told), told)


def _run_faulty(stage, root, fault, told):
    from pretext.cli.errors import call

    said = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    faulthandler.enable(said)
    layer = FileLayer(root, fault or Fault())
    with told.with_suffix(".json").open("w") as log:
        layer.install()
        try:
            call(lambda: run_stage(stage, root), debug=False)
        finally:
            layer.remove()
            sys.stderr.flush()
            if layer.log:
                json.dump(layer.log, log)


def run_command(arguments, root):
    """`pretext` with these arguments, in a child that need not import everything anew; returns its exit code."""
    child = CONTEXT.Process(target=_run_command, args=(arguments, root))
    child.start()
    child.join()
    return child.exitcode


def _run_command(arguments, root):
    import torch

    from pretext.cli.app import main

    torch.set_num_threads(1)
    os.chdir(root)
    sys.argv = ["pretext", *arguments]
    main()


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
                if key not in (*MOMENTARY, "metrics.parquet", "fingerprint", "sha256", "bytes", "crc32")}  # fmt: skip
    if isinstance(value, list):
        return [without_moments(item, root) for item in value]
    return value.replace(str(root), "ROOT") if isinstance(value, str) else value


def compare(expected, found):
    assert not expected.keys() ^ found.keys(), sorted(expected.keys() ^ found.keys())
    for name, content in expected.items():
        assert found[name] == content, f"{name} differs"


def check_done(root):
    """No manifest may say done over files that are missing, cut short or changed in any byte."""
    for path in root.rglob("*manifest.json"):
        manifest = read_manifest(path)
        assert manifest["wall_seconds"] >= 0
        if manifest["status"] == "done":
            for name in manifest["outputs"]:
                assert verify(path.with_name(name))["damaged"] == []


def check_whole(root, expected, before):
    """Whatever has a final name is whole: what the stage was to write there, or what was there before it."""
    check_done(root)
    for name, content in contents(root).items():
        if name in expected and not name.endswith("manifest.json"):
            assert content in (expected[name], before.get(name)), f"{name} is neither of the two"


def leftovers(root):
    """What a finished stage must not leave: temporary, lock and resume files."""
    return [str(path.relative_to(root)) for path in root.rglob("*")
            if (path.name.startswith(".") and path.suffix in (".tmp", ".lock")) or path.name.endswith("resume")]  # fmt: skip


class Chains:
    """Copies of one chain, and what every stage makes of it undisturbed: computed once each."""

    def __init__(self, chain: Path, folder: Path) -> None:
        self._chain, self._folder, self._made = chain, folder, {}
        folder.mkdir(exist_ok=True)
        self.before = contents(self.fresh())

    def undisturbed(self, stage, among=CHANGES):
        """The contents after a stage that nothing disturbed, and the operations of these kinds that it did."""
        if (stage, among) not in self._made:
            root = self.fresh()
            ending = run_faulty(stage, root, Fault(among=among), root.parent / "told")
            assert ending.code == 0, ending.said
            assert not leftovers(root)
            check_done(root)
            self._made[stage, among] = contents(root), ending.log
            shutil.rmtree(root)
        return self._made[stage, among]

    def fresh(self):
        """A copy of the chain, as it was before the stage; the one before it is gone."""
        root = self._folder / "chain"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._chain, root)
        return root
