"""One neutral table, and its text for the terminal, Markdown, CSV, LaTeX and HTML.

Cells hold numbers, never formatted text: scores are fractions in 0..1 and become per cent only when they are shown.
"""

from __future__ import annotations

import csv
import html
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.table

PLUS_MINUS, MINUS = "\N{PLUS-MINUS SIGN}", "\N{MINUS SIGN}"
TEXT, MARK = "text", "mark"
GROUP = "evaluation"  # key of a first column that a terminal says once for all its rows


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the ends of its interval; no interval where it can't be known."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean with a standard deviation; None where there was only one value."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        key: Name in the CSV file.
        title: Heading for people, with its unit.
        kind: A key of `FORMATS`, or text or mark.
    """

    key: str
    title: str
    kind: str = TEXT

    @property
    def is_number(self) -> bool:
        return self.kind not in (TEXT, MARK)


@dataclass(slots=True)
class Table:
    """A table: what it is called, what it shows, and rows of cells in the order of the columns.

    Args:
        name: File name without suffix.
        title: One line above it.
        columns: The columns.
        rows: One tuple of cells per row.
        note: What a reader must know, below it.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    note: str = ""

    def compact(self) -> Table:
        """The same without the columns that are empty in every row."""
        full = [index for index in range(len(self.columns)) if any(row[index] not in (None, "") for row in self.rows)]
        rows = [tuple(row[index] for index in full) for row in self.rows]
        return Table(self.name, self.title, [self.columns[index] for index in full], rows, self.note)

    def shown_rows(self) -> list[list[str]]:
        """Every cell as people see it."""
        return [[show(cell, column.kind) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]


def show(cell: Any, kind: str) -> str:
    """A cell as people see it; nothing is an empty string."""
    if cell is None:
        return ""
    if kind == MARK:
        return "yes" if cell else "no"
    return str(cell) if kind == TEXT else FORMATS[kind](cell)


def percent(value: float) -> str:
    """A fraction as per cent with one decimal, without the sign."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of fractions in percentage points, always with a sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def decimal(value: float) -> str:
    """A number with three decimals."""
    return f"{value:.3f}".replace("-", MINUS)


def signed(value: float) -> str:
    """A difference of losses, always with a sign."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", MINUS)


def p_value(value: float) -> str:
    """A p-value; very small ones as a bound."""
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Wall time in the two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60), seconds / 3600
    if hours < 1:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if hours < 48 else f"{hours / 24:.1f} days"


def count(value: int) -> str:
    """A whole number with a comma at the thousands."""
    return f"{value:,}"


def _estimate(number: Callable[[float], str], to: str) -> Callable[[Estimate], str]:
    def text(cell: Estimate) -> str:
        if cell.interval is None:
            return number(cell.value)
        return f"{number(cell.value)} ({number(cell.interval[0])}{to}{number(cell.interval[1])})"

    return text


def _spread(cell: Spread) -> str:
    return percent(cell.mean) + (f" {PLUS_MINUS} {percent(cell.sd)}" if cell.sd is not None else "")


FORMATS: dict[str, Callable[[Any], str]] = {
    "count": count, "percent": percent, "points": points, "p": p_value, "duration": duration, "spread": _spread,
    "number": lambda value: f"{value:.4g}", "decimal": decimal, "signed": signed,
    "signed-estimate": _estimate(signed, " to "), "decimal-estimate": _estimate(decimal, " to "),
    "estimate": _estimate(percent, " to "), "points-estimate": _estimate(points, " to "),
}  # fmt: skip


def to_csv(table: Table) -> str:
    """The table for programs: plain numbers, intervals and spreads in columns of their own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for column in table.columns for name in _csv_names(column)])
    for row in table.rows:
        pairs = zip(row, table.columns, strict=True)
        writer.writerow([value for cell, column in pairs for value in _csv_cells(cell, column)])
    return out.getvalue()


def _csv_names(column: Column) -> list[str]:
    if column.kind.endswith("estimate"):
        return [column.key, f"{column.key}_low", f"{column.key}_high"]
    return [column.key, f"{column.key}_sd"] if column.kind == "spread" else [column.key]


def _csv_cells(cell: Any, column: Column) -> list[Any]:
    if cell is None:
        return [""] * len(_csv_names(column))
    if isinstance(cell, Estimate):
        return [_plain(value) for value in (cell.value, *(cell.interval or (None, None)))]
    if isinstance(cell, Spread):
        return [_plain(cell.mean), _plain(cell.sd)]
    if column.kind in (TEXT, MARK):
        text = show(cell, column.kind)
        # A spreadsheet would run a name that begins like a formula.
        return ["'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text]
    return [_plain(cell)]


def _plain(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def to_markdown(table: Table) -> str:
    """A pipe table under a bold title; names can neither break the table nor become markup."""
    lines = [f"**{escape_markdown(table.title)}**", ""]
    lines.append("| " + " | ".join(escape_markdown(column.title) for column in table.columns) + " |")
    lines.append("|" + "|".join(" ---: " if column.is_number else " --- " for column in table.columns) + "|")
    lines += ["| " + " | ".join(escape_markdown(cell) for cell in row) + " |" for row in table.shown_rows()]
    return "\n".join(lines + (["", escape_markdown(table.note)] if table.note else [])) + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown, and the HTML inside it, take literally."""
    plain = html.escape(printable(" ".join(text.split())), quote=False)
    return "".join("\\" + character if character in "\\`*_[]|#~" else character for character in plain)


def to_latex(table: Table) -> str:
    """A tabular with the rules of booktabs; stands alone in a `table` environment."""
    align = "".join("r" if column.is_number else "l" for column in table.columns)
    heading = " & ".join(escape_latex(column.title) for column in table.columns) + r" \\"
    lines = [f"% {printable(' '.join(table.title.split()))}", "% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{align}}}",
             "\\toprule", heading, "\\midrule"]  # fmt: skip
    lines += [" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in table.shown_rows()]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
         PLUS_MINUS: r"$\pm$", MINUS: "$-$", '"': "''", "|": r"\textbar{}"}  # fmt: skip


def escape_latex(text: str) -> str:
    """Text that LaTeX takes literally."""
    return "".join(LATEX.get(character, character) for character in printable(" ".join(text.split())))


def to_terminal(table: Table, *, width: int | None = None) -> str:
    """The table as plain text, as wide as the terminal is (120 columns where there is none)."""
    from rich.console import Console

    out = io.StringIO()
    columns = width or shutil.get_terminal_size((120, 24)).columns
    Console(file=out, width=columns, color_system=None, legacy_windows=False).print(to_rich(table))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def to_rich(table: Table) -> rich.table.Table:
    """The table for rich; no name is read as markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(printable(table.title)), caption=Text(printable(table.note)) if table.note else None, title_justify="left",
                      caption_justify="left")  # fmt: skip
    for column in table.columns:
        drawn.add_column(
            Text(printable(column.title)), justify="right" if column.is_number else "left", overflow="fold"
        )
    before = None
    for row in table.shown_rows():
        if table.columns[0].key == GROUP and row[0] != before:
            if before is not None:
                drawn.add_section()
            before = row[0]
        elif table.columns[0].key == GROUP:
            row[0] = ""
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn


def printable(text: str) -> str:
    """Text without the control characters that could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
