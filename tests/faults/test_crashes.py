"""Every stage killed with SIGKILL at a write, flush, rename or removal of a file ends, started again, with the same bits.

PRETEXT_FAULTS multiplies how many operations of each stage are tried, up to all of them, and lets slow stages in.
"""

from __future__ import annotations

import random
import signal

import pytest
from fault_counts import FACTOR, attempt
from file_faults import Fault
from stage_runs import STAGES, check_whole, compare, contents, leftovers, run_faulty

KILLS = 1 if FACTOR == 1 else 3 * FACTOR
CHOSEN = STAGES if FACTOR > 1 else ("prepare", "train", "extract", "probe-mlp", "fine-tune")


@pytest.mark.parametrize("stage", CHOSEN)
@pytest.mark.timeout(300 * FACTOR)
def test_a_stage_killed_at_a_file_operation_ends_as_if_it_had_not_been(stage, chains, tmp_path):
    expected, log = chains.undisturbed(stage)
    points = [(number, when) for number, (kind, _) in enumerate(log, start=1)
              for when in ("before", "half", "after") if when != "half" or kind == "write"]  # fmt: skip
    told = tmp_path / "told"
    for number, when in random.Random(f"{stage} {FACTOR}").sample(points, min(KILLS, len(points))):
        with attempt("SIGKILL at a file operation"):
            root = chains.fresh()
            killed = run_faulty(stage, root, Fault(number, "kill", when), told)
            where = f"killed {when} operation {number}, {log[number - 1]}"
            assert killed.code == -signal.SIGKILL, where
            check_whole(root, expected, chains.before)
            resumed = run_faulty(stage, root, None, told)
            assert resumed.code == 0, f"{where}: {resumed.said}"
            compare(expected, contents(root))
            assert not leftovers(root), where


@pytest.mark.parametrize("stage", [stage for stage in CHOSEN if FACTOR > 1 or stage in ("train", "extract")])
@pytest.mark.timeout(300 * FACTOR)
def test_a_stage_killed_again_and_again_at_file_operations_ends_as_if_it_had_not_been(stage, chains, tmp_path):
    expected, log = chains.undisturbed(stage)
    chance, root = random.Random(f"again {stage} {FACTOR}"), chains.fresh()
    for _ in range(3 + FACTOR):
        with attempt("SIGKILL again while going on"):
            fault = Fault(chance.randint(1, max(1, len(log) // 3)), "kill", chance.choice(["before", "half", "after"]))
            ending = run_faulty(stage, root, fault, tmp_path / "told")
            assert ending.code in (0, -signal.SIGKILL), ending.said
            check_whole(root, expected, chains.before)
    ending = run_faulty(stage, root, None, tmp_path / "told")
    assert ending.code == 0, ending.said
    compare(expected, contents(root))
    assert not leftovers(root)


def test_a_report_killed_right_after_it_took_its_lock_or_before_it_let_go_is_tidied_up(chains, tmp_path):
    root = chains.fresh()
    for name in (".manifest.json.lock", ".manifest.json.tmp"):
        (root / "report").mkdir(exist_ok=True)
        (root / "report" / name).touch()
    for _ in range(2):
        ending = run_faulty("report", root, None, tmp_path / "told")
        assert ending.code == 0, ending.said
        assert not leftovers(root)
        (root / "report" / ".manifest.json.lock").touch()


@pytest.mark.parametrize("stage", CHOSEN)
def test_what_gets_a_final_name_was_flushed_before_and_its_folder_after(stage, chains):
    """So that a crash of the machine, unlike one of the process, leaves no empty file under a final name either."""
    _, log = chains.undisturbed(stage)
    flushed, unsettled = set(), set()
    for kind, name in log:
        folder = name.rpartition("/")[0] or "."
        if kind in ("open", "write"):
            flushed.discard(name)
        elif kind == "fsync":
            flushed.add(name)
            unsettled.discard(name)
        elif kind == "replace":
            assert name in flushed, f"{name} took its final name before it was flushed"
            unsettled.add(folder)
    assert not unsettled, f"not flushed after a rename: {unsettled}"
