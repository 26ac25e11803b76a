"""Scores as figures: results, sigma curves, few-label curves, confusion matrices, mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from pretext.reports.answer import best_trained
from pretext.reports.compare import Entry, Evaluation, Study
from pretext.reports.gather import Result
from pretext.reports.grouping import Method
from pretext.reports.mistakes import Mistake
from pretext.reports.naming import label_all
from pretext.reports.score_tables import FewLabelPoint, few_label_points
from pretext.reports.style import (
    COLORS,
    MARKERS,
    Look,
    Picture,
    drawable,
    finish,
    legend_below,
    new_figure,
    panels,
    style,
    wrap,
)

ANNOTATED_CLASSES = 12
REFERENCES = ("best control", "chance")
LOSS_FAMILY = ("truncate", "padding", "residual", "scale")


def results_figure(study: Study, look: Mapping[str, Look]) -> Picture:
    """A row per method, a panel per evaluation: mean over seeds, interval over test images, every seed, controls."""
    order = _rank(study)
    lines = max((wrap(method.label).count("\n") + 1 for method in order), default=1)
    rows = max(len(order), 3) * (0.2 if lines == 1 else 0.02 + 0.13 * lines)
    with style():
        figure, axes = panels(len(study.primary), height=0.55 + rows, sharey=True)
        for axis, evaluation in zip(axes, study.primary, strict=True):
            for entry in evaluation.entries:
                _dot(axis, entry, order.index(entry.method), look[entry.method.identity.key])
            _references(evaluation, axis.axvline)
            axis.set(title=wrap(evaluation.label), xlabel="top-1, %")
            axis.set_yticks(range(len(order)), [wrap(method.label) for method in order])
            axis.set_ylim(len(order) - 0.4, -0.6)
            axis.grid(axis="x")
        mean = Line2D([], [], color="#222222", marker="o", linewidth=2)
        seed = Line2D([], [], color="none", marker="o", markerfacecolor="white", markeredgecolor="#222222",
                      markersize=3.5)  # fmt: skip
        legend_below(figure, [mean, seed, *_reference_handles()],
                     ["mean over seeds, 95 % over test images", "one seed", *REFERENCES])  # fmt: skip
        return finish(figure, "results", "Top-1 accuracy of the fold models' ensemble. Scores of different panels are "
                      "not comparable.", "Dot plot of the results table: a row per method, a panel per "
                      "evaluation.")  # fmt: skip


def _rank(study: Study) -> list[Method]:
    """Measured methods, best first by the mean over evaluations of how far above the evaluation's mean they are."""
    leads: dict[str, list[float]] = {}
    for evaluation in study.primary:
        middle = float(np.mean([entry.top1 for entry in evaluation.entries]))
        for entry in evaluation.entries:
            leads.setdefault(entry.method.identity.key, []).append(entry.top1 - middle)
    measured = [method for method in study.methods if method.identity.key in leads]
    return sorted(measured, key=lambda method: -float(np.mean(leads[method.identity.key])))


def _dot(axis: Axes, entry: Entry, row: int, look: Look) -> None:
    ends = [100 * end for end in entry.image_interval]
    axis.plot(ends, [row, row], color=look.color, linewidth=2, solid_capstyle="butt")
    if len(entry.results) > 1:
        seeds = [100 * result.content["ensemble"]["top1"] for result in entry.results.values()]
        axis.plot(seeds, [row + 0.22] * len(seeds), "o", markersize=3, markerfacecolor="white",
                  markeredgecolor=look.color, markeredgewidth=0.7)  # fmt: skip
    axis.plot(100 * entry.top1, row, marker=look.marker, color=look.color, markersize=5.5, markeredgecolor="white",
              markeredgewidth=0.5)  # fmt: skip


def _references(evaluation: Evaluation, line: Any) -> None:
    """The best control, and chance where it is near enough not to squeeze the scores together."""
    controls = [entry.top1 for entry in evaluation.entries if entry.method.is_control]
    if controls:
        line(100 * max(controls), color="#4D4D4D", linestyle="--", linewidth=0.8, zorder=0)
    classes = evaluation.results[0].content["data"].get("class_names")
    ends = [end for entry in evaluation.entries for end in entry.image_interval]
    if classes and min(ends) - 1 / len(classes) < max(ends) - min(ends):
        line(100 / len(classes), color="#8C8C8C", linestyle=":", linewidth=0.8, zorder=0)


def _reference_handles() -> list[Line2D]:
    return [Line2D([], [], color="#4D4D4D", linestyle="--", linewidth=0.8),
            Line2D([], [], color="#8C8C8C", linestyle=":", linewidth=0.8)]  # fmt: skip


def sigma_figure(study: Study) -> Picture | None:
    """Score against the width of the Gaussian, mse at 0; None where no two widths share all else."""
    found = [(evaluation, series) for evaluation in study.primary if (series := sigma_series(evaluation))]
    if not found:
        return None
    with style():
        figure, axes = panels(len(found), height=2.3)
        for axis, (evaluation, series) in zip(axes, found, strict=True):
            for (label, entries), color, marker in zip(series.items(), cycle(COLORS), cycle(MARKERS), strict=False):
                widths = list(entries)
                middle = np.array([100 * entry.top1 for entry in entries.values()])
                ends = np.array([[100 * end for end in entry.image_interval] for entry in entries.values()]).T
                axis.errorbar(widths, middle, yerr=np.abs(ends - middle), color=color, marker=marker, capsize=2,
                              elinewidth=0.8, label=drawable(label))  # fmt: skip
                for width, entry in entries.items():
                    seeds = [100 * result.content["ensemble"]["top1"] for result in entry.results.values()]
                    axis.plot([width + 0.12] * len(seeds), seeds, "o", markersize=2.5, markerfacecolor="white",
                              markeredgecolor=color, markeredgewidth=0.6)  # fmt: skip
            _references(evaluation, axis.axhline)
            every = sorted({width for entries in series.values() for width in entries})
            axis.set_xticks(every, [f"{width:g}" if width else "0\n(mse)" for width in every])
            axis.set(title=wrap(evaluation.label), xlabel="sigma, px", ylabel="top-1, %")
            axis.grid(axis="y")
            if len(series) > 1:
                axis.legend()
        legend_below(figure, _reference_handles(), REFERENCES)
        return finish(
            figure, "sigma", "Top-1 against the width of PSE's Gaussian; mse is width 0. Bars: 95 % over test images; "
            "small dots: seeds.", "Curve of top-1 accuracy over sigma, a panel per evaluation.",
        )  # fmt: skip


def sigma_series(evaluation: Evaluation) -> dict[str, dict[float, Entry]]:
    """Curves of entries by sigma: everything but sigma is the same; mse with the same training stands at 0."""
    groups: dict[tuple[Any, ...], dict[float, Entry]] = {}
    plain_mse: dict[tuple[Any, ...], Entry] = {}
    named: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
    for entry in evaluation.entries:
        options = dict(entry.method.identity.options)
        loss, sigma = options.pop("loss", None), options.pop("sigma", None)
        family = {name: options.pop(name, None) for name in LOSS_FAMILY}
        rest = tuple(sorted((name, repr(value)) for name, value in options.items()))
        if loss == "mse":
            plain_mse[rest] = entry
        elif sigma is not None:
            key = (rest, loss, *family.values())
            groups.setdefault(key, {})[float(sigma)] = entry
            named[key] = (f"{options.get('encoder.name')}-{loss}", options | family)
    for key, entries in groups.items():
        if key[0] in plain_mse and 0.0 not in entries:
            entries[0.0] = plain_mse[key[0]]
    kept = [key for key in groups if len(groups[key]) > 1]
    labels = label_all([named[key][0] for key in kept], [named[key][1] for key in kept])
    return {label: dict(sorted(groups[key].items())) for label, key in zip(labels, kept, strict=True)}


def few_labels_figure(study: Study, look: Mapping[str, Look]) -> Picture | None:
    """Score against labels per class; None where no curve was run."""
    found = [evaluation for evaluation in study.evaluations if any(map(few_label_points, evaluation.entries))]
    found = [evaluation for evaluation in found if evaluation.is_primary] or found
    if not found:
        return None
    with style():
        figure, axes = panels(len(found), height=2.6, columns=2)
        shown: dict[str, Line2D] = {}
        has_hollow = False
        for axis, evaluation in zip(axes, found, strict=True):
            ticks: set[int] = set()
            for entry in evaluation.entries:
                own = look[entry.method.identity.key]
                curve = few_label_points(entry)
                ticks |= {point.labels_per_class for point in curve}
                for filled in (True, False):
                    points = [point for point in curve if (point.is_stratified is not False) is filled]
                    if points:
                        line = _few_label_line(axis, points, own, filled=filled)
                        shown.setdefault(entry.method.label, line)
                        has_hollow |= not filled
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set(title=wrap(evaluation.label), xlabel="labels per class", ylabel="top-1, %")
            axis.grid()
        legend_below(figure, list(shown.values()), list(shown))
        hollow = " Hollow: sets drawn regardless of class." if has_hollow else ""
        return finish(figure, "few-labels", "Top-1 with few labels. Bars: standard deviation over draws and seeds."
                      f"{hollow}",
                      "Curves of top-1 accuracy over the number of labels per class, a line per method.")  # fmt: skip


def _few_label_line(axis: Axes, points: Sequence[FewLabelPoint], look: Look, *, filled: bool) -> Line2D:
    bars = axis.errorbar(
        [point.labels_per_class for point in points], [100 * point.mean for point in points],
        yerr=[100 * (point.sd or 0) for point in points], color=look.color, marker=look.marker, linestyle=look.line,
        markerfacecolor=look.color if filled else "white", linewidth=1.3 if filled else 0.8, capsize=2, elinewidth=0.7,
        markersize=4,
    )  # fmt: skip
    return bars.lines[0]


def confusion_figure(evaluation: Evaluation, number: int) -> Picture | None:
    """What the best pretrained encoder takes for what, over all its seeds; None where only controls were measured."""
    entry = best_trained(evaluation)
    if entry is None:
        return None
    share_KK = confusion(list(entry.results.values()))
    names = class_names(evaluation.results[0], len(share_KK))
    with style():
        side = 3.5 if len(names) <= ANNOTATED_CLASSES else 4.6
        figure = new_figure(side, side)
        axis = figure.subplots()
        axis.imshow(100 * share_KK, cmap="Blues", vmin=0, vmax=100)
        if len(names) <= ANNOTATED_CLASSES:
            for (row, column), share in np.ndenumerate(share_KK):
                axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5,
                          color="white" if share > 0.55 else "#222222")  # fmt: skip
            axis.set_xticks(range(len(names)), [drawable(name) for name in names], rotation=45, ha="right")
            axis.set_yticks(range(len(names)), [drawable(name) for name in names])
        axis.set(title=f"{wrap(evaluation.label)}:\n{wrap(entry.method.label)}", xlabel="answer", ylabel="true class")
        worst = _worst(share_KK, names)
        caption = (f"{evaluation.label}, {entry.method.label}: per cent of each class (row) that was called each class "
                   f"(column). {worst}")  # fmt: skip
        return finish(figure, f"confusion-{number}", caption, f"Confusion matrix. {worst}")


def confusion(results: Sequence[Result]) -> np.ndarray:
    """Share of each true class (row) called each class (column), over all results; rows sum to 1, or 0 if empty."""
    num_classes = max(int(max(result.label_N.max(), result.predicted_N.max())) for result in results) + 1
    names = results[0].content["data"].get("class_names") or []
    count_KK = np.zeros((max(num_classes, len(names)),) * 2)
    for result in results:
        np.add.at(count_KK, (result.label_N, result.predicted_N), 1)
    share_KK: np.ndarray = count_KK / np.maximum(count_KK.sum(axis=1, keepdims=True), 1)
    return share_KK


def _worst(share_KK: np.ndarray, names: Sequence[str]) -> str:
    off_KK = share_KK - np.diag(np.diag(share_KK))
    worst = np.argsort(-off_KK, axis=None, kind="stable")[:3]
    pairs = [divmod(int(index), len(names)) for index in worst if off_KK.flat[index] > 0]
    if not pairs:
        return "Nothing was confused."
    parts = [f"{names[row]} taken for {names[column]} ({100 * off_KK[row, column]:.0f} %)" for row, column in pairs]
    return f"Most often confused: {', '.join(parts)}."


def class_names(result: Result, count: int) -> list[str]:
    """The classes' names; numbers where the result does not tell."""
    names = result.content["data"].get("class_names") or []
    return [str(names[index]) if index < len(names) else str(index) for index in range(count)]


def mistakes_figure(name: str, caption: str, most: Sequence[Mistake], least: Sequence[Mistake]) -> Picture:
    """Two rows of pictures that were classified wrongly: the surest mistakes, and the least sure."""
    tile, gap, head = 0.86, 0.1, 0.42  # inches
    rows = [row for row in (("most confident", most), ("least confident", least)) if row[1]]
    width, height = 0.3 + max(len(row[1]) for row in rows) * (tile + gap), len(rows) * (tile + head + gap)
    with style():
        figure = new_figure(width, height)
        figure.set_layout_engine("none")
        axis = figure.add_axes((0, 0, 1, 1))
        for row, (title, mistakes) in enumerate(rows):
            top = height - head - row * (tile + head + gap)
            axis.text(0.16, top - tile / 2, title, rotation=90, ha="center", va="center", fontsize=7.5)
            for column, mistake in enumerate(mistakes):
                left = 0.3 + column * (tile + gap)
                axis.imshow(mistake.image_HWC, interpolation="nearest", extent=(left, left + tile, top - tile, top))
                lines = (shorten_name(mistake.truth), f"said {shorten_name(mistake.said)}", f"{mistake.confidence:.0%}")
                axis.text(left + tile / 2, top + 0.03, "\n".join(lines), ha="center", va="bottom", fontsize=6,
                          linespacing=1.05)  # fmt: skip
        axis.set(xlim=(0, width), ylim=(0, height))
        axis.set_axis_off()
        return finish(figure, name, caption, "Pictures that were classified wrongly.", is_raster=True)


def shorten_name(name: str) -> str:
    """A class name that fits above a small picture."""
    return drawable(name if len(name) <= 14 else name[:13] + ".")
