"""A training that ended well is no proof that all was well: what the report warns of."""

from __future__ import annotations

import pytest

from pretext.artifacts.metrics import read_metrics, write_metrics
from pretext.reports.answer import warnings
from pretext.reports.troubles import is_collapsed, is_jump


def _lines(workshop, word):
    return [line for line in warnings(workshop.compare()) if word in line]


@pytest.mark.parametrize(
    ("rank", "largest", "collapsed"),
    [(1.0, 512, True), (11.0, 512, True), (11.5, 512, False), (1.01, 2, True), (1.5, 2, False), (1.0, 1, False)],
)
def test_features_collapsed_where_they_span_a_fiftieth_of_the_way_from_one_direction_to_all(rank, largest, collapsed):
    assert is_collapsed({"effective_rank": rank, "largest_rank": largest}) is collapsed


@pytest.mark.parametrize(
    "features", [None, {}, {"effective_rank": "1", "largest_rank": 9}, [], {"effective_rank": 1.0}]
)
def test_a_run_that_says_nothing_of_them_is_no_trouble(features):
    assert not is_collapsed(features)


def test_a_collapse_is_told_with_its_run_and_numbers(workshop):
    workshop.add("a", summary={"features": {"effective_rank": 1.2, "largest_rank": 64}})
    workshop.add("b", summary={"features": {"effective_rank": 30.0, "largest_rank": 64}}, loss="l1")
    (line,) = _lines(workshop, "collapsed")
    assert line.endswith("(effective rank): a (1.2 of 64).")


def test_a_jump_is_told_where_it_was_highest(workshop):
    layout = workshop.add("a", epochs=20)
    workshop.add("b", loss="l1")
    rows = read_metrics(layout.metrics)
    for row, ratio in zip(rows, [None, 0.9, 2.5, 7.0], strict=False):
        row["train/loss_over_median"] = ratio
    size = layout.metrics.stat().st_size
    write_metrics(layout.metrics, rows)
    workshop_manifest_of(layout, size)
    (line,) = _lines(workshop, "jumped")
    assert line == "The training loss of these jumped far above its running median: a (7.0 times, epoch 4.0)."


def workshop_manifest_of(layout, before):
    """Keep the manifest true to the curve."""
    from pretext.artifacts.atomic import file_sums, read_json, write_json

    content = read_json(layout.manifest)
    assert content["outputs"][layout.metrics.name]["bytes"] == before
    content["outputs"][layout.metrics.name] = file_sums(layout.metrics)
    write_json(layout.manifest, content)


def test_steps_that_were_left_out_are_told(workshop):
    workshop.add("a", summary={"skipped_steps": 3, "rewinds": 0})
    workshop.add("b", summary={"skipped_steps": 0, "rewinds": 0}, loss="l1")
    assert _lines(workshop, "no number") == [
        "In the training of these a loss or gradient was no number: a (3 steps skipped, 0 rewinds)."
    ]


def test_rows_of_older_curves_have_no_jump():
    assert not is_jump({"train/loss": 1.0})
    assert is_jump({"train/loss_over_median": 2.1})
    assert not is_jump({"train/loss_over_median": 2.0})


def test_many_runs_are_counted(workshop):
    for number in range(5):
        workshop.add(f"a{number}", seed=number, summary={"features": {"effective_rank": 1.0, "largest_rank": 64}})
    assert _lines(workshop, "collapsed")[0].endswith("(effective rank): 5 runs.")
