"""Training and validation loss over epochs; only losses that measure the same thing share axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.lines import Line2D

from pretext.reports.compare import Study
from pretext.reports.gather import Run
from pretext.reports.gather import look as look_up
from pretext.reports.grouping import Method
from pretext.reports.style import Look, Picture, finish, legend_below, panels, style, wrap

TITLED = ("name", "color_space", "loss", "sigma")
LOSS_OPTIONS = (*TITLED, "truncate", "padding", "residual", "scale", "bins", "target_size", "border", "rebalance",
                "data fingerprint", "encoder.image_size")  # fmt: skip
LOG_ABOVE = 10  # a curve that falls by more than this is shown on a logarithmic axis
Curve = list[tuple[float, float]]


def loss_figure(study: Study, look: Mapping[str, Look]) -> Picture | None:
    """A panel per loss, a colour per method, a line per seed; None where nothing was trained."""
    groups = comparable_losses(study)
    if not groups:
        return None
    with style():
        figure, axes = panels(len(groups), height=2.1)
        shown: dict[str, Line2D] = {}
        has_constant = False
        for axis, (title, members) in zip(axes, groups.items(), strict=True):
            values = []
            for method, run in members:
                own = look[method.identity.key]
                for name, line, marker in (("train/loss", ":", ""), ("val/loss", "-", own.marker)):
                    curve = curve_of(run, name)
                    values += [value for _, value in curve]
                    if curve:
                        every = max(1, len(curve) // 6)
                        (drawn,) = axis.plot(*zip(*curve, strict=True), color=own.color, linestyle=line, marker=marker,
                                             markevery=every, markersize=3.5, linewidth=1)  # fmt: skip
                        if line == "-":
                            shown.setdefault(method.label, drawn)
            constants = {constant for _, run in members if (constant := constant_loss(run)) is not None}
            for constant in constants:
                axis.axhline(constant, color="#8C8C8C", linestyle="--", linewidth=0.7, zorder=0)
            has_constant |= bool(constants)
            if values and min(values) > 0 and max(values) / min(values) > LOG_ABOVE:
                axis.set_yscale("log")
            axis.set(title=wrap(title), xlabel="epochs", ylabel="loss")
            axis.grid()
        handles = [*shown.values(), Line2D([], [], color="#222222"), Line2D([], [], color="#222222", linestyle=":")]
        words = ["validation", "training"]
        if has_constant:
            handles.append(Line2D([], [], color="#8C8C8C", linestyle="--", linewidth=0.7))
            words.append("the best constant answer")
        legend_below(figure, handles, [*shown, *words])
        return finish(figure, "losses", "Loss while pretraining, a line per seed. Losses of different panels measure "
                      "different things and are not comparable.", "Loss curves, a panel per loss.")  # fmt: skip


def comparable_losses(study: Study) -> dict[str, list[tuple[Method, Run]]]:
    """Runs by what their loss measures: the loss with its options, on the same data and image size."""
    groups: dict[tuple[Any, ...], list[tuple[Method, Run]]] = {}
    for method in study.methods:
        for run in method.runs:
            if not method.is_control and (curve_of(run, "train/loss") or curve_of(run, "val/loss")):
                key = tuple(method.identity.options.get(name) for name in LOSS_OPTIONS)
                groups.setdefault(key, []).append((method, run))
    titles: dict[str, list[tuple[Method, Run]]] = {}
    for key, members in groups.items():
        title = _title(key, [other for other in groups if other is not key])
        titles[title if title not in titles else f"{title} ({len(titles) + 1})"] = members
    return titles


def _title(key: tuple[Any, ...], others: list[tuple[Any, ...]]) -> str:
    """The loss and its sigma, and the other options only where another panel differs in them alone."""
    name, space, loss, sigma, *rest = key
    words = [str(word) for word in ("" if name == "autoencode" else name, space, loss) if word]
    if sigma is not None:
        words.append(f"sigma {sigma:g}")
    alike = [other for other in others if other[: len(TITLED)] == key[: len(TITLED)]]
    for option, value, position in zip(LOSS_OPTIONS[len(TITLED) :], rest, range(len(TITLED), len(key)), strict=True):
        if any(other[position] != value for other in alike) and option != "data fingerprint":
            words.append(f"{option.rpartition('.')[2].replace('_', ' ')} {value}")
    return " ".join(words)


def constant_loss(run: Run) -> float | None:
    """What one constant answer would have scored in place of the network, where the run says."""
    value = look_up(run.manifest, "summary", "constant_loss")
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def curve_of(run: Run, name: str) -> Curve:
    """(epoch, value) from the rows per epoch; from those per step where there are not two epochs."""
    rows: dict[str, Curve] = {"epoch": [], "step": []}
    for row in run.curve:
        epoch, value = row.get("epoch"), row.get(name)
        if epoch is not None and value is not None and math.isfinite(value):
            rows.setdefault(str(row.get("kind")), []).append((float(epoch), float(value)))
    return rows["epoch"] if len(rows["epoch"]) > 1 or not rows["step"] else rows["step"]
