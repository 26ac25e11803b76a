"""How well metrics agree with people: every metric that was scored on the same judgments, and the differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.artifacts.scores import JUDGED, Score
from pretext.published import lpips
from pretext.reports.compare import Study
from pretext.reports.gather import look
from pretext.reports.naming import flatten, label_all
from pretext.reports.score_tables import EVALUATION
from pretext.reports.style import COLORS, Picture, finish, panels, style, wrap
from pretext.reports.tables import Column, Estimate, Table, decimal, percent, points, signed
from pretext.statistics.agreement import cluster_interval, cluster_mean_interval, jnd_map, srcc

DRAWS = 1000  # of scores that are no means, where each draw costs a sort
CEILING = "one judge against another"
# What people call a score, and how its values and differences are shown.
SCORES: dict[str, tuple[str, str, str]] = {
    "two_afc": ("Agreement with judges, %", "estimate", "points-estimate"),
    "jnd_map": ("Mean precision of just noticeable differences, %", "estimate", "points-estimate"),
    "srcc": ("Spearman, SRCC", "decimal-estimate", "signed-estimate"),
    "plcc": ("Pearson after a logistic, PLCC", "decimal-estimate", ""),
    "krcc": ("Kendall, KRCC", "decimal-estimate", ""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contest:
    """Metrics that were scored on the same judgments, best first, each with its label."""

    title: str
    main: str
    entries: list[tuple[str, Score]]

    @property
    def judgments(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.entries[0][1].content["judgments"]
        return found

    def ceiling(self, name: str = "ceiling") -> float | None:
        """Of triplets, how often one judge agrees with another; with "majority", how often a metric can at most."""
        found = look(self.entries[0][1].content, "human", name)
        return float(found) if isinstance(found, (int, float)) else None

    def difference(self, a: Score, b: Score) -> Estimate | None:
        """By how much a scores above b, with a paired bootstrap over references; None if their rows are not the same."""
        if not np.array_equal(a.columns["group"], b.columns["group"]):
            return None
        interval = paired_interval(self.main, a.columns, b.columns)
        return Estimate(a.main["value"] - b.main["value"], interval)


def paired_interval(
    main: str, a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]
) -> tuple[float, float] | None:
    """95 % of a's score less b's, drawing references with all their judgments; None for a single reference."""
    if main == "two_afc":
        return cluster_mean_interval(a["agreement"] - b["agreement"], a["group"])
    score: Callable[..., float] = jnd_map if main == "jnd_map" else srcc
    said_N = a["same_share" if main == "jnd_map" else "score"]

    def difference(index_M: NDArray[np.int64]) -> float:
        said_M = said_N[index_M]
        if main == "jnd_map" and not said_M.any():
            return 0.0  # nobody took any of these pairs for the same: nothing to find
        return score(a["distance"][index_M], said_M) - score(b["distance"][index_M], said_M)

    return cluster_interval(difference, a["group"], draws=DRAWS)


def find_contests(study: Study) -> list[Contest]:
    """A contest for each set of judgments, whoever scored it."""
    groups: dict[tuple[str, ...], list[Score]] = {}
    for run in study.runs:
        if run.score:
            judgments = run.score.content["judgments"]
            groups.setdefault((judgments["fingerprint"], run.score.kind), []).append(run.score)
    titles = label_all([_title(scores[0]) for scores in groups.values()],
                       [{"fingerprint": key[0][:8]} for key in groups])  # fmt: skip
    found = []
    for title, scores in zip(titles, groups.values(), strict=True):
        options = [flatten(score.content["metric"], "")
                   | {"image size": score.content["judgments"].get("image_size")} for score in scores]  # fmt: skip
        labels = label_all([score.content["metric"]["word"] for score in scores], options)
        entries = sorted(zip(labels, scores, strict=True), key=lambda entry: (-entry[1].main["value"], entry[0]))
        found.append(Contest(title, JUDGED[scores[0].kind][0], entries))
    return sorted(found, key=lambda contest: contest.title)


def _title(score: Score) -> str:
    judgments = score.content["judgments"]
    return f"{judgments['name']}, {judgments['split']}"


def agreement_table(contests: Sequence[Contest], *, name_evaluation: bool = True) -> Table:
    """A row for each metric: its scores, and how far it is behind the best."""
    names = [name for name in SCORES if any(name in score.content["scores"] for contest in contests
                                            for _, score in contest.entries)]  # fmt: skip
    mains = [name for name in names if any(contest.main == name for contest in contests)]
    columns = [Column("metric", "Metric"), Column("num", "Judgments", "count")]
    columns += [Column(name, f"{SCORES[name][0]} (95 %)", SCORES[name][1]) for name in names]
    for kind in dict.fromkeys(SCORES[name][2] for name in mains):
        unit = ", points" if kind == "points-estimate" else ""
        columns.append(Column(kind.partition("-")[0], f"Against the best{unit} (95 %, paired)", kind))
    columns.append(Column("saw", "What its network was trained on"))
    rows = []
    for contest in contests:
        best = contest.entries[0][1]
        for label, score in contest.entries:
            behind = None if score is best else contest.difference(score, best)
            rows.append((contest.title, label, len(score.columns["group"]),
                         *(_estimate(score.content["scores"].get(name)) for name in names),
                         *(behind if SCORES[contest.main][2] == kind else None
                           for kind in dict.fromkeys(SCORES[name][2] for name in mains)),
                         str(score.content.get("saw") or "")))  # fmt: skip
    note = ("Intervals are bootstraps over references, each with all its judgments; those of differences are paired and not "
            "corrected for their number.")  # fmt: skip
    table = Table("agreement", "Agreement with people", [EVALUATION, *columns], rows, note)
    if name_evaluation:
        return table.compact()
    return Table(table.name, table.title, columns, [row[1:] for row in rows], note).compact()


def _estimate(score: Any) -> Estimate | None:
    if not isinstance(score, Mapping) or not isinstance(score.get("value"), (int, float)):
        return None
    ends = score.get("ci95")
    return Estimate(float(score["value"]), (float(ends[0]), float(ends[1])) if ends else None)


def agreement_sentences(contest: Contest) -> list[str]:
    """Which metric agrees best, how sure its lead is, how far people themselves get, and what the stages noted."""
    (label, best), *others = contest.entries
    show, show_difference = (decimal, signed) if contest.main == "srcc" else (percent, points)
    unit, unit_difference = ("", "") if contest.main == "srcc" else (" %", " points")
    sentences = [f"Best: {label}, {show(best.main['value'])}{unit}."]
    if others and (lead := contest.difference(best, others[0][1])):
        words = f"{show_difference(lead.value).lstrip('+')}{unit_difference} behind"
        if lead.interval:
            ends = " to ".join(show_difference(end).lstrip("+") for end in lead.interval)
            verdict = "the order is sure over references" if lead.interval[0] > 0 else "which of them is better is open"
            words += f" (95 % {ends}): {verdict}"
        sentences.append(f"Next: {others[0][0]}, {words}.")
    if (ceiling := contest.ceiling()) is not None:
        sentences.append(f"One judge agrees with another in {percent(ceiling)} %.")
    if (ceiling := contest.ceiling("majority")) is not None:
        sentences.append(f"No metric can agree with more than {percent(ceiling)} %, as judges differ.")
    notes = dict.fromkeys(str(note) for _, score in contest.entries for note in score.content.get("notes") or [])
    return sentences + list(notes)


def agreement_figure(contests: Sequence[Contest]) -> Picture | None:
    """A row per metric, a panel per set of judgments; None where nothing was scored."""
    if not contests:
        return None
    largest = sorted(contests, key=lambda contest: -len(contest.entries))
    order = list(dict.fromkeys(label for contest in largest for label, _ in contest.entries))
    lines = max(wrap(label).count("\n") + 1 for label in order)
    with style():
        figure, axes = panels(len(contests), height=0.8 + max(len(order), 3) * (0.07 + 0.13 * lines), sharey=True)
        for axis, contest in zip(axes, contests, strict=True):
            scale = 1 if contest.main == "srcc" else 100
            for label, score in contest.entries:
                row, ends = order.index(label), score.main.get("ci95")
                color = COLORS[0] if look(score.content, "metric", "network") else "#4D4D4D"
                if ends:
                    axis.plot(
                        [scale * end for end in ends], [row, row], color=color, linewidth=2, solid_capstyle="butt"
                    )
                axis.plot(scale * score.main["value"], row, "o", color=color, markersize=5.5, markeredgecolor="white",
                          markeredgewidth=0.5)  # fmt: skip
            if (ceiling := contest.ceiling()) is not None:
                axis.axvline(100 * ceiling, color="#222222", linestyle="--", linewidth=0.8, zorder=0)
                axis.annotate(CEILING, (100 * ceiling, 0.03), xycoords=("data", "axes fraction"), rotation=90,
                              ha="right", va="bottom", fontsize=6.5, color="#222222", textcoords="offset points",
                              xytext=(-1, 0))  # fmt: skip
            axis.set(title=wrap(contest.title), xlabel=wrap(SCORES[contest.main][0]))
            axis.set_yticks(range(len(order)), [wrap(label) for label in order])
            axis.set_ylim(len(order) - 0.4, -0.6)
            axis.grid(axis="x")
        return finish(figure, "agreement", "How well metrics agree with people; bars: 95 % over references. Blue: in a "
                      "network's features, grey: of the pixels.", "Dot plot of metrics by their agreement with people, a "
                      "panel per set of judgments.")  # fmt: skip


def published_agreement_table(contests: Sequence[Contest]) -> Table:
    """The published agreements on BAPPS, and ours below them; no rows where none of ours is of BAPPS."""
    ours: dict[str, dict[str, float]] = {}
    for contest in contests:
        split, _, subset = str(contest.judgments["split"]).partition("/")
        if contest.judgments["layout"] != "2afc" or split != "val" or subset not in (*lpips.SUBSETS, ""):
            continue
        for label, score in contest.entries:
            ours.setdefault(label, {})[subset] = float(score.main["value"])
    columns = [Column("who", "Whose"), Column("metric", "Metric"),
               *(Column(name, f"{title}, %", "percent") for name, title in lpips.COLUMNS.items()),
               Column("together", "all judgments at once, %", "percent")]  # fmt: skip
    if not ours:
        return Table("published-agreement", "Published agreement with people beside ours", columns)
    rows = [(lpips.SOURCE, metric, *values.values(), None) for metric, values in lpips.TABLE.items()]
    for label, values in ours.items():
        means = {name: float(np.mean([values[subset] for subset in subsets]))
                 for name, subsets in lpips.MEANS.items() if set(subsets) <= values.keys()}  # fmt: skip
        cells = (values | means).get
        rows.append(("ours", label, *map(cells, lpips.COLUMNS), values.get("")))
    return Table(
        "published-agreement", "Published agreement with people beside ours", columns, rows, lpips.NOTE
    ).compact()
