"""Scores over the layers of loss networks, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pretext.reports.loss_networks import Cells, Grid
from pretext.reports.naming import natural
from pretext.reports.style import (
    COLORS,
    CONTROL_COLORS,
    LINES,
    MARKERS,
    Picture,
    drawable,
    finish,
    legend_below,
    panels,
    style,
    wrap,
)


def loss_networks_figure(grids: Sequence[Grid]) -> Picture | None:
    """A dot for each cell, a line for each network; other losses and controls as bands. None without a grid."""
    if not grids:
        return None
    names = sorted({name for grid in grids for name, _ in grid.cells | grid.untrained}, key=natural)
    others = list(dict.fromkeys(entry.method.label for grid in grids for entry in grid.others))
    look_of = dict(zip(names, zip(cycle(COLORS), cycle(MARKERS), _lines(len(names)), strict=False), strict=False))
    with style():
        figure, axes = panels(len(grids), height=3.4, columns=2)
        shown: dict[str, Line2D] = {}
        for axis, grid in zip(axes, grids, strict=True):
            for name in sorted({name for name, _ in grid.cells}, key=natural):
                color, marker, line = look_of[name]
                shown.setdefault(name, _line(axis, grid, grid.cells, name, color=color, marker=marker, linestyle=line))
            for name in sorted({name for name, _ in grid.untrained}, key=natural):
                line = _line(axis, grid, grid.untrained, name, color=CONTROL_COLORS[1], marker=look_of[name][1],
                             linestyle="-", markerfacecolor="white", linewidth=0.8)  # fmt: skip
                shown.setdefault(f"{name}, random weights", line)
            for entry in grid.others:
                place = others.index(entry.method.label)
                color = CONTROL_COLORS[place % len(CONTROL_COLORS)]
                axis.axhspan(*(100 * end for end in entry.image_interval), color=color, alpha=0.1, linewidth=0)
                band = axis.axhline(
                    100 * entry.top1, color=color, linestyle=LINES[1:][place % 4], linewidth=0.9, zorder=0
                )
                shown.setdefault(entry.method.label, band)
            axis.set_xticks(range(len(grid.layers)), grid.layers)
            axis.set_xlim(-0.25, len(grid.layers) - 0.75)
            axis.set(title=wrap(grid.label), xlabel="layer of the loss network, early to late", ylabel="top-1, %")
            axis.grid(axis="y")
        legend_below(figure, list(shown.values()), [drawable(label) for label in shown])
        return finish(figure, "loss-networks", "Top-1 by loss network and layer, means over seeds. Bands: other losses and "
                      "controls, with their 95 % over test images; a dot's is about as wide.", "A line per loss network "
                      "over its layers, horizontal bands for other losses and controls.")  # fmt: skip


def _lines(count: int) -> list[Any]:
    """A line style for each network: it changes when the colours are used up."""
    return [LINES[index // len(COLORS) % len(LINES)] for index in range(count)]


def _line(axis: Axes, grid: Grid, cells: Cells, name: str, **look_: Any) -> Line2D:
    layers = [layer for layer in grid.layers if (name, layer) in cells]
    (line,) = axis.plot([grid.layers.index(layer) for layer in layers],
                        [100 * cells[name, layer].top1 for layer in layers], markersize=4, **look_)  # fmt: skip
    return line
