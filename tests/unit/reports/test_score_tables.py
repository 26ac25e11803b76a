"""The numbers in the tables are those of the prediction files."""

from __future__ import annotations

import numpy as np
import pytest

from pretext.artifacts.results import read_predictions
from pretext.reports.naming import EVALUATION_NAMES
from pretext.reports.score_tables import (
    FILLED,
    HOLLOW,
    best_table,
    few_label_points,
    few_labels_table,
    is_significant,
    matrix,
    pairs_table,
    per_run_table,
    results_table,
    seeds_table,
)

STEMS = {label: stem for stem, label in EVALUATION_NAMES.items()}


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def _recomputed(layout, stem):
    predictions = read_predictions(layout.predictions(stem))
    rank_N = [int((prob_K >= prob_K[label]).sum()) - 1
              for prob_K, label in zip(predictions.prob_NK, predictions.label_N, strict=True)]  # fmt: skip
    return {f"top{k}": np.mean([rank < k for rank in rank_N]) for k in (1, 2, 4, 5)}, predictions.rank_NF


def test_every_result_equals_what_its_predictions_give(study):
    runs = {run.name: run.layout for run in study.runs}
    checked = 0
    for evaluation in study.evaluations:
        rows = _records(results_table([evaluation]))
        assert [row["method"] for row in rows] == [entry.method.label for entry in evaluation.entries]
        for row, entry in zip(rows, evaluation.entries, strict=True):
            found = [_recomputed(runs[result.run], result.stem) for result in entry.results.values()]
            assert row["seeds"] == len(found)
            assert row["ensemble_top1"].value == pytest.approx(np.mean([own["top1"] for own, _ in found]), abs=1e-9)
            for k in (2, 4, 5):
                assert row[f"ensemble_top{k}"] == pytest.approx(np.mean([own[f"top{k}"] for own, _ in found]), abs=1e-9)
            fold_SF = np.array([(rank_NF == 0).mean(axis=0) for _, rank_NF in found])
            assert row["fold_top1"].mean == pytest.approx(fold_SF.mean(), abs=1e-9)
            assert row["fold_top1"].sd == pytest.approx(fold_SF.std(axis=1, ddof=1).mean(), abs=1e-9)
            low, high = row["ensemble_top1"].interval
            assert low < row["ensemble_top1"].value < high
            checked += 1
    assert checked == 17


def test_per_run_rows_equal_what_their_predictions_give(study):
    runs = {run.name: run.layout for run in study.runs}
    rows = _records(per_run_table(study.evaluations))
    assert len(rows) == sum(len(run.results) for run in study.runs) == 31
    for row in rows:
        layout = runs[row["run"]]
        stem = "fine-tune-scratch" if row["method"] == "cnn-scratch" else STEMS[row["evaluation"]]
        found, rank_NF = _recomputed(layout, stem)
        assert row["ensemble_top1"].value == pytest.approx(found["top1"], abs=1e-9)
        assert (row["folds"], row["test_images"]) == (5, 400)
        assert rank_NF.shape == (400, 5)
        assert row["chosen"] == "C 0.01, 0.01, 0.01, 0.01, 0.01"
        assert row["chosen_on"] == "inner folds of each training set"


def test_evaluation_column_can_be_left_out(study):
    evaluation = study.evaluations[0]
    named, bare = results_table([evaluation]), results_table([evaluation], name_evaluation=False)
    assert [row[1:] for row in named.rows] == bare.rows
    assert list(named.columns[1:]) == list(bare.columns)


def test_pairs_and_seeds_tables_list_all_of_them(study):
    pairs, seeds = pairs_table(study.evaluations), seeds_table(study.evaluations)
    assert len(pairs.rows) == sum(len(evaluation.pairs) for evaluation in study.evaluations) > 0
    for row in _records(pairs):
        assert row["p_holm"] >= row["p"]
        assert row["difference"].value == pytest.approx((row["only_a"] - row["only_b"]) / 400)
    assert len(seeds.rows) == sum(len(evaluation.seed_differences) for evaluation in study.evaluations) > 0


def test_best_against_the_others(study):
    evaluation = study.evaluations[0]
    table = best_table(evaluation)
    assert table.title == f"{evaluation.entries[0].method.label} against the others"
    assert [row[0] for row in table.rows] == [entry.method.label for entry in evaluation.entries[1:]]
    by_other = {row[0]: row for row in table.rows}
    single = by_other["cnn-l1"]
    assert single[3] == 1
    assert single[4] is None
    assert "," not in single[1]
    assert by_other["pixels"][3] == 2
    assert by_other["pixels"][4].interval is not None


def test_matrix_has_a_dot_for_each_seed(study):
    evaluation = study.evaluations[0]
    methods = [entry.method for entry in evaluation.entries]
    grid = matrix(evaluation)
    assert grid.labels == [method.label for method in methods]
    sorts = set()
    for i, a in enumerate(methods):
        for j, b in enumerate(methods):
            text, dots, sort = grid.cells[i][j]
            sorts.add(sort)
            if i == j:
                assert (text, dots, sort) == ("", "", "self")
                continue
            tests = evaluation.tests_of(a, b)
            assert dots == "".join(FILLED if is_significant(test) else HOLLOW for test in tests)
            mean = np.mean([test.difference for test in tests])
            assert float(text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(100 * mean, abs=0.051)
            assert (sort == "open") == (HOLLOW in dots)
            assert (sort == "ahead") <= (mean > 0)
    assert sorts == {"self", "open", "ahead", "behind"}


def test_what_was_chosen_from_is_left_to_the_result_file(workshop, change_result):
    def alter(content):
        content["folds"][0]["chosen"] = {"C": 0.5, "by": "heldout", "table": [{"C": 0.5, "loss": 1.0}]}

    change_result(workshop.add("a", ("probe-linear", 1.0)), "probe-linear", alter)
    (row,) = _records(per_run_table(workshop.compare().evaluations))
    assert row["chosen"] == "C 0.5, 0.01, 0.01, 0.01, 0.01; by heldout"


def test_no_matrix_of_two(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.0), loss="l1")
    assert matrix(workshop.compare().evaluations[0]) is None


def test_few_labels_pool_draws_and_seeds(study):
    evaluation = study.evaluations[0]
    entry = evaluation.entries[0]
    points = few_label_points(entry)
    assert [point.labels_per_class for point in points] == [1, 2, 4, 8, 16, 32, 64]
    rows = [row["top1"] for result in entry.results.values() for row in result.content["labels_per_class"]
            if row["labels_per_class"] == 8]  # fmt: skip
    point = points[3]
    assert len(point.scores) == 6
    assert point.mean == pytest.approx(np.mean(rows), abs=1e-9)
    assert point.sd == pytest.approx(np.std(rows, ddof=1), abs=1e-9)
    table = few_labels_table(study.evaluations)
    assert len(table.rows) == 7 * 4
    assert table.rows[0][:5] == (evaluation.label, entry.method.label, 1, 6, "class by class")
    assert [column.key for column in table.columns][5:] == ["top1"], "five guesses are half of ten classes"
    assert table.note == ""


def test_sets_drawn_regardless_of_class_are_points_of_their_own(workshop):
    for seed, unstratified in ((0, False), (1, True)):
        layout = workshop.add(f"a{seed}", seed=seed)
        workshop.fab.make_result(layout, "probe-linear", workshop.data, quality=1.0, seed=seed, curve=(1, 8),
                                 unstratified=unstratified)  # fmt: skip
    study = workshop.compare()
    points = few_label_points(study.evaluations[0].entries[0])
    assert [(point.is_stratified, point.labels_per_class, len(point.scores)) for point in points] == [
        (True, 1, 3), (True, 8, 3), (False, 1, 3), (False, 8, 3)]  # fmt: skip
    table = few_labels_table(study.evaluations)
    assert [row[4] for row in table.rows] == ["class by class"] * 2 + ["regardless of class"] * 2
    assert table.note == "Of sets drawn regardless of class, a class may have no label at all."


def test_top5_is_shown_of_many_classes(workshop, change_result):
    layout = workshop.add("a")
    workshop.fab.make_result(layout, "probe-linear", workshop.data, quality=1.0, seed=0, curve=(1,))
    change_result(layout, "probe-linear", lambda content: content["data"].update(class_names=[*"abcdefghijk"]))
    table = few_labels_table(workshop.compare().evaluations)
    assert _records(table)[0]["top5"].mean == pytest.approx(0.8)


def test_one_few_label_draw_has_no_spread():
    from pretext.reports.score_tables import FewLabelPoint

    assert FewLabelPoint(1, (0.5,)).sd is None
