"""Scores, differences and few-label curves as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretext.reports.compare import Entry, Evaluation, PairTest
from pretext.reports.grouping import Method
from pretext.reports.tables import GROUP, Column, Estimate, Spread, Table, p_value, points
from pretext.statistics.bootstrap import bootstrap_interval

SIGNIFICANT = 0.05
FEW_CLASSES = 10  # with no more, five guesses are half of them
MATRIX_METHODS = 12  # more columns do not fit on paper
EVALUATION = Column(GROUP, "Evaluation")
FILLED, HOLLOW = "\N{BLACK CIRCLE}", "\N{WHITE CIRCLE}"


@dataclass(frozen=True, slots=True)
class FewLabelPoint:
    """One method's score with so many labels per class: every draw of every seed, fractions.

    Attributes:
        is_stratified: Whether every class has as many labels; None where the results do not say.
        scores: Top-1.
        top5: Top-5, where there are classes enough for it to mean anything.
    """

    labels_per_class: int
    scores: tuple[float, ...]
    is_stratified: bool | None = True
    top5: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def sd(self) -> float | None:
        return _spread(self.scores).sd


def _spread(scores: Sequence[float]) -> Spread:
    return Spread(float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else None)


def results_table(evaluations: Sequence[Evaluation], *, name_evaluation: bool = True) -> Table:
    """One row per method: the ensemble's score and how far it would move over test images, seeds and folds."""
    columns = [
        Column("method", "Method"), Column("seeds", "Seeds", "count"),
        Column("ensemble_top1", "Ensemble top-1, % (95 % over test images)", "estimate"),
        Column("seed_sd", "sd over seeds", "percent"),
        Column("fold_top1", "One fold's model, % (sd over folds)", "spread"),
        Column("ensemble_top2", "Top-2, %", "percent"), Column("ensemble_top4", "Top-4, %", "percent"),
        Column("ensemble_top5", "Top-5, %", "percent"), Column("ensemble_loss", "Log-loss, nats", "decimal"),
    ]  # fmt: skip
    rows = [
        (evaluation.label, entry.method.label, len(entry.results), Estimate(entry.top1, entry.image_interval),
         entry.seed_sd, Spread(entry.fold_mean, entry.fold_sd),
         *(entry.mean_of("ensemble", name) for name in ("top2", "top4", "top5", "loss")))
        for evaluation in evaluations for entry in evaluation.entries
    ]  # fmt: skip
    note = ("Mean over seeds of the fold models' ensemble. The interval is a bootstrap over test images; the sd over "
            "seeds needs two seeds or more.")  # fmt: skip
    return _named(Table("results", "Results by method", columns, rows, note), name_evaluation)


def headline_table(evaluations: Sequence[Evaluation]) -> Table:
    """The results in as few columns as a terminal has room for."""
    table = results_table(evaluations)
    kept = table.columns[:6]
    return Table(table.name, table.title, kept, [row[: len(kept)] for row in table.rows], table.note)


def per_run_table(evaluations: Sequence[Evaluation], *, name_evaluation: bool = True) -> Table:
    """One row per run: nothing averaged over seeds."""
    columns = [
        Column("method", "Method"), Column("run", "Run"), Column("seed", "Seed", "count"),
        Column("ensemble_top1", "Ensemble top-1, % (95 % over test images)", "estimate"),
        Column("fold_top1", "One fold's model, % (sd over folds)", "spread"), Column("folds", "Folds", "count"),
        Column("test_images", "Test images", "count"), Column("chosen", "Chosen, by fold"),
        Column("chosen_on", "Chosen on"),
    ]  # fmt: skip
    rows = []
    for evaluation in evaluations:
        for entry in evaluation.entries:
            for seed, result in entry.results.items():
                content = result.content
                score = Estimate(content["ensemble"]["top1"], bootstrap_interval(result.correct_N))
                folds = Spread(content["mean"]["top1"], (content["sd"] or {}).get("top1"))
                rows.append((evaluation.label, entry.method.label, result.run, seed, score, folds,
                             len(content["folds"]), len(result.ids), _chosen(content["folds"]),
                             str(content["selected_on"])))  # fmt: skip
    return _named(Table("results-per-run", "Results by run", columns, rows), name_evaluation)


def _chosen(folds: Sequence[Mapping[str, Any]]) -> str:
    """What was chosen for each fold's model, such as its number of neighbours; not what it was chosen from, a list."""
    values: dict[str, list[str]] = {}
    for fold in folds:
        for name, value in (fold.get("chosen") or {}).items():
            if not isinstance(value, (list, dict)):
                values.setdefault(name, []).append(f"{value:g}" if isinstance(value, float) else str(value))
    return "; ".join(f"{name} {', '.join(found)}" for name, found in values.items())


def pairs_table(evaluations: Sequence[Evaluation]) -> Table:
    """Every paired test on the same test images."""
    columns = [
        EVALUATION, Column("a", "A"), Column("b", "B"), Column("seed_a", "Seed of A", "count"),
        Column("seed_b", "Seed of B", "count"), Column("only_a", "Only A right", "count"),
        Column("only_b", "Only B right", "count"),
        Column("difference", "A - B, points (95 % over test images)", "points-estimate"),
        Column("p", "p (McNemar)", "p"), Column("p_holm", "p (Holm)", "p"),
    ]  # fmt: skip
    rows = [
        (evaluation.label, test.a.label, test.b.label, *test.seeds, test.only_a, test.only_b,
         Estimate(test.difference, test.interval), test.p_value, test.p_holm)
        for evaluation in evaluations for test in evaluation.pairs
    ]  # fmt: skip
    note = "Exact McNemar tests; Holm's correction is over all tests of one evaluation."
    return Table("pairs", "Paired tests on test images", columns, rows, note)


def seeds_table(evaluations: Sequence[Evaluation]) -> Table:
    """Differences over seeds, where both methods have two or more."""
    columns = [
        EVALUATION, Column("a", "A"), Column("b", "B"), Column("seeds", "Seeds", "count"),
        Column("difference", "A - B, points (95 % over seeds)", "points-estimate"),
        Column("image_difference", "The same (95 % over test images)", "points-estimate"),
    ]  # fmt: skip
    rows = [(evaluation.label, found.a.label, found.b.label, found.num_seeds, Estimate(found.mean, found.interval),
             Estimate(found.mean, found.image_interval))
            for evaluation in evaluations for found in evaluation.seed_differences]  # fmt: skip
    note = "Over seeds: Student-t over the per-seed differences; over test images: paired bootstrap. Uncorrected."
    return Table("seeds", "Differences over seeds", columns, rows, note)


def best_table(evaluation: Evaluation) -> Table:
    """The best method against each of the others."""
    best = evaluation.entries[0].method
    columns = [
        Column("other", "Compared with"), Column("per_seed", "Ahead by, points, each seed"),
        Column("p_holm", "McNemar p (Holm), each seed"), Column("seeds", "Seeds", "count"),
        Column("difference", "Points (95 % over seeds)", "points-estimate"),
    ]  # fmt: skip
    rows = []
    for entry in evaluation.entries[1:]:
        tests = evaluation.tests_of(best, entry.method)
        over_seeds = evaluation.seed_difference(best, entry.method)
        rows.append((entry.method.label, ", ".join(points(test.difference) for test in tests),
                     ", ".join(p_value(test.p_holm) for test in tests), len(tests),
                     Estimate(over_seeds.mean, over_seeds.interval) if over_seeds else None))  # fmt: skip
    return Table("best", f"{best.label} against the others", columns, rows)


@dataclass(frozen=True, slots=True)
class Matrix:
    """All pairs at a glance: row minus column in points, with one dot per seed, filled where p (Holm) < 0.05."""

    labels: list[str]
    cells: list[list[tuple[str, str, str]]]  # text, dots, sort: ahead, behind, open or self
    note: str = ("One dot per seed, filled where McNemar's p after Holm's correction is below 0.05; shaded where that "
                 "holds for every seed.")  # fmt: skip


def matrix(evaluation: Evaluation) -> Matrix | None:
    """The matrix of paired differences; None where there is nothing to compare, or too much for a page."""
    methods = [entry.method for entry in evaluation.entries]
    if not 2 < len(methods) <= MATRIX_METHODS:
        return None
    return Matrix([method.label for method in methods], [[_cell(evaluation, a, b) for b in methods] for a in methods])


def _cell(evaluation: Evaluation, a: Method, b: Method) -> tuple[str, str, str]:
    if a is b:
        return "", "", "self"
    tests = evaluation.tests_of(a, b)
    difference = float(np.mean([test.difference for test in tests]))
    dots = "".join(FILLED if is_significant(test) else HOLLOW for test in tests)
    if not all(is_significant(test) for test in tests):
        return points(difference), dots, "open"
    return points(difference), dots, "ahead" if difference > 0 else "behind"


def is_significant(test: PairTest) -> bool:
    """Whether one paired test holds after the correction."""
    return test.p_holm < SIGNIFICANT


def few_label_points(entry: Entry) -> list[FewLabelPoint]:
    """A method's few-label curve over all draws and seeds, in order of labels; empty where none was run.

    Sets drawn class by class come first; those drawn regardless of class are points of their own.
    """
    found: dict[tuple[bool | None, int], list[Mapping[str, Any]]] = {}
    for result in entry.results.values():
        for row in result.content["labels_per_class"] or []:
            found.setdefault((result.is_stratified, row["labels_per_class"]), []).append(row)
    many = len(next(iter(entry.results.values())).content["data"].get("class_names") or []) > FEW_CLASSES
    points = []
    for (is_stratified, labels), rows in sorted(found.items(), key=lambda item: (item[0][0] is False, item[0][1])):
        top5 = tuple(row["top5"] for row in rows if many and "top5" in row)
        points.append(FewLabelPoint(labels, tuple(row["top1"] for row in rows), is_stratified, top5))
    return points


def few_labels_table(evaluations: Sequence[Evaluation]) -> Table:
    """Few-label curves in numbers."""
    columns = [
        EVALUATION, Column("method", "Method"), Column("labels_per_class", "Labels per class", "count"),
        Column("measurements", "Draws x seeds", "count"), Column("drawn", "Drawn"),
        Column("top1", "Top-1, % (sd over draws and seeds)", "spread"), Column("top5", "Top-5, % (sd)", "spread"),
    ]  # fmt: skip
    words = {True: "class by class", False: "regardless of class", None: ""}
    rows = [
        (evaluation.label, entry.method.label, point.labels_per_class, len(point.scores), words[point.is_stratified],
         _spread(point.scores), _spread(point.top5) if point.top5 else None)
        for evaluation in evaluations for entry in evaluation.entries for point in few_label_points(entry)
    ]  # fmt: skip
    regardless = any(row[4] == words[False] for row in rows)
    note = "Of sets drawn regardless of class, a class may have no label at all." if regardless else ""
    return Table("few-labels", "Few-label curves", columns, rows, note).compact()


def _named(table: Table, name_evaluation: bool) -> Table:
    """Keep or drop the rows' first cell, the evaluation."""
    if name_evaluation:
        table.columns = [EVALUATION, *table.columns]
    else:
        table.rows = [row[1:] for row in table.rows]
    return table
