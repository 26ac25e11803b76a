"""Published numbers, each followed by those of ours that can stand beside it, and whether the protocol is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretext.published import METRICS, PUBLISHED, PublishedFigure, matching
from pretext.reports.compare import Entry, Evaluation, Study
from pretext.reports.naming import layer_rank
from pretext.reports.tables import MARK, Column, Spread, Table

TITLES = ("Ensemble top-1, %", "Top-2, %", "Top-4, %", "One model top-1, %", "One model top-5, %")
ORDER = list(dict.fromkeys(figure.row for figure in PUBLISHED))
HEAD = (Column("who", "Whose"), Column("method", "Method"), Column("measured", "Measured"))
TAIL = (Column("same_protocol", "Same protocol?", MARK), Column("why", "Why not"))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One of our entries beside one published figure."""

    figure: PublishedFigure
    entry: Entry
    evaluation: Evaluation
    same: bool
    why: str


def published_tables(study: Study) -> tuple[list[Table], list[str]]:
    """The figures of whole networks, of single layers, of few labels; and the notes of those that are shown."""
    found = _neighbours(study)
    notes = dict.fromkeys(f"{near.figure.source}: {line}" for near in found for line in near.figure.note.splitlines())
    wholes = [near for near in found if not near.figure.layer and near.figure.labels_per_class is None]
    layers = [near for near in found if near.figure.layer]
    few = [near for near in found if near.figure.labels_per_class is not None]
    names = sorted({near.figure.layer for near in layers}, key=layer_rank)
    sizes = sorted({near.figure.labels_per_class or 0 for near in few})
    return [
        _wholes(wholes),
        _grid("published-layers", "Published figures of single layers beside ours", layers,
              {name: Column(name, f"{name}, %", "percent") for name in names}, lambda figure: figure.layer),
        _grid("published-few-labels", "Published few-label curves beside ours: %, by labels per class", few,
              {size: Column(f"labels_{size}", str(size), "percent") for size in sizes},
              lambda figure: figure.labels_per_class),
    ], list(notes)  # fmt: skip


def _neighbours(study: Study) -> list[Neighbour]:
    """Every pair of a published figure and an entry, in the order of the sources."""
    found = [Neighbour(figure, entry, evaluation, same, why)
             for evaluation in study.evaluations for entry in evaluation.entries
             for figure, same, why in matching(*_first(entry))
             if figure.layer or evaluation.is_primary]  # fmt: skip
    return sorted(found, key=lambda near: ORDER.index(near.figure.row))


def _first(entry: Entry) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    result = next(iter(entry.results.values()))
    manifest = next((run.manifest for run in entry.method.runs if run.name == result.run), None)
    protocol = {"stratified": result.is_stratified, **result.content["protocol"]}
    return {**result.content, "protocol": protocol}, manifest


def _wholes(found: list[Neighbour]) -> Table:
    """A column for each measure; of ours, each evaluation gives the one that comes nearest.

    That is the same protocol first, then the best score.
    """
    columns = [*HEAD, *(Column(metric, title, "spread") for metric, title in zip(METRICS, TITLES, strict=True)), *TAIL]
    rows: list[tuple[Any, ...]] = []
    for row in dict.fromkeys(near.figure.row for near in found):
        own = [near for near in found if near.figure.row == row]
        figures = {near.figure.metric: near.figure for near in own}
        first = own[0].figure
        theirs = [Spread(figures[metric].value, figures[metric].sd) if metric in figures else None
                  for metric in METRICS]  # fmt: skip
        rows.append((first.source, f"{first.method} ({first.encoder})", first.protocol, *theirs, None, ""))
        for label in dict.fromkeys(near.evaluation.label for near in own):
            best = max((near for near in own if near.evaluation.label == label),
                       key=lambda near: (near.same, near.entry.top1))  # fmt: skip
            scores = [_own(best.entry, metric) for metric in METRICS]
            rows.append(("ours", best.entry.method.label, label, *scores, best.same, best.why))
    return Table("published", "Published figures beside ours", columns, rows).compact()


def _own(entry: Entry, metric: str) -> Spread | None:
    section, name = METRICS[metric]
    value = entry.mean_of(section, name)
    if value is None:
        return None
    return Spread(value, entry.fold_sd if metric == "fold_mean_top1" else None)


def _grid(name: str, title: str, found: list[Neighbour], columns: Mapping[Any, Column],
          column_of: Callable[[PublishedFigure], Any]) -> Table:  # fmt: skip
    """A column for each layer or number of labels; of ours, each family of evaluations gives one method.

    That is the one of the same protocol, else the one with most columns, else the one with the best mean over them.
    """
    rows: list[tuple[Any, ...]] = []
    for row in dict.fromkeys(near.figure.row for near in found):
        own = [near for near in found if near.figure.row == row]
        first = own[0].figure
        values = {column_of(figure): figure.value for figure in PUBLISHED if figure.row == row}
        theirs = map(values.get, columns)
        rows.append((first.source, f"{first.method} ({first.encoder})", first.protocol, *theirs, None, ""))
        for family in dict.fromkeys(near.evaluation.family for near in own):
            methods: dict[str, dict[Any, Neighbour]] = {}
            for near in own:
                if near.evaluation.family == family:
                    methods.setdefault(near.entry.method.label, {})[column_of(near.figure)] = near
            label, cells = max(methods.items(), key=_closeness)
            worst = next((near for near in cells.values() if not near.same), next(iter(cells.values())))
            scores = (_score(cells.get(place)) for place in columns)
            rows.append(("ours", label, family, *scores, worst.same, worst.why))
    return Table(name, title, [*HEAD, *columns.values(), *TAIL], rows).compact()


def _closeness(item: tuple[str, dict[Any, Neighbour]]) -> tuple[bool, int, float]:
    cells = item[1].values()
    return all(near.same for near in cells), len(cells), float(np.mean([near.entry.top1 for near in cells]))


def _score(near: Neighbour | None) -> float | None:
    """Our score of one figure: at its layer, or the mean over draws and seeds with as many labels."""
    if near is None:
        return None
    section, name = METRICS[near.figure.metric]
    if near.figure.labels_per_class is None:
        return near.entry.mean_of(section, name)
    scores = [row[name] for result in near.entry.results.values() for row in result.content["labels_per_class"] or []
              if row["labels_per_class"] == near.figure.labels_per_class and name in row]  # fmt: skip
    return float(np.mean(scores)) if scores else None
