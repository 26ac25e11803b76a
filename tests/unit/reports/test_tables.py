"""One table, five ways to write it."""

from __future__ import annotations

import csv
import io

import pytest

from pretext.reports.tables import (
    Column,
    Estimate,
    Spread,
    Table,
    duration,
    escape_latex,
    escape_markdown,
    p_value,
    percent,
    points,
    show,
    signed,
    to_csv,
    to_latex,
    to_markdown,
    to_terminal,
)

COLUMNS = [Column("method", "Method"), Column("top1", "Top-1, %", "estimate"), Column("fold", "One fold, %", "spread"),
           Column("n", "Images", "count"), Column("same", "Same?", "mark")]  # fmt: skip
TABLE = Table("t", "A title", COLUMNS, [
    ("cnn_a|b", Estimate(0.5315, (0.52, 0.5432)), Spread(0.488, 0.0071), 8000, True),
    ("x", Estimate(0.5), Spread(0.4), None, False),
], "A note.")  # fmt: skip


@pytest.mark.parametrize(("function", "value", "text"), [
    (percent, 0.53149, "53.1"), (percent, 1.0, "100.0"), (points, 0.0231, "+2.3"),
    (points, -0.0231, "\N{MINUS SIGN}2.3"), (points, -0.0001, "0.0"), (points, 0.0, "0.0"),
    (signed, -0.61249, "\N{MINUS SIGN}0.612"), (signed, 0.3, "+0.300"), (signed, -0.0001, "0.000"),
    (p_value, 0.0004, "<0.001"), (p_value, 0.0213, "0.021"),
    (p_value, 0.123, "0.12"), (p_value, 1.0, "1.00"), (duration, 2.04, "2.0 s"), (duration, 42.4, "42 s"),
    (duration, 119.0, "2 min"), (duration, 3599.0, "60 min"), (duration, 3660.0, "1 h 01 min"),
    (duration, 200_000.0, "2.3 days"),
])  # fmt: skip
def test_numbers_as_people_see_them(function, value, text):
    assert function(value) == text


@pytest.mark.parametrize(("cell", "kind", "text"), [
    (None, "percent", ""), (None, "text", ""), (Estimate(0.5, (0.4, 0.6)), "estimate", "50.0 (40.0 to 60.0)"),
    (Estimate(-0.05, (-0.1, 0.0)), "points-estimate", "\N{MINUS SIGN}5.0 (\N{MINUS SIGN}10.0 to 0.0)"),
    (Spread(0.5, 0.012), "spread", "50.0 \N{PLUS-MINUS SIGN} 1.2"), (12345, "count", "12,345"),
    (1.23456, "decimal", "1.235"), (123.456, "number", "123.5"), (True, "mark", "yes"), (False, "mark", "no"),
])  # fmt: skip
def test_cells_as_people_see_them(cell, kind, text):
    assert show(cell, kind) == text


def test_csv_has_plain_numbers_and_columns_for_both_ends():
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert list(rows[0]) == ["method", "top1", "top1_low", "top1_high", "fold", "fold_sd", "n", "same"]
    assert list(rows[0].values()) == ["cnn_a|b", "0.5315", "0.52", "0.5432", "0.488", "0.0071", "8000", "yes"]
    assert list(rows[1].values()) == ["x", "0.5", "", "", "0.4", "", "", "no"]


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\ta"])
def test_csv_defuses_formulas(name):
    text = to_csv(Table("t", "", [Column("a", "A"), Column("b", "B", "percent")], [(name, -0.5)]))
    assert list(csv.reader(io.StringIO(text)))[1] == ["'" + name, "-0.5"]


def test_csv_survives_commas_quotes_and_newlines():
    nasty = 'a,"b"\nc'
    text = to_csv(Table("t", "", [Column("a", "A")], [(nasty,)]))
    assert list(csv.reader(io.StringIO(text)))[1] == [nasty]


def test_markdown_table():
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == "**A title**"
    assert lines[-1] == "A note."
    assert lines[3] == "| --- | ---: | ---: | ---: | --- |"
    assert lines[4] == "| cnn\\_a\\|b | 53.1 (52.0 to 54.3) | 48.8 \N{PLUS-MINUS SIGN} 0.7 | 8,000 | yes |"


def test_markdown_takes_names_literally():
    assert escape_markdown("<script>*a*\n|b|") == "&lt;script&gt;\\*a\\* \\|b\\|"


def test_latex_table_is_balanced_and_escaped():
    text = to_latex(TABLE)
    assert "\\begin{tabular}{lrrrl}" in text
    assert text.rstrip().endswith("\\end{tabular}")
    assert [text.count(rule) for rule in ("\\toprule", "\\midrule", "\\bottomrule")] == [1, 1, 1]
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.replace(r"\&", "").count("&") == len(COLUMNS) - 1 for line in rows)
    assert len(rows) == 3
    assert r"48.8 $\pm$ 0.7" in text
    assert r"cnn\_a\textbar{}b" in text


def test_latex_takes_every_special_character_literally():
    escaped = escape_latex(r"\&%$#_{}~^<>")
    assert escaped == (r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}")


def _drawn(table):
    return to_terminal(table, width=200)


def test_terminal_reads_no_name_as_markup():
    table = Table("t", "[bold]T", [Column("a", "[red]A")], [("[link=x]y[/link]",)], "[i]n")
    assert all(text in _drawn(table) for text in ("[bold]T", "[red]A", "[link=x]y[/link]", "[i]n"))


def test_terminal_keeps_to_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = to_terminal(TABLE).splitlines()
    assert max(map(len, lines)) <= 60
    assert "A title" in lines[0]
    assert "A note." in lines[-1]


def test_terminal_is_not_steered_by_a_name():
    assert "a?[31mb?c" in _drawn(Table("t", "T", [Column("a", "A")], [("a\x1b[31mb\nc",)]))


def test_terminal_says_a_group_once():
    columns = [Column("evaluation", "Evaluation"), Column("b", "B")]
    table = Table("t", "T", columns, [("one", "x"), ("one", "y"), ("two", "z")])
    assert (_drawn(table).count("one"), _drawn(table).count("two")) == (1, 1)
    assert table.rows[1] == ("one", "y")


def test_compact_drops_what_is_empty_everywhere():
    columns = [Column("a", "A"), Column("b", "B"), Column("c", "C", "count")]
    table = Table("t", "T", columns, [("x", "", None), ("", "", 0)])
    assert [column.key for column in table.compact().columns] == ["a", "c"]
    assert table.compact().rows == [("x", None), ("", 0)]
