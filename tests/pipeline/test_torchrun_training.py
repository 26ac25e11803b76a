"""Two processes under torchrun train as one does, and go on after a kill and after a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_chain import TINY, prepare, train

from pretext.artifacts.metrics import read_metrics
from pretext.errors import ConfigError
from pretext.stages import pretrain
from pretext.training.parallel import check_batch

LIMIT = 90  # seconds that any command may take
EPOCHS, STEPS = 24, 3  # and steps in each
COMMON = {"encoder": "cnn", "data_dir": "data", "log_every": 1, "lr": 3e-4, "batch_size": 15}
LONG = {"loss": "pse", "sigma": 2.0, "augment": "small", "epochs": EPOCHS}  # with batch norm; 15 rows are 8 and 7
NOISY = {"objective": "denoise", "noise": "gaussian", "augment": "flip", "accumulate": 2, "epochs": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data set: 52 images to train on and 9 to validate."""
    root = tmp_path_factory.mktemp("together")
    prepare(root, image_size=32, num_unlabeled=61, num_train=10, num_test=10)
    return root


def start(root: Path, name: str, **changes) -> subprocess.Popen[str]:
    """Begin a pretraining in two processes."""
    options = {**TINY, **COMMON, **changes, "out": f"runs/{name}"}
    flags = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pretext",
               "pretrain", *flags)  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, cwd=root, env=environment, text=True, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """What a command that ends well said on stderr."""
    said = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 0, said
    return said


def losses(root: Path, name: str, epochs: int = 2) -> list[tuple[str, float]]:
    """Those of every step and epoch."""
    rows = [row for row in read_metrics(root / "runs" / name / "metrics.parquet") if row["step"] <= epochs * STEPS]
    return [(key, row[key]) for row in rows for key in ("train/loss", "val/loss") if row.get(key) is not None]


def check_losses(root: Path, name: str, **changes) -> None:
    """Train in one process too, and compare the first two epochs."""
    train(root, f"{name}-alone", **COMMON | {"data_dir": root / "data"} | changes)
    one, two = losses(root, f"{name}-alone"), losses(root, name)
    assert len(one) == 2 * STEPS + 2 + 2
    assert [key for key, _ in one] == [key for key, _ in two]
    # the first step is the same up to rounding, which Adam then lifts for weights that hardly matter
    assert two[0][1] == pytest.approx(one[0][1], rel=1e-6)
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=2e-4)


def saved_step(root: Path, name: str) -> int:
    """The step of the last saved state, 0 if there is none."""
    try:
        return json.loads((root / "runs" / name / "resume" / "state.json").read_text())["loop"]["step"]
    except FileNotFoundError:
        return 0


def wait_for_step(root: Path, name: str, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT
    while saved_step(root, name) < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_weights(root: Path, name: str) -> bytes:
    return (root / "runs" / name / "checkpoint-last.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(root) -> Path:
    """A long training of two processes."""
    said = finish(start(root, "undisturbed", **LONG))
    assert "Warning" not in said
    return root


def test_two_processes_have_the_losses_of_one_with_batch_norm_augmentation_and_an_odd_batch(undisturbed):
    check_losses(undisturbed, "undisturbed", **LONG)


def test_two_processes_have_the_losses_of_one_with_noise_and_accumulation(root):
    finish(start(root, "noisy", **NOISY))
    check_losses(root, "noisy", **NOISY)


def test_after_a_signal_and_after_a_kill_the_same_command_goes_on_to_the_same_bits(undisturbed):
    root = undisturbed
    process = start(root, "stopped", **LONG, save_every=0.1)
    wait_for_step(root, "stopped", 3, process)
    process.terminate()
    said = process.communicate(timeout=30)[1]
    assert process.returncode != 0
    assert "interrupted: run the same command again" in said
    step = saved_step(root, "stopped")
    assert 3 <= step < EPOCHS * STEPS

    process = start(root, "stopped", **LONG, save_every=0)
    wait_for_step(root, "stopped", step + 3, process)
    children = subprocess.run(("pgrep", "-P", str(process.pid)), capture_output=True, text=True, check=True).stdout
    victim = max(int(child) for child in children.split())
    rank = re.search(r"\0RANK=(\d+)", "\0" + Path(f"/proc/{victim}/environ").read_text())[1]
    os.kill(victim, signal.SIGKILL)
    said = process.communicate(timeout=LIMIT)[1]
    assert process.returncode != 0
    assert re.search(rf"Root Cause.*rank +: {rank} .*Signal 9 \(SIGKILL\) received by PID {victim}", said, re.DOTALL)
    assert "this is a bug" not in said
    assert step < saved_step(root, "stopped") < EPOCHS * STEPS

    finish(start(root, "stopped", **LONG))
    assert last_weights(root, "stopped") == last_weights(root, "undisturbed")
    assert losses(root, "stopped", EPOCHS) == losses(root, "undisturbed", EPOCHS)


def test_more_processes_than_images_in_a_batch_are_refused_before_anything_is_written(root, monkeypatch):
    monkeypatch.setattr(pretrain, "check_batch", lambda batch_size, size: check_batch(batch_size, 16))
    with pytest.raises(ConfigError, match="16 processes can't divide a batch of 15 images"):
        train(root, "refused", **COMMON | {"data_dir": root / "data"})
    assert not (root / "runs" / "refused").exists()
