"""The HTML file: escaped, self-contained, well-formed, and true to the numbers."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from pretext.reports import figures, layers, loss_curves
from pretext.reports.document import Details, Gallery, Heading, build_document
from pretext.reports.html import data_uri, to_html
from pretext.reports.markdown import to_markdown_report
from pretext.reports.score_tables import Matrix
from pretext.reports.style import Picture
from pretext.reports.tables import Table, percent

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags, the addresses they load, and the text of every table."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.loads, self.links, self.open, self.tables = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "background", "action"):
                self.loads.append(value)
            if name == "href":
                (self.links if tag == "a" else self.loads).append(value)
            assert not name.startswith("on"), f"{tag} has a handler {name}"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.tables and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def page(document):
    return to_html(document)


@pytest.fixture(scope="module")
def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_names_are_escaped(page, read):
    assert "script" not in read.tags
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<h1>Which &lt;b&gt;one&lt;/b&gt;?</h1>" in page


def test_nothing_is_loaded_from_elsewhere(page, read):
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    assert len(read.loads) > 5
    assert all(address.startswith("data:image/") for address in read.loads)
    assert "@import" not in page
    assert not re.search(r"url\(", page)
    assert "default-src 'none'" in page
    for address in read.loads:
        content = base64.b64decode(address.partition(",")[2])
        if address.startswith("data:image/svg+xml"):
            assert b"<script" not in content
            assert not re.search(rb'href="(?!#|data:)', content)


def test_contents_point_at_sections(page, read, document):
    assert read.links == [f"#{section.anchor}" for section in document.sections]
    assert all(f'id="{section.anchor}"' in page for section in document.sections)


def test_every_asked_section_is_there(document):
    assert [section.anchor for section in document.sections] == [
        "compared", "results", "layers", "losses", "sigma", "few-labels", "confusion", "pictures", "mistakes", "cost",
        "published", "runs",
    ]  # fmt: skip


def test_scores_on_the_page_are_those_of_the_predictions(read, study):
    texts = [table[1:] for table in read.tables if table[0][0] == "Method" and "Ensemble top-1" in table[0][2]]
    assert len(texts) == len(study.evaluations)
    for rows, evaluation in zip(texts, study.evaluations, strict=True):
        for row, entry in zip(rows, evaluation.entries, strict=True):
            scores = [float(result.correct_N.mean()) for result in entry.results.values()]
            assert row[0] == entry.method.label
            assert row[1] == str(len(scores))
            assert row[2].startswith(percent(sum(scores) / len(scores)) + " (")


def test_every_picture_has_words(page, document):
    assert page.count("<img ") == len(document.pictures)
    assert all(f'alt="{picture.alt}"' in page and picture.alt and picture.caption for picture in document.pictures)
    assert len({picture.name for picture in document.pictures}) == len(document.pictures)


def test_paper_and_dark_screens_are_thought_of(page):
    assert "@media print" in page
    assert "size: A4" in page
    assert "color-scheme: light" in page


def test_drawings_are_svg_and_photographs_png(document):
    kinds = {picture.name.rstrip("0123456789"): data_uri(picture).partition(";")[0] for picture in document.pictures}
    assert kinds == {
        "results": "data:image/svg+xml", "losses": "data:image/svg+xml", "sigma": "data:image/svg+xml",
        "few-labels": "data:image/svg+xml", "confusion-": "data:image/svg+xml", "reconstruction-": "data:image/png",
        "mistakes-": "data:image/png",
    }  # fmt: skip


def test_single_layers_and_their_published_neighbours_are_on_the_page(workshop, monkeypatch):
    for module in (figures, layers, loss_curves):
        monkeypatch.setattr(module, "finish", lambda figure, *words, **more: Picture(*words, b"", b""))
    workshop.add_color("a", ("conv1", 0.5), ("conv2", 0.8), ("latent", 1.0))
    page = to_html(build_document(workshop.compare(), title="T"))
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    headings = [table[0] for table in reader.tables]
    assert ["Method", "conv1", "conv2", "latent"] in headings
    assert ["Whose", "Method", "Measured", "conv1, %", "conv2, %", "Same protocol?", "Why not"] in headings
    assert 'class="published-layers"' in page
    assert page.count('<tr class="theirs">') == page.count('<tr class="ours">') > 2


def test_document_has_every_kind_of_block(document):
    kinds = {type(block) for section in document.sections for block in section.blocks}
    assert {Table, Details, Gallery, Heading, Matrix} <= kinds
    assert document.finished == "2026-01-02T03:04:05+00:00"


def test_markdown_says_the_same(document, study):
    text = to_markdown_report(document)
    assert text.startswith("# Which &lt;b&gt;one&lt;/b&gt;?\n")
    assert "<script" not in text
    assert all(f"\n## {section.title}\n" in text for section in document.sections)
    assert all(f"](figures/{picture.name}.png)" in text for picture in document.pictures)
    for evaluation in study.evaluations:
        for entry in evaluation.entries:
            assert f"| {entry.method.label} | {len(entry.results)} | {percent(entry.top1)} (" in text
    assert document.answer.headline in text
