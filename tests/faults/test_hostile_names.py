"""Names from elsewhere: of runs, classes and data sets, with everything in them that some format would obey."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fault_counts import count
from hostile_readers import ENCODER, whole_files

from pretext.artifacts.atomic import file_sums, read_json, write_json
from pretext.artifacts.layout import find_runs
from pretext.cli.errors import one_line
from pretext.cli.listing import describe
from pretext.errors import ArtifactError
from pretext.reports.compare import compare
from pretext.reports.document import build_document
from pretext.reports.gather import gather
from pretext.reports.html import to_html
from pretext.reports.markdown import to_markdown_report
from pretext.reports.score_tables import headline_table
from pretext.reports.tables import Column, Table, escape_markdown, printable, to_csv, to_latex, to_markdown, to_terminal

SUITE = "hostile names"
FABRICATE = Path(__file__).parents[1] / "unit" / "reports" / "fabricate.py"
NAMES = (
    "<script>alert(1)", "'\"><img src=x onerror=alert(1)>", "]]><!--", "{{ 7*7 }}{% raw %}", "[a](javascript:alert(1))",
    "|x|y|", "`code`", "**b** _i_ ~~s~~", "a\nb\r\nc", "# heading", "\u202egnp.exe\u2066", "\x1b[31mred\x1b[0m\x07\x9b2J",
    "\\input{x}$a_b^c$&%#~", "=HYPERLINK(1)", "+1", "@SUM(1)", "&lt;b&gt;&#60;", "\x00\x08", "$\\frac{1}{0}$", "\u2028x\u2029",
)  # fmt: skip
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Shape(HTMLParser):
    """The elements and attributes of a page, and the text in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data!r}")


def _study(root: Path, names: tuple[str, ...], quiet: bool = False):
    """A study of three runs whose folders, data set, classes and options bear these names."""
    spec = importlib.util.spec_from_file_location("fabricate_for_names", FABRICATE)
    fab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fab)
    data = fab.make_data(root / "data" / "shapes", num_test=40)
    data |= {"name": names[0], "class_names": [f"{names[i % len(names)]}{i}" for i in range(len(fab.CLASSES))]}
    for number, name in enumerate(names[1:4]):
        folder = name.replace("/", "\N{DIVISION SLASH}").replace("\0", "0") or "x"
        layout = fab.make_run(
            root / "runs" / folder, data, loss=names[4], encoder=names[5], seed=number // 2, augment=name
        )
        fab.make_features(layout, data)
        fab.make_result(
            layout, "probe-linear", data, quality=1.0 + number, seed=number // 2, protocol={"head": names[6]}
        )
        record = layout.record("probe-linear")
        content = read_json(layout.result("probe-linear"))
        content["notes"] = [names[7]]
        write_json(layout.result("probe-linear"), content)
        write_json(record, read_json(record) | {"outputs": {path.name: file_sums(path) for path in
                   (layout.result("probe-linear"), layout.predictions("probe-linear"))}})  # fmt: skip
    return compare(gather(find_runs((root / "runs",))))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The same study with harmless names and with hostile ones, three times over all of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        plain = tuple(f"n{number}" for number in range(8))
        sets = [tuple(NAMES[(start + number) % len(NAMES)] for number in range(8)) for start in (0, 7, 14)]
        return [(names, _study(tmp_path_factory.mktemp("names"), names)) for names in (plain, *sets)]


@pytest.fixture(scope="module")
def documents(studies):
    return [(names, build_document(study, title=names[0])) for names, study in studies]


def test_no_element_and_no_attribute_of_the_page_comes_from_a_name(documents):
    pages = [(names, Shape(to_html(document))) for names, document in documents]
    known = {(tag, attributes) for tag, attributes in pages[0][1].tags}
    for names, page in pages[1:]:
        assert page.open == []
        assert set(page.tags) <= known
        assert len([tag for tag, _ in page.tags if tag == "h1"]) == 1
        assert any(names[0].split()[0][:5] in text for text in page.text) or CONTROL.search(names[0])
        count(SUITE, len(names), len(names), inputs=len(names))


def test_no_name_becomes_markup_in_markdown(documents):
    for names, document in documents[1:]:
        text = to_markdown_report(document)
        assert not re.search(r"<[a-zA-Z!/]", text)
        assert not re.search(r"(?<!\\)\]\((?!figures/)", text)
        assert not CONTROL.search(text)
        assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
        count(SUITE, len(names), len(names), inputs=len(names))


@pytest.mark.parametrize("name", NAMES)
def test_tables_keep_their_rows_and_cells(name):
    table = Table("t", name, [Column("a", name), Column("b", "b", "count")], [(name, 5)], name)
    rows = list(csv.reader(io.StringIO(to_csv(table), newline="")))
    assert len(rows) == 2
    assert rows[1][1] == "5"
    assert not rows[1][0].lstrip().startswith(("=", "+", "-", "@"))
    lines = to_markdown(table).splitlines()
    cells = [line for line in lines if line.startswith("| ")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in cells] == [3, 3, 3]  # heading, rule, row
    latex = to_latex(table)
    body = re.sub(r"^%.*$", "", latex, flags=re.MULTILINE)
    assert [line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")] == [1, 1]
    assert not re.search(r"\\(input|frac)\b", body)
    for text in (latex, to_markdown(table), to_terminal(table)):
        assert not CONTROL.search(text)
    count(SUITE, 1, 1, inputs=1)


@pytest.mark.parametrize("name", NAMES)
def test_the_terminal_gets_no_control_character(tmp_path, name):
    for text in (printable(name), one_line(name), escape_markdown(name)):
        assert not CONTROL.search(text)
    folder = tmp_path / (name.replace("/", "").replace("\0", "") or "x")
    files = whole_files(folder)
    write_json(
        files["manifest"], read_json(files["manifest"]) | {"summary": {name: name, "list": [{name: name}], "x": [name]}}
    )
    for path in files.values():
        if path.suffix != ".toml":
            assert not CONTROL.search(describe(path, as_json=False))
            assert not CONTROL.search(describe(path, as_json=True))
    with pytest.raises(ArtifactError) as caught:
        describe(folder / f"absent{name.replace('/', '')}.json".replace("\0", ""), as_json=False)
    assert not CONTROL.search(one_line(caught.value.message))
    count(SUITE, 1, 1, inputs=1)


def test_the_command_itself_shows_no_control_character(tmp_path):
    folder = tmp_path / "\x1b[31mred\u202e\n"
    whole_files(folder)
    for command in (["inspect", str(folder / "checkpoint.safetensors")], ["inspect", str(folder / "none.json")],
                    ["inspect", "--verify", str(folder)]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "pretext", *command], capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr
        assert not CONTROL.search(done.stdout + done.stderr)
        assert done.returncode == (0 if "checkpoint" in command[1] else 4)
    assert ENCODER["image_size"] == 16
    count(SUITE, 3, 3, inputs=3)


def test_the_report_prints_no_control_character(studies):
    for names, study in studies[1:]:
        text = to_terminal(headline_table(study.primary))
        assert not CONTROL.search(text)
        count(SUITE, len(names), len(names), inputs=len(names))
