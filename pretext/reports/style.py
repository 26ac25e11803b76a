"""How every figure looks: colours that colour-blind readers can tell apart, each with a marker and line of its own."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pretext.reports.grouping import Method

# Okabe, Ito 2008, "Color Universal Design"; their yellow is too pale on white, their black is kept for controls.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CONTROL_COLORS = ("#4D4D4D", "#8C8C8C", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "p", "<", ">", "h")
CONTROL_MARKERS = ("d", "s", "o")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
PAGE_WIDTH = 7.2  # inches, what an A4 page holds
LABEL_WIDTH = 30  # characters
CHARACTERS_PER_INCH = 17  # of a legend
RC: dict[str, Any] = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "legend.fontsize": 7.5, "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.3, "lines.markersize": 4.5,
    "grid.linewidth": 0.4, "grid.color": "#D9D9D9", "axes.axisbelow": True, "legend.frameon": False,
    "svg.fonttype": "path", "svg.hashsalt": "pretext", "savefig.dpi": 160, "figure.dpi": 160,
    "axes.titlelocation": "left", "text.parse_math": False, "font.family": "DejaVu Sans",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """How one method is drawn, in every figure."""

    color: str
    marker: str
    line: Any


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished figure: its files' name, what it shows, a text for those who can't see it, and its bytes.

    Photographs are PNG only; `svg` is then empty.
    """

    name: str
    caption: str
    alt: str
    png: bytes
    svg: bytes
    share: float = 1.0  # of the page's width

    @property
    def is_raster(self) -> bool:
        return not self.svg


def looks(methods: Sequence[Method]) -> dict[str, Look]:
    """A look for each method's key; controls are grey."""
    found: dict[str, Look] = {}
    for sort, colors, markers in ((False, COLORS, MARKERS), (True, CONTROL_COLORS, CONTROL_MARKERS)):
        for index, method in enumerate(method for method in methods if method.is_control is sort):
            line = LINES[(index // len(colors) + (1 if sort else 0)) % len(LINES)]
            found[method.identity.key] = Look(colors[index % len(colors)], markers[index % len(markers)], line)
    return found


def style() -> Any:
    """The context in which figures are drawn and saved."""
    return matplotlib.rc_context(RC)  # type: ignore[arg-type]


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window and no global state; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, *, height: float, columns: int = 3, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A grid of axes across the page; the places left over are empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    width = PAGE_WIDTH if columns > 1 else PAGE_WIDTH * 0.66
    figure = new_figure(width, rows * height)
    axes = figure.subplots(rows, columns, sharey=sharey, squeeze=False).ravel()
    for empty in axes[count:]:
        empty.set_axis_off()
    return figure, list(axes[:count])


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend under the panels, in as many columns as fit; the figure grows by its rows."""
    names = [drawable(label) for label in labels]
    fitting = int(figure.get_figwidth() * CHARACTERS_PER_INCH / (max(map(len, names)) + 7))
    columns = max(1, min(len(names), fitting, 4))
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(names) // columns))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def wrap(label: str) -> str:
    """A label in lines that fit beside or above a panel."""
    return "\n".join(textwrap.wrap(drawable(label), LABEL_WIDTH)) or label


def drawable(text: str) -> str:
    """Text without the control characters that would break an SVG file."""
    return "".join(character if character.isprintable() else "?" for character in text)


def finish(figure: Figure, name: str, caption: str, alt: str, *, is_raster: bool = False) -> Picture:
    """Render a figure; the same figure gives the same bytes on every run."""
    png, svg = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the tables beside have the name as it is.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(png, format="png", metadata={"Software": None})
        if not is_raster:
            figure.set_layout_engine("none")  # it is laid out by now; once more would only cost time
            figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    share = min(1.0, float(figure.get_figwidth()) / PAGE_WIDTH)
    return Picture(name, caption, alt, png.getvalue(), svg.getvalue(), share)
