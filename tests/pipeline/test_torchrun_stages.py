"""Stages under torchrun: several processes make what one makes, one that dies is named, and the next start goes on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_chain import prepare

from pretext import stage_configs as configs
from pretext.cli import app as cli
from pretext.stages import fine_tune

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pretext"]
SHARDED = {"num_unlabeled": 700, "num_train": 60, "num_test": 50, "shard_mb": 0.1, "color_space": ("lab",),
           "target_size": 6}  # fmt: skip
MOMENTARY = ("started", "finished", "wall_seconds", "path", "versions", "device")


def options(values):
    """A stage's options as the command line writes them."""
    return [part for name, value in values.items()
            for part in (f"--{name.replace('_', '-')}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value))]  # fmt: skip


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if "RANK" not in name and "WORLD_SIZE" not in name}
    return kept | {"OMP_NUM_THREADS": "1"} | changes


def launch(*arguments):
    return subprocess.run([*TWO, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment())


def contents(folder):
    """Every file's bytes; of manifests and results what does not tell the time or the place."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(".lock"):
            found[str(path.relative_to(folder))] = (
                without_moments(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
            )
    return found


def without_moments(value):
    if isinstance(value, dict):
        return {key: without_moments(item) for key, item in value.items() if key not in MOMENTARY}
    return [without_moments(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process prepares."""
    root = tmp_path_factory.mktemp("alone")
    prepare(root, **SHARDED)
    return root / "data" / "shapes"


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


def test_two_processes_prepare_the_bytes_of_one(alone, tmp_path):
    done = launch("prepare-data", "shapes", *options(SHARDED), "--data-dir", tmp_path, "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"  # said once
    assert_same(contents(alone), contents(tmp_path / "shapes"))


def process_of_rank(job, rank):
    """The id of one process that a launcher has started, found by its surroundings."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    (pid,) = [
        int(pid)
        for pid in children
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    ]
    return pid


@pytest.mark.skipif(sys.platform != "linux", reason="finds a rank's process in /proc")
def test_a_killed_rank_is_named_and_no_finished_shard_is_lost(alone, tmp_path):
    folder = tmp_path / "data" / "shapes"
    job = subprocess.Popen([*TWO, "prepare-data", "shapes", *options(SHARDED), "--data-dir", tmp_path / "data",
                            "--workers", "1"], stderr=subprocess.PIPE, text=True, env=environment())  # fmt: skip
    note = folder / "resume" / "rank-1.json"
    while not note.exists():
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.002)
    os.kill(process_of_rank(job, 1), signal.SIGKILL)
    killed = time.monotonic()
    _, said = job.communicate(timeout=60)
    assert time.monotonic() - killed < 20
    assert job.returncode == 1
    assert "rank      : 1 (local_rank: 1)\n  exitcode  : -9" in said
    assert said.count("error:") == 0  # the other one has nothing to add
    finished = {name: (folder / name).stat().st_mtime_ns for name in json.loads(note.read_text())["shards"]}
    assert json.loads((folder / "manifest.json").read_text())["status"] == "running"
    prepare(tmp_path, **SHARDED)  # one process goes on where two stopped
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished
    assert_same(contents(alone), contents(folder))


def test_what_goes_wrong_on_one_rank_is_said_once_and_ends_all(tmp_path):
    shard = "unlabeled-00001-of-00022.arrow"
    (tmp_path / "shapes" / f".{shard}.tmp").mkdir(parents=True)  # where that shard would be written
    failed = launch("prepare-data", "shapes", *options(SHARDED), "--data-dir", tmp_path, "--workers", 1)
    errors = [line for line in failed.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert errors[0].startswith(f"rank 1: error: {tmp_path / 'shapes' / shard} can't be written")
    assert (failed.returncode, failed.stdout) == (1, "")


def test_what_every_rank_finds_wrong_is_said_once(tmp_path):
    failed = launch("probe", tmp_path / "none")
    assert [line for line in failed.stderr.splitlines() if "error: " in line] == [
        f"rank 0: error: no run at {tmp_path / 'none'}"
    ]
    assert "exitcode  : 4" in failed.stderr
    assert (failed.returncode, failed.stdout) == (1, "")


@pytest.mark.parametrize("protocol", ["full", "frozen"])
def test_two_processes_fine_tune_to_the_bits_of_one(chain, tmp_path, monkeypatch, protocol):
    values = {"protocol": protocol, "k": 3, "epochs": 1, "batch_size": 16, "labels_per_class": (1,), "draws": 2}
    values |= {"run": "runs/run", "device": "cpu"}
    for name in ("one", "two"):
        shutil.copytree(chain, tmp_path / name)
    monkeypatch.chdir(tmp_path / "one")
    fine_tune.run(configs.FineTuneConfig(**values | {"run": Path("runs/run")}))
    monkeypatch.chdir(tmp_path / "two")
    done = launch("fine-tune", values.pop("run"), *options(values))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert f"runs/run/fine-tune-{protocol}-fold-2.safetensors" in two
    assert_same(one, two)


def stub(folder, name, text):
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def commands_of(script, folder):
    """What a job's script would run, told by stand-ins for the launchers."""
    stub(folder, "torchrun", 'echo "$@"')
    stub(folder, "srun", 'while [ "$1" != torchrun ]; do shift; done; "$@"')
    stub(folder, "scontrol", "echo first; echo second")
    slurm = {"SLURM_JOB_NODELIST": "x", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "32",
             "SLURM_JOB_ID": "7"}  # fmt: skip
    told = subprocess.run(["sh", script, "0", "first"], capture_output=True, text=True, check=True, cwd=folder,
                          env=environment(PATH=f"{folder}:{os.environ['PATH']}", **slurm))  # fmt: skip
    return [shlex.split(line) for line in told.stdout.splitlines()]


@pytest.mark.parametrize("script", ["two-nodes.sh", "slurm.sbatch"])
def test_the_examples_for_several_machines_are_valid(script, tmp_path, monkeypatch):
    from torch.distributed.run import get_args_parser

    called = []

    class Stage:
        @staticmethod
        def run(config, **_):
            called.append(config)
            return {"output": "x", "status": "done"}

    for _, _, module, _ in cli.STAGES:
        monkeypatch.setitem(sys.modules, f"pretext.stages.{module}", Stage)
    monkeypatch.chdir(tmp_path)
    commands = commands_of(EXAMPLES / script, tmp_path)
    for command in commands:
        launcher = get_args_parser().parse_args(command)
        assert (launcher.nnodes, launcher.module, launcher.training_script) == ("2", True, "pretext")
        monkeypatch.setattr("sys.argv", ["pretext", *launcher.training_script_args])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None)
    assert len(called) == len(commands)
    stages = [command[command.index("pretext") + 1] for command in commands]
    assert list(dict.fromkeys(stages)) == [
        "prepare-data",
        "pretrain",
        "extract-features",
        "probe",
        "fine-tune",
        "report",
    ]
