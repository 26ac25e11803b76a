"""The report stage: what it writes, when it writes again, and what it never touches."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretext.artifacts.atomic import file_sha256, read_json, write_json
from pretext.errors import ArtifactError
from pretext.stage_configs import ReportConfig
from pretext.stages import report
from pretext.stages.report import run

FABRICATE = Path(__file__).parents[1] / "reports" / "fabricate.py"


@pytest.fixture(scope="module")
def fab():
    spec = importlib.util.spec_from_file_location("fabricate_for_stage", FABRICATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def _quick_writing():
    """Hundreds of made-up files need not survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def runs(fab, tmp_path):
    """Two small runs with a linear probe each."""
    data = fab.make_data(tmp_path / "data" / "shapes", num_test=60)
    for name, loss, quality in (("a", "mse", 1.0), ("b", "l1", 2.0)):
        layout = fab.make_run(tmp_path / "runs" / name, data, loss=loss)
        fab.make_features(layout, data)
        fab.make_result(layout, "probe-linear", data, quality=quality, seed=0)
    return tmp_path / "runs"


@pytest.fixture
def quick(monkeypatch):
    """Leave the figures out where they do not matter."""
    from pretext.reports import document

    real = document.build_document

    def without_figures(study, *, title):
        for name in ("results_figure", "loss_figure", "sigma_figure", "few_labels_figure", "confusion_figure"):
            monkeypatch.setattr(document, name, lambda *args: None)
        monkeypatch.setattr(document, "_results", lambda study, look_of: [])
        monkeypatch.setattr(document, "_mistakes", lambda study: [])
        return real(study, title=title)

    monkeypatch.setattr(report, "build_document", without_figures)


def _config(runs, **more):
    return ReportConfig(runs=(runs,), out=runs.parent / "report", **more)


def _state(folder):
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def test_writes_everything_and_the_same_bytes_elsewhere(runs):
    answer = run(_config(runs))
    out = runs.parent / "report"
    assert answer["output"] == str(out / "report.html")
    assert answer["status"] == "done"
    assert answer["runs"] == 2
    assert answer["answer"].startswith("Among the pretrained encoders cnn-l1 scores best")
    assert answer["text"].index("cnn-l1") < answer["text"].index("cnn-mse")
    assert "\nWarning: Controls missing: a random encoder in Linear probe." in answer["text"]
    assert answer["warnings"] == answer["text"].count("\nWarning: ")
    json.dumps(answer)
    names = set(_state(out))
    assert {"report.html", "report.md", "manifest.json", "tables/results.csv", "tables/results.tex", "tables/pairs.csv",
            "tables/methods.csv", "tables/runs.tex", "figures/results.png", "figures/results.svg", "figures/losses.svg",
            "figures/confusion-1.png", "figures/mistakes-1.png", "figures/reconstruction-1.png"} <= names  # fmt: skip
    rows = list(csv.DictReader((out / "tables" / "results.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["cnn-l1", "cnn-mse"]
    assert f"{100 * float(rows[0]['ensemble_top1']):.1f} (" in answer["text"]
    run(ReportConfig(runs=(runs,), out=runs.parent / "again"))
    first, second = _state(out), _state(runs.parent / "again")
    assert {name: content for name, (_, content) in first.items() if name != "manifest.json"} == {
        name: content for name, (_, content) in second.items() if name != "manifest.json"}  # fmt: skip


def test_manifest_proves_what_it_was_made_from(runs, quick):
    run(_config(runs))
    content = read_json(runs.parent / "report" / "manifest.json")
    assert (content["status"], content["stage"]) == ("done", "report")
    parents = {parent["path"]: parent["fingerprint"] for parent in content["parents"]}
    assert len(parents) == len(content["parents"]) == 2 * 7
    assert all(file_sha256(Path(path)) == fingerprint for path, fingerprint in parents.items())
    for name, size in content["summary"]["files"].items():
        assert (runs.parent / "report" / name).stat().st_size == size


def test_second_time_touches_nothing(runs, quick):
    run(_config(runs))
    before = _state(runs.parent / "report")
    answer = run(_config(runs))
    assert answer["status"] == "already done"
    assert _state(runs.parent / "report") == before
    assert answer["answer"]
    assert "cnn-mse" in answer["text"]


def test_changed_run_makes_it_anew(runs, fab, quick):
    run(_config(runs))
    data = fab.make_data(runs.parent / "data" / "more", num_test=60)
    fab.make_run(runs / "c", data, loss="pse", sigma=4.0)
    assert run(_config(runs))["status"] == "done"
    assert "cnn-pse4" in (runs.parent / "report" / "report.html").read_text()
    assert run(_config(runs))["status"] == "already done"


@pytest.mark.parametrize("name", ["tables/results.csv", "figures/reconstruction-1.png", "report.html"])
def test_missing_file_makes_it_anew(runs, quick, name):
    run(_config(runs))
    path = runs.parent / "report" / name
    before = path.read_bytes()
    path.unlink()
    assert run(_config(runs))["status"] == "done"
    assert path.read_bytes() == before


def test_other_version_makes_it_anew(runs, quick, monkeypatch):
    run(_config(runs))
    monkeypatch.setattr(report, "__version__", "99")
    assert run(_config(runs))["status"] == "done"


def test_runs_that_change_meanwhile_are_told_and_the_report_before_stays(runs, fab, quick, monkeypatch):
    run(_config(runs))
    before = _state(runs.parent / "report")
    fab.make_run(runs / "c", fab.make_data(runs.parent / "data" / "shapes", num_test=60), loss="bce")
    render, told = report._render, runs / "c" / "manifest.json"

    def render_late(document):
        told.write_text(told.read_text() + "\n")
        return render(document)

    with monkeypatch.context() as patch:
        patch.setattr(report, "_render", render_late)
        with pytest.raises(ArtifactError, match="a run changed while its report was made; nothing of it was written"):
            run(_config(runs))
    after = _state(runs.parent / "report")
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: state for name, state in before.items() if name != "manifest.json"}  # fmt: skip
    assert read_json(runs.parent / "report" / "manifest.json")["status"] == "running"
    assert run(_config(runs))["status"] == "done"


def test_killed_half_way_goes_on(runs, quick, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(report, "to_html", lambda document: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(_config(runs))
    assert read_json(runs.parent / "report" / "manifest.json")["status"] == "running"
    assert run(_config(runs))["status"] == "done"


def test_files_of_the_report_before_do_not_stay(runs, quick, monkeypatch):
    run(_config(runs))
    out = runs.parent / "report"
    mine = out / "tables" / "my-notes.txt"
    mine.write_text("keep")
    stale = out / "figures" / "reconstruction-2.png"
    assert stale.exists()
    unfinished = read_json(runs / "a" / "manifest.json") | {"status": "running"}
    write_json(runs / "a" / "manifest.json", unfinished)
    with monkeypatch.context() as patch:  # killed in between: the list of old files must survive it
        patch.setattr(report, "to_html", lambda document: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(_config(runs))
    run(_config(runs))
    assert not stale.exists()
    assert (out / "figures" / "reconstruction-1.png").exists()
    assert mine.read_text() == "keep"


def test_other_arguments_need_overwrite(runs, quick):
    run(_config(runs))
    before = _state(runs.parent / "report")
    with pytest.raises(ArtifactError, match=r"already holds another report: title was 'Which.*', now 'Mine'") as caught:
        run(_config(runs, title="Mine"))
    assert "--overwrite" in caught.value.hint
    assert _state(runs.parent / "report") == before
    assert run(_config(runs, title="Mine", overwrite=True))["status"] == "done"
    assert "<h1>Mine</h1>" in (runs.parent / "report" / "report.html").read_text()


def test_overwrite_makes_the_same_again(runs, quick):
    run(_config(runs))
    assert run(_config(runs, overwrite=True))["status"] == "done"


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_of_other_files_is_never_touched(runs, overwrite):
    out = runs.parent / "report"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="is there already and is no report of this toolkit; nothing was touched"):
        run(_config(runs, overwrite=overwrite))
    assert list(_state(out)) == ["thesis.tex"]


def test_file_in_the_way_is_never_touched(runs):
    (runs.parent / "report").write_text("a file")
    with pytest.raises(ArtifactError, match="is no report of this toolkit"):
        run(_config(runs))


@pytest.mark.parametrize("overwrite", [False, True])
def test_output_of_another_stage_is_never_touched(runs, overwrite):
    before = _state(runs / "a")
    with pytest.raises(ArtifactError, match="is the output of pretrain, not a report"):
        run(ReportConfig(runs=(runs,), out=runs / "a", overwrite=overwrite))
    assert _state(runs / "a") == before


def test_empty_folder_is_taken(runs, quick):
    (runs.parent / "report").mkdir()
    assert run(_config(runs))["status"] == "done"


def test_report_among_the_runs_is_no_run(runs, quick):
    config = ReportConfig(runs=(runs,), out=runs / "report")
    assert run(config)["runs"] == 2
    answer = run(config)
    assert (answer["runs"], answer["status"]) == (2, "already done")


def test_dry_run_writes_nothing(runs):
    answer = run(_config(runs, dry_run=True))
    assert answer["status"] == "dry run"
    assert answer["reads"] == [str(runs / "a"), str(runs / "b")]
    assert str(runs.parent / "report" / "report.html") in answer["writes"]
    assert not (runs.parent / "report").exists()


def test_path_without_runs_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match=r"no such folder: .*nowhere"):
        run(ReportConfig(runs=(tmp_path / "nowhere",), out=tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_progress_is_told(runs, quick):
    told = []

    class Listener:
        def task(self, label, total, unit, *, done=0):
            from contextlib import nullcontext

            told.append((label, total, unit))
            return nullcontext(self)

        def advance(self, amount=1, **facts):
            told.append(amount)

        def say(self, text):
            told.append(text)

    run(_config(runs), progress=Listener())
    assert told[0][0] == "writing"
    assert told[0][1] == len(told) - 1 > 10


def test_report_needs_no_torch():
    code = "import sys, pretext.stages.report; print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "False False\n"
