"""Every stage killed with SIGKILL at random instants and started again ends with the output of an undisturbed one.

The stages run in children of a fork server that has everything imported, so a kill costs a fraction of a second.
PRETEXT_KILLS sets how often each stage is killed (default 3, times PRETEXT_FAULTS).
"""

from __future__ import annotations

import os
import random
import shutil

import pytest
from fault_counts import FACTOR, count
from stage_runs import CONTEXT, STAGES, check_done, compare, contents, finish, leftovers, run_stage

KILLS = int(os.environ.get("PRETEXT_KILLS", 3 * FACTOR))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.timeout(300 * FACTOR)
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
            check_done(killed)
        else:  # it was through before the kill: look at it, aim earlier, and begin anew
            seconds = 0.7 * seconds
            compare(expected, contents(killed))
            shutil.rmtree(killed)
            shutil.copytree(chain, killed)
    assert kills, "every attempt was over before it was killed"
    count("SIGKILL at a random instant", tried=kills, survived=0)
    finish(stage, killed)
    compare(expected, contents(killed))
    assert not leftovers(killed)
    count("SIGKILL at a random instant", tried=0, survived=kills)
