"""Turns are counted, ratios taken round by round, and the table says what was measured."""

import itertools
import math

import pytest
import torch

from pretext.bench import measure
from pretext.bench.ceilings import measure_ceilings
from pretext.bench.document import HEADER, ceiling_share, make_document, to_table
from pretext.bench.measure import Contender, median_seconds, race
from pretext.training.device import Compute

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only work moves on."""

    class Clock:
        now = 0.0

        def contender(self, what, durations, items=1, goal=None):
            endless = itertools.chain(durations, itertools.repeat(durations[-1]))
            return Contender(what, lambda: self.pass_time(next(endless)), items, goal)

        def pass_time(self, seconds):
            self.now += seconds

    own = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: own.now)
    return own


def run(ours, against, **options):
    (row,) = race(ours, against, part="loss", unit="images", device=CPU.device, **{"seconds": 0, "least": 4} | options)
    return row


def test_ratio_is_the_median_over_rounds_and_rates_are_in_items(clock):
    # The first round warms up. Ours 1, 2, 4, 4 s for 8 images; the other 2, 8, 4, 12 s for 4.
    ours, against = clock.contender("ours", [9, 1, 2, 4, 4], 8), clock.contender("plain", [9, 2, 8, 4, 12], 4)
    row = run(ours, against)
    assert (row.rounds, row.what, row.against) == (4, "ours", "plain")
    assert row.ratio == pytest.approx(5.0)  # of 4, 8, 2, 6
    assert row.ratio_iqr == pytest.approx(6.5 - 3.5)
    assert row.per_s == pytest.approx(3.0)  # of 8, 4, 2, 2
    assert row.against_per_s == pytest.approx((4 / 8 + 4 / 4) / 2)  # of 4/2, 4/8, 4/4, 4/12


def test_several_rivals_share_the_rounds(clock):
    ours = clock.contender("ours", [9, 1, 2, 3])
    rows = race(ours, clock.contender("slow", [4], goal=2), clock.contender("fast", [1], items=2), part="loss",
                unit="images", device=CPU.device, seconds=0)  # fmt: skip
    assert [(row.what, row.against, row.goal, row.rounds) for row in rows] == [
        ("ours", "slow", 2, 3),
        ("ours", "fast", None, 3),
    ]
    assert [row.ratio for row in rows] == [2, 0.25]
    assert rows[0].per_s == rows[1].per_s == 0.5


def test_a_machine_that_slows_down_leaves_the_ratio_alone(clock):
    slowing = [1, 1, 2, 4, 8, 16]
    row = run(clock.contender("ours", slowing), clock.contender("plain", [3 * s for s in slowing]), least=5)
    assert (row.ratio, row.ratio_iqr) == (pytest.approx(3), pytest.approx(0))
    assert row.per_s_iqr > 0


def test_rounds_go_on_until_the_time_is_spent(clock):
    row = run(clock.contender("ours", [1]), clock.contender("plain", [1]), seconds=20)
    assert row.rounds == 10


def test_a_slow_contender_is_still_timed_as_often_as_was_asked_at_the_least(clock):
    assert run(clock.contender("ours", [1]), clock.contender("plain", [1000]), seconds=1, least=2).rounds == 2


def test_median_seconds_leaves_the_first_call_out(clock):
    contender = clock.contender("one", [100, 1, 5, 2, 4, 3])
    assert median_seconds(contender.work, CPU.device, rounds=5) == 3


def test_ceilings_are_measured_in_every_arithmetic_that_is_used(monkeypatch):
    monkeypatch.setattr("pretext.bench.ceilings.COPY_BYTES", 1 << 20)
    monkeypatch.setattr("pretext.bench.ceilings.SIDES", {"cpu": 64})
    assert set(measure_ceilings(CPU)) == {"copy_bytes_per_s", "matmul_fp32_flops_per_s"}
    both = measure_ceilings(Compute(torch.device("cpu"), "bf16"))
    assert set(both) == {"copy_bytes_per_s", "matmul_fp32_flops_per_s", "matmul_bf16_flops_per_s"}
    assert all(value > 0 and math.isfinite(value) for value in both.values())


def test_the_table_tells_goals_shares_and_notes(clock):
    met = run(clock.contender("fast", [1]), clock.contender("plain", [9], goal=8), bytes_each=3e9)
    missed = run(clock.contender("slow", [1]), clock.contender("plain", [4], goal=5), note="a part of it",
                 flops_each=1e12, arithmetic="bf16")  # fmt: skip
    ceilings = {"copy_bytes_per_s": 6e9, "matmul_fp32_flops_per_s": 1e12, "matmul_bf16_flops_per_s": 4e12}
    document = make_document(["loss"], [met, missed], ceilings, CPU, 3.0)
    lines = to_table(document).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(HEADER)
    assert "| 8 | 50 % copy |" in lines[2]
    assert "| 5 (missed) | 25 % bf16 product |" in lines[3]
    assert "fp32 product 1.00 TFLOP/s, bf16 product 4.00 TFLOP/s; 3 s in all." in lines[5]
    assert lines[-1] == "- slow: a part of it"


def test_nothing_is_said_of_a_ceiling_that_does_not_bound_the_work(clock):
    row = run(clock.contender("ours", [1]), clock.contender("plain", [1])).as_json()
    assert ceiling_share(row, {"copy_bytes_per_s": 1.0}) == ""
