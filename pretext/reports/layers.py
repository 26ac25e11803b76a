"""Scores along the layers of an encoder, where several layers of one run were probed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D

from pretext.artifacts.layout import LATENT
from pretext.reports.compare import Entry, Evaluation, Study
from pretext.reports.naming import PIXELS, RANDOM, layer_rank, natural
from pretext.reports.score_tables import EVALUATION
from pretext.reports.style import Look, Picture, finish, legend_below, panels, style, wrap
from pretext.reports.tables import Column, Estimate, Table

TILTED = 7  # more names of layers do not fit below a panel side by side
SPREAD = 0.36  # of the way from one layer to the next, over which the methods' intervals are spread


@dataclass(frozen=True, slots=True)
class Panel:
    """One encoder in one family of evaluations: an entry for each layer of each method, by the method's key.

    Where one layer was probed in two ways, such as averaged and resized, each way has a panel of its own.
    """

    title: str
    primary: Evaluation
    layers: list[str]
    entries: dict[str, dict[str, Entry]]


def layer_panels(study: Study) -> list[Panel]:
    """A panel for each encoder and family in which several layers of one method were probed."""
    found = []
    for primary in study.primary:
        family = [evaluation for evaluation in study.layers_of(primary.family) if evaluation.layer]
        pools = list(dict.fromkeys(evaluation.pool for evaluation in family if evaluation.layer != LATENT))
        for pool in pools:
            kept = [evaluation for evaluation in family if evaluation.layer == LATENT or evaluation.pool == pool]
            encoders = {_encoder(entry) for evaluation in kept for entry in evaluation.entries}
            for encoder in sorted(encoders, key=natural):
                entries: dict[str, dict[str, Entry]] = {method.identity.key: {} for method in study.methods}
                for evaluation in kept:
                    for entry in evaluation.entries:
                        if _encoder(entry) == encoder:
                            entries[entry.method.identity.key][evaluation.layer] = entry
                entries = {key: own for key, own in entries.items() if own}
                layers = sorted({layer for own in entries.values() for layer in own}, key=layer_rank)
                if any(len(own) > 1 for own in entries.values()):
                    words = [f"{primary.family}: {encoder}", *([pool] if len(pools) > 1 else [])]
                    found.append(Panel(", ".join(words), primary, layers, entries))
    return found


def _encoder(entry: Entry) -> str:
    return str(next(iter(entry.results.values())).content["encoder"]["name"])


def layers_figure(study: Study, look: Mapping[str, Look]) -> Picture | None:
    """Score over layers, a line per method; None where no run was probed at two layers."""
    found = layer_panels(study)
    if not found:
        return None
    labels = {method.identity.key: method.label for method in study.methods}
    with style():
        figure, axes = panels(len(found), height=2.7, columns=2)
        shown: dict[str, Line2D] = {}
        for axis, panel in zip(axes, found, strict=True):
            shifts = np.linspace(-SPREAD / 2, SPREAD / 2, len(panel.entries)) if len(panel.entries) > 1 else [0.0]
            for (key, own), shift in zip(panel.entries.items(), shifts, strict=True):
                layers = sorted(own, key=layer_rank)
                middle = np.array([100 * own[layer].top1 for layer in layers])
                ends = np.array([[100 * end for end in own[layer].image_interval] for layer in layers]).T
                bars = axis.errorbar(
                    [panel.layers.index(layer) + shift for layer in layers], middle, yerr=np.abs(ends - middle),
                    color=look[key].color, marker=look[key].marker, linestyle=look[key].line, capsize=1.5,
                    elinewidth=0.7, markersize=3.5,
                )  # fmt: skip
                shown.setdefault(labels[key], bars.lines[0])
            for entry in panel.primary.entries:
                if entry.method.identity.sort == PIXELS:
                    own_look = look[entry.method.identity.key]
                    line = axis.axhline(100 * entry.top1, color=own_look.color, linestyle=own_look.line, linewidth=0.8,
                                        zorder=0)  # fmt: skip
                    shown.setdefault(entry.method.label, line)
            tilted = len(panel.layers) > TILTED
            axis.set_xticks(range(len(panel.layers)), [wrap(layer) for layer in panel.layers],
                            rotation=45 if tilted else 0, ha="right" if tilted else "center")  # fmt: skip
            axis.set(title=wrap(panel.title), xlabel="layer", ylabel="top-1, %")
            axis.grid(axis="y")
        legend_below(figure, list(shown.values()), list(shown))
        return finish(figure, "layers", "Top-1 of the fold models' ensemble by the layer that was probed. Bars: 95 % "
                      "over test images.", "Curves of top-1 accuracy over layers, a line per method, a panel per "
                      "encoder.")  # fmt: skip


def grid_table(panel: Panel, labels: Mapping[str, str]) -> Table:
    """A panel in numbers: a row for each method, a column for each layer; best first, by its best layer."""
    columns = [Column("method", "Method"), *(Column(layer, layer, "percent") for layer in panel.layers)]
    order = sorted(panel.entries.items(), key=lambda item: -max(entry.top1 for entry in item[1].values()))
    rows = [(labels[key], *(own[layer].top1 if layer in own else None for layer in panel.layers))
            for key, own in order]  # fmt: skip
    return Table("layer-grid", f"{panel.title}, top-1, %", columns, rows)


def layers_table(study: Study) -> Table:
    """One row per layer of each method, beside the untrained control of the same network at the same layer."""
    columns = [
        EVALUATION, Column("method", "Method"), Column("layer", "Layer"), Column("num_features", "Numbers", "count"),
        Column("seeds", "Seeds", "count"), Column("top1", "Ensemble top-1, % (95 % over test images)", "estimate"),
        Column("seed_sd", "sd over seeds", "percent"),
        Column("lead", "Ahead of the random encoder, points (95 % over test images)", "points-estimate"),
    ]  # fmt: skip
    place = {method.identity.key: number for number, method in enumerate(study.methods)}
    shown = {panel.primary.family for panel in layer_panels(study)}
    rows = []
    for family in (evaluation.family for evaluation in study.primary if evaluation.family in shown):
        lines = [(evaluation, entry) for evaluation in study.layers_of(family) for entry in evaluation.entries
                 if entry.method.identity.sort != PIXELS]  # fmt: skip
        lines.sort(key=lambda line: place[line[1].method.identity.key])
        rows += [(family, entry.method.label, _layer_words(evaluation), _num_features(entry), len(entry.results),
                  Estimate(entry.top1, entry.image_interval), entry.seed_sd, _lead(evaluation, entry))
                 for evaluation, entry in lines]  # fmt: skip
    return Table("layers", "Scores by layer", columns, rows).compact()


def _layer_words(evaluation: Evaluation) -> str:
    return f"{evaluation.layer} ({evaluation.pool})" if evaluation.pool else evaluation.layer


def _num_features(entry: Entry) -> int | None:
    found = next(iter(entry.results.values())).content["encoder"].get("num_features")
    return found if isinstance(found, int) else None


def _lead(evaluation: Evaluation, entry: Entry) -> Estimate | None:
    """How far the entry is ahead of the control that differs from it in nothing but the training."""
    network = {name: value for name, value in entry.method.identity.options.items() if name.startswith("encoder.")}
    control = next(
        (
            other
            for other in evaluation.entries
            if other.method.identity.sort == RANDOM and dict(other.method.identity.options) == network
        ),
        None,
    )
    if control is None or control is entry:
        return None
    over_seeds = evaluation.seed_difference(entry.method, control.method)
    if over_seeds:
        return Estimate(over_seeds.mean, over_seeds.image_interval)
    (test, *_) = evaluation.tests_of(entry.method, control.method)
    return Estimate(test.difference, test.interval)
