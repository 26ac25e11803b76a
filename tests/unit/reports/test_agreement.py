"""Metrics against people's judgments: tables, paired differences, the published numbers beside ours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from pretext.artifacts.atomic import write_json
from pretext.artifacts.layout import RunLayout, find_runs
from pretext.artifacts.manifest import Record
from pretext.published import lpips
from pretext.reports import agreement as module
from pretext.reports.agreement import (
    agreement_figure,
    agreement_sentences,
    agreement_table,
    find_contests,
    paired_interval,
    published_agreement_table,
)
from pretext.reports.answer import warnings
from pretext.reports.compare import compare
from pretext.reports.context_tables import runs_table
from pretext.reports.document import build_document
from pretext.reports.gather import gather

MAIN = {"triplets": "two_afc", "ratings": "srcc", "pairs": "jnd_map"}
NUM, GROUPS = 120, 12


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def _columns(kind, quality, seed):
    """Judgments of one set, and what a metric makes of them: the better, the more of them it gets right."""
    people, metric = np.random.default_rng(0), np.random.default_rng([seed, 1])
    group_N = np.sort(people.integers(0, GROUPS, NUM))
    if kind == "triplets":
        share_N = people.choice([0.6, 0.8, 1.0], NUM)
        right_N = metric.random(NUM) < quality
        return {"group": group_N, "agreement": np.where(right_N, share_N, 1 - share_N)}
    said_N = people.random(NUM).round(1)
    distance_N = -quality * said_N + (1 - quality) * metric.random(NUM)
    return {"group": group_N, "distance": distance_N, "score" if kind == "ratings" else "same_share": said_N}


def make_score(folder, word, quality, *, kind="triplets", name="photos", split="test", layout="triplets", value=None,
               seed=0, saw=None, network=None, notes=(), **judgments):  # fmt: skip
    """What score-metric writes."""
    layout_of = RunLayout(folder)
    folder.mkdir(parents=True)
    columns = _columns(kind, quality, seed)
    value = columns["agreement"].mean() if kind == "triplets" else value if value is not None else quality
    scores = {MAIN[kind]: {"value": float(value), "ci95": [float(value) - 0.03, float(value) + 0.03]}}
    if kind == "ratings":
        scores |= {"plcc": {"value": 0.5, "ci95": None}, "krcc": {"value": 0.4, "ci95": [0.3, 0.5]}}
    content = {
        "schema": 1, "kind": "score-metric",
        "judgments": {"name": name, "layout": layout, "kind": kind, "split": split, "num": NUM, "num_images": 400,
                      "fingerprint": f"{name}-{kind}-{split}", "image_size": None} | judgments,
        "metric": {"name": word.split("-")[0], "word": word} | ({"network": network} if network else {}),
        "scores": scores, "human": {"ceiling": 0.838, "majority": 0.9} if kind == "triplets" else None, "saw": saw,
        "seed": 0, "parents": [], "notes": list(notes),
    }  # fmt: skip
    record = Record(layout_of.record("score"), "score-metric", {}, [])
    record.begin({}, seed=0)
    write_json(layout_of.result("score"), content)
    pq.write_table(pa.table(columns), folder / "score-judgments.parquet")
    record.finish([layout_of.result("score"), folder / "score-judgments.parquet"], summary={})
    return layout_of


def _study(root):
    return compare(gather(find_runs((root,))))


@pytest.fixture
def scored(tmp_path):
    make_score(tmp_path / "a", "mse", 0.3, seed=1)
    make_score(tmp_path / "b", "lpips-squeezenet1_1-published", 0.95, seed=2, saw="ImageNet-1K labels", network="squeezenet1_1",
               notes=["a note"])  # fmt: skip
    make_score(tmp_path / "c", "perceptual-vgg16-2", 0.6, seed=3, network="vgg16")
    return _study(tmp_path)


def test_metrics_on_the_same_judgments_are_one_contest_with_the_best_first(scored):
    (contest,) = find_contests(scored)
    assert contest.title == "photos, test"
    assert [label for label, _ in contest.entries] == ["lpips-squeezenet1_1-published", "perceptual-vgg16-2", "mse"]


def test_other_judgments_are_another_contest(tmp_path):
    make_score(tmp_path / "a", "mse", 0.6)
    make_score(tmp_path / "b", "mse", 0.6, split="train")
    make_score(tmp_path / "c", "mse", 0.6, kind="ratings", name="tid", layout="tid2013")
    make_score(tmp_path / "d", "ssim", 0.6, fingerprint="other votes")
    contests = find_contests(_study(tmp_path))
    assert [len(contest.entries) for contest in contests] == [1, 1, 1, 1]
    assert len({contest.title for contest in contests}) == 4


def test_one_metric_at_two_sizes_has_two_labels(tmp_path):
    make_score(tmp_path / "a", "mse", 0.6)
    make_score(tmp_path / "b", "mse", 0.8, image_size=32, fingerprint="photos-triplets-test")
    (contest,) = find_contests(_study(tmp_path))
    assert [label for label, _ in contest.entries] == ["mse, image size 32", "mse, image size None"]


def test_table_has_scores_with_intervals_and_paired_differences(scored):
    contests = find_contests(scored)
    rows = _records(agreement_table(contests))
    (_, best), (_, second), _ = contests[0].entries
    assert rows[0]["two_afc"].value == best.main["value"]
    assert rows[0]["two_afc"].interval == pytest.approx((best.main["value"] - 0.03, best.main["value"] + 0.03))
    assert rows[0]["saw"] == "ImageNet-1K labels"
    assert rows[0]["points"] is None
    difference_N = second.columns["agreement"] - best.columns["agreement"]
    assert rows[1]["points"].value == pytest.approx(difference_N.mean())
    assert rows[1]["points"].interval[0] < difference_N.mean() < rows[1]["points"].interval[1]
    assert {row["evaluation"] for row in rows} == {"photos, test"}
    assert "evaluation" not in _records(agreement_table(contests, name_evaluation=False))[0]


def test_paired_interval_draws_references_and_not_judgments():
    group_N = np.repeat(np.arange(8), 50)
    value_N = np.repeat(np.random.default_rng(0).normal(0.1, 0.1, 8), 50)
    a, b = ({"group": group_N, "agreement": agreement_N} for agreement_N in (value_N, np.zeros(400)))
    low, high = paired_interval("two_afc", a, b)
    # the sd of the mean of 8 references, of which the 400 judgments are mere copies
    assert high - low == pytest.approx(2 * 1.96 * value_N.std() / np.sqrt(8), rel=0.15)


def test_differences_of_correlations_are_paired_as_well(tmp_path):
    make_score(tmp_path / "a", "mse", 0.7, kind="ratings", seed=1)
    make_score(tmp_path / "b", "ssim", 0.3, kind="ratings", seed=2)
    (contest,) = find_contests(_study(tmp_path))
    (_, a), (_, b) = contest.entries
    scores = [-stats.spearmanr(entry.columns["distance"], entry.columns["score"]).statistic for entry in (a, b)]
    low, high = paired_interval("srcc", a.columns, b.columns)
    assert low < scores[0] - scores[1] < high
    row = _records(agreement_table([contest]))[1]
    assert row["signed"].interval == pytest.approx((-high, -low))
    assert (row["plcc"].interval, row["krcc"].interval) == (None, (0.3, 0.5))


def test_pairs_that_nobody_took_for_the_same_do_not_break_the_bootstrap(tmp_path):
    a, b = (_columns("pairs", quality, 1) for quality in (0.8, 0.2))
    for columns in (a, b):
        columns["same_share"] = np.where(columns["group"] == 0, columns["same_share"], 0.0)
    low, high = paired_interval("jnd_map", a, b)
    assert low <= high


def test_metrics_of_other_rows_have_no_difference(scored):
    (contest,) = find_contests(scored)
    (_, a), (_, b), _ = contest.entries
    other = dataclasses.replace(b, columns={**b.columns, "group": b.columns["group"][::-1]})
    assert contest.difference(a, other) is None


def test_sentences_tell_the_best_the_lead_and_how_far_people_get(scored):
    (contest,) = find_contests(scored)
    text = " ".join(agreement_sentences(contest))
    assert text.startswith("Best: lpips-squeezenet1_1-published, ")
    assert "Next: perceptual-vgg16-2, " in text
    assert "the order is sure over references" in text
    assert "One judge agrees with another in 83.8 %." in text
    assert "more than 90.0 %" in text
    assert text.endswith("a note")


def test_metrics_that_are_alike_leave_the_order_open(tmp_path):
    make_score(tmp_path / "a", "mse", 0.7, seed=1)
    make_score(tmp_path / "b", "ssim", 0.7, seed=2)
    (contest,) = find_contests(_study(tmp_path))
    assert "which of them is better is open" in " ".join(agreement_sentences(contest))


def test_figure_has_a_row_per_metric_and_the_ceiling(scored, monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "finish", lambda figure, *words: drawn.append(figure))
    contests = find_contests(scored)
    agreement_figure(contests)
    (axis,) = drawn[0].axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "lpips-squeezenet1_1-published", "perceptual-vgg16-2", "mse"]  # fmt: skip
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx(
        [100 * s.main["value"] for _, s in contests[0].entries]
    )
    assert any(list(line.get_xdata()) == pytest.approx([83.8, 83.8]) for line in axis.lines)


def test_scores_are_read_beside_runs_and_have_a_section(scored, workshop):
    assert all(run.state == "done" and not run.issues for run in scored.runs)
    assert {row["results"] for row in _records(runs_table(scored))} == {"score"}
    workshop.add("run", ("probe-linear", 1.0))
    make_score(workshop.runs / "score", "mse", 0.7)
    study = workshop.compare()
    assert len(study.methods) == 1
    document = build_document(study, title="t")
    (section,) = [section for section in document.sections if section.anchor == "agreement"]
    assert [type(block).__name__ for block in section.blocks] == ["Picture", "Heading", "Text", "Table"]


def test_scores_alone_are_no_reason_to_ask_for_probes(scored):
    assert not any("no finished result" in line for line in warnings(scored))


@pytest.mark.parametrize("damage", ["schema", "kind", "num", "parquet", "metric", "value"])
def test_broken_scores_are_named_and_left_out(tmp_path, damage):
    layout = make_score(tmp_path / "a", "mse", 0.6)
    path = layout.result("score")
    record = layout.record("score")
    record.write_text(record.read_text().replace('"outputs": {', '"outputs": {}, "old": {'))
    if damage == "parquet":
        pq.write_table(pa.table({"group": [1] * NUM}), layout.folder / "score-judgments.parquet")
    else:
        swap = {"schema": ('"schema": 1', '"schema": 2'), "kind": ('"kind": "triplets"', '"kind": "guesses"'),
                "num": (f'"num": {NUM}', '"num": 3'), "metric": ('"word"', '"words"'), "value": ('"value"', '"valued"')}  # fmt: skip
        text = path.read_text()
        assert swap[damage][0] in text
        path.write_text(text.replace(*swap[damage]))
    study = _study(tmp_path)
    assert find_contests(study) == []
    assert [(issue.part, issue.state) for issue in study.issues] == [("score", "broken")]


def test_published_numbers_stand_above_ours_of_the_same_sets(tmp_path):
    for subset, quality in zip(lpips.SUBSETS, (0.6, 0.7, 0.65, 0.6, 0.6, 0.7), strict=True):
        make_score(tmp_path / subset, "mse", quality, name="2afc", layout="2afc", split=f"val/{subset}")
    make_score(tmp_path / "ssim", "ssim", 0.7, name="2afc", layout="2afc", split="val/cnn")
    make_score(tmp_path / "whole", "ssim", 0.8, name="2afc", layout="2afc", split="val")
    contests = find_contests(_study(tmp_path))
    rows = _records(published_agreement_table(contests))
    assert [row["metric"] for row in rows[:3]] == ["human", "L2", "SSIM"]
    assert rows[1]["all"] == 0.632
    mse, ssim = sorted((row for row in rows if row["who"] == "ours"), key=lambda row: row["metric"])
    assert mse["all"] == pytest.approx(np.mean([mse[subset] for subset in lpips.SUBSETS]))
    assert mse["algorithms"] == pytest.approx(np.mean([mse[s] for s in ("superres", "deblur", "color", "frameinterp")]))
    assert (ssim["all"], ssim["superres"]) == (None, None)
    assert ssim["cnn"] is not None
    assert ssim["together"] is not None


def test_nothing_published_is_shown_where_no_judgments_are_of_bapps(scored):
    assert published_agreement_table(find_contests(scored)).rows == []
    assert published_agreement_table([]).rows == []
    assert agreement_figure([]) is None
