"""A training of many steps and many saved states: memory, open files, threads and what is on disk stay as they are.

Ten thousand steps where PRETEXT_FAULTS is more than 1.
"""

from __future__ import annotations

import gc
import mmap
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from fault_counts import FACTOR, count
from tiny_chain import prepare, train

from pretext.artifacts import atomic
from pretext.stages import pretrain

STEPS = 500 if FACTOR == 1 else 10_000
EVERY = 100  # steps between two looks; an epoch is 25
MOST_MIB = 8.0  # that memory may have grown at the end; a state is about one, and hundreds are saved


def memory_mib() -> float:
    """What the process itself holds in memory, without mapped files."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


def look(folder: Path) -> dict[str, object]:
    gc.collect()
    resume = sorted((folder / "resume").iterdir())
    return {"memory": memory_mib(), "handles": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "tasks": len(os.listdir("/proc/self/task")), "files": len(resume), "beside": len(list(folder.iterdir())),
            "bytes": sum(path.stat().st_size for path in resume if path.suffix == ".safetensors")}  # fmt: skip


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """One look every so many steps of a training that saves its state every few steps."""
    monkeypatch.setattr(atomic.os, "fsync", lambda number: None)
    prepare(tmp_path, image_size=16, num_unlabeled=236, num_train=10, num_test=10)
    found, folder, fit = [], tmp_path / "runs" / "run", pretrain.fit
    steps = 0

    def watched(*args, task, **more):
        class Watching:
            def advance(self, amount=1, **facts):
                nonlocal steps
                task.advance(amount, **facts)
                steps += amount
                if amount and steps % EVERY == 0:
                    found.append(look(folder))

        return fit(*args, task=Watching(), **more)

    monkeypatch.setattr(pretrain, "fit", watched)
    train(tmp_path, epochs=STEPS // 25, batch_size=8, save_every=0.1, log_every=50, loss="mse", augment="small", width=0.0625,
          lr=1e-5)  # fmt: skip
    assert steps == STEPS
    assert not (folder / "resume").exists()
    return found


def test_memory_files_threads_and_states_stay_as_they_are(looks):
    assert len(looks) == STEPS // EVERY >= 5
    settled = looks[1:]
    for name in ("handles", "threads", "tasks", "files", "beside", "bytes"):
        assert len({entry[name] for entry in settled}) == 1, (name, [entry[name] for entry in looks])
    assert settled[0]["files"] == 2, "facts and tensors"
    memory = np.array([entry["memory"] for entry in settled])
    half = len(memory) // 2
    assert np.median(memory[half:]) - np.median(memory[: max(1, half)]) < MOST_MIB, memory
    count("soak, steps", STEPS, STEPS)


def test_what_is_kept_would_be_seen():
    before = memory_mib()
    # Not a tensor: earlier tests may have left this process memory that it would lie in.
    with mmap.mmap(-1, 2 * int(MOST_MIB) * 2**20, flags=mmap.MAP_PRIVATE) as kept:
        kept.write(b"1" * len(kept))
        assert memory_mib() - before > MOST_MIB
