"""Sections of thin studies: what is missing is said, nothing fails."""

from __future__ import annotations

import shutil

import pytest

from pretext.reports import figures, layers, loss_curves
from pretext.reports.compare import compare
from pretext.reports.document import Gallery, Heading, Text, build_document
from pretext.reports.html import to_html
from pretext.reports.markdown import to_markdown_report
from pretext.reports.style import Picture


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """What figures look like is tested elsewhere; here only whether there is one."""

    def finish(figure, name, caption, alt, **more):
        return Picture(name, caption, alt, b"", b"")

    monkeypatch.setattr(figures, "finish", finish)
    monkeypatch.setattr(loss_curves, "finish", finish)
    monkeypatch.setattr(layers, "finish", finish)


def _section(document, anchor):
    return next(section for section in document.sections if section.anchor == anchor)


def _texts(document, anchor):
    return [block.text for block in _section(document, anchor).blocks if isinstance(block, Text)]


def test_empty_study_is_a_report_of_its_emptiness():
    document = build_document(compare([]), title="T")
    assert _texts(document, "results") == ["There is no finished result yet."]
    assert _texts(document, "losses") == ["No run has a loss curve."]
    assert _texts(document, "sigma") == ["No two runs differ in nothing but sigma."]
    assert _texts(document, "few-labels") == ["No few-label curve was run (--labels-per-class)."]
    assert _texts(document, "confusion") == ["No pretrained encoder has been scored."]
    assert _texts(document, "pictures") == ["No run has a picture of what its network makes."]
    assert _texts(document, "layers")[0].startswith("No run was probed at several layers")
    assert _texts(document, "mistakes") == ["No pretrained encoder has been scored."]
    assert _texts(document, "published")[0].startswith("No published figure")
    assert document.pictures == []
    assert document.finished == ""
    assert "There is no finished result yet." in to_html(document)
    assert "## Results" in to_markdown_report(document)


def test_one_method_has_nothing_to_compare_with(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    document = build_document(workshop.compare(), title="T")
    assert "There is nothing to compare it with." in _texts(document, "results")


def test_more_methods_than_fit_point_to_the_file(workshop, monkeypatch):
    from pretext.reports import document as module
    from pretext.reports import score_tables

    for lr in (0.1, 0.2, 0.3, 0.4):
        workshop.add(f"a{lr}", ("probe-linear", 1.0), lr=lr)
    monkeypatch.setattr(module, "MATRIX_METHODS", 3)
    monkeypatch.setattr(score_tables, "MATRIX_METHODS", 3)
    assert "All pairs are in tables/pairs.csv." in _texts(build_document(workshop.compare(), title="T"), "results")


def test_unreadable_picture_is_named(workshop):
    layout = workshop.add("a")
    workshop.add("b", loss="l1")
    picture = layout.picture("reconstructions")
    picture.write_bytes(b"x" * picture.stat().st_size)
    document = build_document(workshop.compare(), title="T")
    assert _texts(document, "pictures") == ["Their picture can't be read: a."]
    (gallery,) = [block for block in _section(document, "pictures").blocks if isinstance(block, Gallery)]
    assert [picture.caption for picture in gallery.pictures] == ["cnn-l1 (run b)"]


def test_first_seed_is_shown(workshop):
    workshop.add("b", seed=0)
    workshop.add("a", seed=1)
    heading, gallery = _section(build_document(workshop.compare(), title="T"), "pictures").blocks
    assert heading.text == "Reconstructions"
    assert [picture.caption for picture in gallery.pictures] == ["cnn-mse (run b)"]


def test_colorizations_have_a_gallery_of_their_own(workshop):
    workshop.add("a")
    workshop.add_color("b")
    blocks = _section(build_document(workshop.compare(), title="T"), "pictures").blocks
    assert [block.text for block in blocks[::2]] == ["Reconstructions", "Colourings"]
    assert [[(picture.name, picture.caption) for picture in block.pictures] for block in blocks[1::2]] == [
        [("reconstruction-1", "cnn-mse (run a)")], [("colorization-1", "simplenet5-split-brain-lab (run b)")],
    ]  # fmt: skip


def test_layers_have_a_section_and_the_results_only_the_primary_one(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0))
    workshop.add_color("r", ("conv1", 0.2), ("latent", 0.1), space=None)
    document = build_document(workshop.compare(), title="T")
    headings = [block.text for block in _section(document, "results").blocks if isinstance(block, Heading)]
    assert headings == ["Linear probe"]
    figure, grid, details = _section(document, "layers").blocks
    assert figure.name == "layers"
    assert grid.rows[0][0] == "simplenet5-split-brain-lab"
    assert details.table.name == "layers"
    assert {table.name for table in document.tables} >= {"layers", "pretext-losses", "published-layers"}


def test_losses_are_shown_for_whole_runs_and_by_head_on_demand(workshop):
    workshop.add_color("a")
    workshop.add("b")
    whole, details, picture = _section(build_document(workshop.compare(), title="T"), "losses").blocks
    assert len(whole.rows) == 2
    assert len(details.table.rows) == 4
    assert picture.name == "losses"


@pytest.mark.parametrize(("quality", "gone", "text"), [(99.0, False, "no mistakes."), (1.0, True, "can't be shown")])
def test_mistakes_that_can_not_be_shown(workshop, quality, gone, text):
    workshop.add("a", ("probe-linear", quality))
    if gone:
        shutil.rmtree(workshop.root / "data")
    (found,) = _texts(build_document(workshop.compare(), title="T"), "mistakes")
    assert found.startswith("Linear probe, cnn-mse (run a): ")
    assert text in found
