"""SIGTERM and Ctrl-C save what is done and leave with code 130, a second one at once; going on ends with the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from fault_counts import FACTOR, attempt
from file_faults import Fault
from stage_runs import STAGES, check_whole, compare, contents, leftovers, run_command, run_faulty
from tiny_chain import TINY

CHOSEN = STAGES if FACTOR > 1 else ("train", "extract", "probe-mlp")
SENTENCE = "interrupted: run the same command again to go on from here"
INTERRUPTED = 130
pytestmark = pytest.mark.timeout(300 * FACTOR)


@pytest.mark.parametrize("stage", CHOSEN)
def test_a_signal_at_a_file_operation_ends_tidily_and_is_gone_on_from(stage, chains, tmp_path):
    expected, log = chains.undisturbed(stage)
    chance = random.Random(f"signal {stage} {FACTOR}")
    for turn in range(1 if FACTOR == 1 else 3 * FACTOR):
        with attempt("SIGTERM or Ctrl-C at a file operation"):
            root = chains.fresh()
            fault = Fault(chance.randint(1, len(log)), "signal", code=[signal.SIGTERM, signal.SIGINT][turn % 2])
            where = f"signal {fault.code} at operation {fault.number}, {log[fault.number - 1]}"
            ending = run_faulty(stage, root, fault, tmp_path / "told")
            if ending.code:  # at the very end the work may be done before the signal is heard
                assert ending.code == INTERRUPTED, f"{where}: {ending}"
                assert ending.said.splitlines()[-1] == SENTENCE, f"{where}: {ending.said}"
            assert not list(root.rglob(".*.tmp")), where
            check_whole(root, expected, chains.before)
            ending = run_faulty(stage, root, None, tmp_path / "told")
            assert ending.code == 0, f"{where}: {ending.said}"
            compare(expected, contents(root))
            assert not leftovers(root), where


def start(root, command):
    """A command of its own, as a shell starts it."""
    return subprocess.Popen([sys.executable, "-m", "pretext", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip


def end(process, seconds=60):
    """Its exit code and its stderr, when it has left."""
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said


def wait_for(path, process, seconds=120):
    stop = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < stop, f"{path} was never made"
        time.sleep(0.02)


def command_of(stage, name):
    """Seconds of work on the tiny chain, and the file that shows that it has begun."""
    tiny = [word for key, value in TINY.items() if key != "epochs"
            for word in (f"--{key.replace('_', '-')}", str(value))]  # fmt: skip
    run = ["runs/run", "--overwrite"]
    return {
        "pretrain": (["pretrain", "--epochs", "25", "--save-every", "1000", "--out", f"runs/{name}", *tiny],
                     f"runs/{name}/manifest.json"),
        "prepare-data": (["prepare-data", "shapes", "--name", name, "--num-unlabeled", "20000", "--workers", "2", "--shard-mb", "2"],
                         f"data/{name}/manifest.json"),
        "extract-features": (["extract-features", *run, "--layer", "conv1", "--pool", "flatten", "--batch-size", "1", "--device", "cpu"],
                             "runs/run/features-conv1.manifest.json"),
        "fine-tune": (["fine-tune", *run, "--k", "2", "--epochs", "60", "--device", "cpu"],
                      "runs/run/fine-tune-full.manifest.json"),
        "probe": (["probe", *run, "--kind", "mlp", "--epochs", "3000", "--device", "cpu"],
                  "runs/run/probe-mlp.manifest.json"),
    }[stage]  # fmt: skip


def final(files):
    """Names of what is neither a state to go on from, which a later one replaces, nor a lock."""
    return {name for name in files if "/resume/" not in name and not name.endswith(".lock")}


@pytest.mark.parametrize(
    "stage", ["pretrain", "prepare-data", "extract-features", "fine-tune", "probe"][: 1 if FACTOR == 1 else 5]
)
def test_a_command_that_is_told_to_stop_leaves_soon_and_goes_on_to_the_same_bits(stage, chains):
    with attempt("SIGTERM and Ctrl-C to a command"):
        root = chains.fresh()
        command, begun = command_of(stage, "signalled")
        first = start(root, command)
        wait_for(root / begun, first)
        first.send_signal(signal.SIGTERM)
        code, said = end(first)
        assert (code, said.splitlines()[-1]) == (INTERRUPTED, SENTENCE), said
        assert "Traceback" not in said
        saved = contents(root)

        again = [word for word in command if word != "--overwrite"]
        second = start(root, again)
        time.sleep(1 if FACTOR == 1 else 4)  # the short version meets it while it starts
        second.send_signal(signal.SIGINT)
        second.send_signal(signal.SIGINT)
        code, said = end(second)
        assert code in (INTERRUPTED, -signal.SIGINT, 0), said  # 0: it was through before
        assert final(saved) <= final(contents(root))

        assert run_command(again, root) == 0
        found = contents(root)
        assert not leftovers(root)
        root = chains.fresh()
        assert run_command(command, root) == 0
        compare(contents(root), found)
