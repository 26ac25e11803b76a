"""Pretext losses beside what one constant answer would have scored."""

from __future__ import annotations

import math

import pytest

from pretext.reports.loss_tables import pretext_losses_table, whole_losses


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def test_every_head_and_their_sum_are_compared_with_a_constant(workshop):
    workshop.add_color("a", space="lab", learned=0.6)
    table = pretext_losses_table(workshop.compare())
    rows = {row["prediction"]: row for row in _records(table)}
    assert list(rows) == ["all", "L to ab", "ab to L"]
    assert rows["L to ab"]["constant_loss"] == pytest.approx(2.5)
    assert rows["L to ab"]["val_loss"] == pytest.approx(2.2)
    assert rows["all"]["val_loss"] == pytest.approx(rows["L to ab"]["val_loss"] + rows["ab to L"]["val_loss"])
    assert rows["all"]["difference"] == pytest.approx(-0.6)
    assert rows["all"]["share"] == pytest.approx(-0.6 / 5.7)
    assert table.rows[0][:3] == ("simplenet5-split-brain-lab", "a", 0)
    assert table.note.endswith("below 0 means that something was learned.")


def test_learning_nothing_is_above_zero(workshop):
    workshop.add_color("a", learned=-0.3)
    (row,) = _records(whole_losses(pretext_losses_table(workshop.compare())))
    assert row["difference"] == pytest.approx(0.3)
    assert row["share"] > 0


def test_colour_spaces_compare_by_their_differences_not_by_their_losses(workshop):
    workshop.add_color("a", space="rgb", learned=1.0)
    workshop.add_color("b", space="lab", learned=0.2)
    rows = {row["run"]: row for row in _records(whole_losses(pretext_losses_table(workshop.compare())))}
    assert rows["a"]["val_loss"] > rows["b"]["val_loss"]
    assert rows["a"]["difference"] < rows["b"]["difference"]


def test_whole_table_leaves_out_heads_and_what_is_empty(workshop):
    workshop.add("a")
    workshop.add("b", seed=1)
    table = pretext_losses_table(workshop.compare())
    assert [column.key for column in whole_losses(table).columns] == ["method", "run", "seed", "val_loss"]
    assert [row["val_loss"] for row in _records(whole_losses(table))] == [0.01, 0.01]
    assert table.note == ""


def test_one_head_is_not_said_twice(workshop):
    workshop.add("a", summary={"best_val_loss": 9.0, "constant_loss": 3.0, "val_losses": {"ab": 2.5},
                               "constant_losses": {"ab": 3.0}})  # fmt: skip
    (row,) = _records(pretext_losses_table(workshop.compare()))
    assert (row["prediction"], row["val_loss"]) == ("all", 2.5), "what training chose by may be weighted"


def test_seeds_of_a_method_follow_each_other_and_controls_have_no_loss(workshop):
    for name, seed in (("a", 1), ("b", 0)):
        workshop.add_color(name, seed=seed)
    workshop.add_color("r", space=None)
    assert [row["run"] for row in _records(whole_losses(pretext_losses_table(workshop.compare())))] == ["b", "a"]


@pytest.mark.parametrize("value", [None, "low", math.nan, True, [1.0]])
def test_loss_that_is_no_number_is_left_out(workshop, value):
    workshop.add("a")
    (run,) = workshop.gather()
    run.manifest["summary"]["best_val_loss"] = value
    from pretext.reports.compare import compare

    assert pretext_losses_table(compare([run])).rows == []


@pytest.mark.parametrize("value", ["many", [1, 2], {"ab": "x", "L": None}])
def test_heads_that_are_no_numbers_leave_the_whole(workshop, value):
    workshop.add_color("a")
    (run,) = workshop.gather()
    run.manifest["summary"]["val_losses"] = value
    from pretext.reports.compare import compare

    (row,) = _records(pretext_losses_table(compare([run])))
    assert row["val_loss"] == pytest.approx(5.1)


def test_constant_of_zero_has_no_share(workshop):
    workshop.add("a", summary={"best_val_loss": 0.0, "constant_loss": 0.0})
    (row,) = _records(pretext_losses_table(workshop.compare()))
    assert (row["difference"], row["share"]) == (0.0, None)
