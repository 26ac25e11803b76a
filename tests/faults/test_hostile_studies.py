"""Manifests, study files and results that were written to do harm, or by something else."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fault_counts import count

from pretext.artifacts.atomic import file_sums, read_json, write_json
from pretext.artifacts.layout import RunLayout
from pretext.artifacts.manifest import Record, read_manifest, require_done
from pretext.artifacts.results import Predictions, read_predictions, write_predictions
from pretext.artifacts.verify import verify
from pretext.cli.app import SECTIONS, STAGES
from pretext.config import read_study, resolve
from pretext.errors import ArtifactError, ConfigError
from pretext.reports.gather import BROKEN, MISMATCHED, gather
from pretext.stage_configs import PretrainConfig, ReportConfig
from pretext.stages import report

SUITE = "hostile manifests, studies and results"
FABRICATE = Path(__file__).parents[1] / "unit" / "reports" / "fabricate.py"
GOOD = {
    "schema": 1, "stage": "probe-linear", "status": "done", "request": {}, "config": {}, "seed": 0, "parents": [],
    "wall_seconds": 1.5, "summary": {}, "outputs": {"a.bin": {"sha256": "sha256:x", "bytes": 5, "crc32": "00000000"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick_writing(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b'{"schema": 1, "stage": "x", "status": "done", "wall_seconds": 1e400}',
        b'{"schema": 1, "stage": "x", "status": "done", "wall_seconds": ' + b"9" * 5000 + b"}", b"[" * 10**5,
        b'{"a":' * 10**5, b"\0", b'{"status": "done"', b'{"schema": 1.5, "stage": "x", "status": "done"}',
        b'{"schema": true, "stage": "x", "status": "done"}', b'{"schema": 1, "stage": ["x"], "status": "done"}',
        b'{"schema": 1, "stage": "x", "status": "done", "outputs": {"a": {"bytes": 5, "sha256": "x", "crc32": 7}}}',
        b'{"schema": 1, "stage": "x", "status": "done", "outputs": {"a": {"bytes": 1e30, "sha256": "x", "crc32": ""}}}',
    ],
)  # fmt: skip
def test_manifests_that_are_none_are_refused_by_name(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text)
    for read in (read_manifest, lambda path: require_done(path, hint="")):
        with pytest.raises(ArtifactError, match=r"manifest\.json ") as caught:
            read(tmp_path / "manifest.json")
        assert len(caught.value.message) < 1000
    count(SUITE, 1, 1, inputs=1)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "..", ".", "", "a/../../x", "..\\x", "C:\\x", "a\0b", "sub/x", "/", "~/../x"]
)
@pytest.mark.parametrize("status", ["done", "running"])
def test_overwrite_removes_nothing_outside_the_folder(tmp_path, name, status):
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    for path in (tmp_path / "x", tmp_path / "runs" / "x", run / "sub" / "x"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine!")
    outputs = {name: {"sha256": "sha256:x", "bytes": 5, "crc32": "00000000"}}
    (run / "manifest.json").write_text(json.dumps(GOOD | {"outputs": outputs, "status": status}))
    before = sorted(path for path in tmp_path.rglob("*"))
    record = Record(run / "manifest.json", "probe-linear", {"k": 5})
    with pytest.raises(ArtifactError, match="section 'outputs'"):
        record.is_done(overwrite=True)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    count(SUITE, 1, 1, inputs=1)


def test_a_link_among_the_outputs_is_removed_and_not_what_it_leads_to(tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine"
    run.mkdir(), mine.mkdir()
    (mine / "x").write_bytes(b"mine!")
    (run / "a.bin").symlink_to(mine, target_is_directory=True)
    (run / "manifest.json").write_text(json.dumps(GOOD))
    record = Record(run / "manifest.json", "probe-linear", {"k": 5})
    assert not record.is_done(overwrite=True)
    record.begin({}, seed=None)
    assert (mine / "x").read_bytes() == b"mine!"
    assert not os.path.lexists(run / "a.bin")
    count(SUITE, 1, 1, inputs=1)


@pytest.mark.parametrize("crc32", ["", "0", "0" * 7, "zzzzzzzz", "00000000" * 1000, "\0" * 8])
def test_sums_of_any_length_are_damage_and_no_crash(tmp_path, crc32):
    (tmp_path / "a.bin").write_bytes(b"12345")
    outputs = {"a.bin": {"sha256": "sha256:x", "bytes": 5, "crc32": crc32}}
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD | {"outputs": outputs}))
    assert ["bytes 0 to 5" in line for line in verify(tmp_path)["damaged"]] == [True]
    count(SUITE, 1, 1, inputs=1)


@pytest.mark.parametrize("where", ["summary", "progress"])
@pytest.mark.parametrize("name", ["../mine", "{root}/mine", "figures/../../mine", "tables/../../mine", "..\\mine", 5])
def test_a_report_removes_nothing_but_what_a_report_writes(tmp_path, where, name):
    out, mine = tmp_path / "report", tmp_path / "mine"
    out.mkdir()
    mine.write_text("mine")
    name = name.format(root=tmp_path) if isinstance(name, str) else name
    section = {"files": {str(name): 4}} if where == "summary" else {"earlier": [name, "figures/old.png"]}
    found = {"summary": {}, "progress": {}} | {where: section}
    assert report._names(found) == ([] if where == "summary" else ["figures/old.png"])
    (tmp_path / "runs").mkdir()
    config = ReportConfig(runs=(tmp_path / "runs",), out=out)
    request = report.identity(config)
    (out / "manifest.json").write_text(
        json.dumps(GOOD | {"stage": "report", "request": request, "outputs": {}} | found)
    )
    try:
        report.run(config)
    except ArtifactError:
        pass  # there is no run to tell of
    assert mine.read_text() == "mine"
    count(SUITE, 1, 1, inputs=1)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe", b"\xef\xbb\xbf[pretrain]\nepochs = \0", b"\0", b"[pretrain]\nepochs = " + b"9" * 5000,
        b"[pretrain]\nepochs = 0x" + b"f" * 5000, b"[pretrain]\nlr = 1e400", b"[pretrain]\nlr = nan", b"[pretrain]\nepochs = 1e400",
        b"[pretrain]\nepochs = 9223372036854775808", b"[pretrain]\nepochs = true", b"[pretrain]\nepochs = [1]",
        b"[pretrain]\nepochs = {a = 1}", b"[pretrain]\nepochs = 1979-05-27", b"[pretrain]\nloss = 5", b"[pretrain]\nsurprise = 1",
        b"[pretrain]\nepochs = 1\nepochs = 2", b"[pretrain]\n[pretrain]", b"[[pretrain]]", b"pretrain = 5", b"[nonesuch]",
        b"[pretrain]\na = " + b"[" * 10**5, b"[pretrain" + b".a" * 5000 + b"]", b"[pretrain]\nval-fraction = 0.1\nval_fraction = 0.2",
        b'[pretrain]\ndata_dir = "a\\u0000b"', b"[pretrain]\n__class__ = 1", b"[pretrain]\nloss = '" + b"x" * 10**6 + b"'",
        b"[pretrain]\n" + b"x" * 10**5 + b" = 1", b"[" + b"x" * 10**5 + b"]",
    ],
)  # fmt: skip
def test_studies_that_can_not_be_used_are_refused_shortly(tmp_path, text):
    (tmp_path / "study.toml").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        resolve(PretrainConfig, {}, read_study(tmp_path / "study.toml", "pretrain", SECTIONS))
    assert all(len(line) < 2000 for line in caught.value.problems)
    assert caught.value.exit_code == 3
    count(SUITE, 1, 1, inputs=1)


@pytest.mark.parametrize("section", [name for name, *_ in STAGES])
def test_numbers_that_no_library_holds_are_refused_for_every_option(tmp_path, section):
    config_class = next(stage[1] for stage in STAGES if stage[0] == section)
    options = [
        name
        for name, field in config_class.__dataclass_fields__.items()
        if "int" in str(field.type) and "none" not in name
    ]
    for name in options:
        for number in (2**63, -(2**63) - 1):
            (tmp_path / "study.toml").write_text(f"[{section}]\n{name} = {number}\n")
            with pytest.raises(ConfigError, match=r"must be at (most|least)|must be one of"):
                resolve(config_class, {}, read_study(tmp_path / "study.toml", section, SECTIONS))
    count(SUITE, 2 * len(options), 2 * len(options), inputs=2 * len(options))


@pytest.fixture(scope="module")
def fab():
    spec = importlib.util.spec_from_file_location("fabricate_for_faults", FABRICATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def layout(fab, tmp_path):
    """One run with a linear probe on 60 images."""
    data = fab.make_data(tmp_path / "data" / "shapes", num_test=60)
    layout = fab.make_run(tmp_path / "runs" / "a", data)
    fab.make_features(layout, data)
    fab.make_result(layout, "probe-linear", data, quality=1.0, seed=0)
    assert len(gather([layout])[0].results) == 1
    return layout


def _sign(layout: RunLayout, path: Path) -> None:
    """Make the manifest true to a file that was changed: whoever lies can do that."""
    record = layout.record("probe-linear")
    content = read_json(record)
    content["outputs"][path.name] = file_sums(path)
    write_json(record, content)


def _told(layout: RunLayout, states: tuple[str, ...] = (MISMATCHED,)) -> str:
    (run,) = gather([layout])
    assert run.results == []
    (issue,) = run.issues
    assert issue.state in states
    assert "can't be read (" not in issue.reason  # no exception that nobody thought of
    count(SUITE, 1, 1, inputs=1)
    return issue.reason


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("prob_NK", lambda p: p.prob_NK * 2, "do not add up to 1"), ("prob_NK", lambda p: -p.prob_NK, "not in 0..1"),
        ("prob_NK", lambda p: np.full_like(p.prob_NK, np.nan), "not finite"), ("prob_NK", lambda p: p.prob_NK * np.inf, "not finite"),
        ("prob_NK", lambda p: p.prob_NK[:, ::-1], "its predictions give"),
        ("prob_NK", lambda p: p.prob_NK[:, :3], "classes that do not exist"),
        ("rank_NF", lambda p: p.rank_NF + 100, "its ranks are"), ("rank_NF", lambda p: p.rank_NF - 5, "its ranks are"),
        ("rank_NF", lambda p: p.rank_NF[:, :2], "folds, but its predictions are of 2"),
        ("rank_NF", lambda p: np.zeros_like(p.rank_NF), "but its predictions give 100.00%"),
        ("label_N", lambda p: p.label_N + 100, "classes that do not exist"), ("label_N", lambda p: p.label_N - 1, "do not exist"),
        ("label_N", lambda p: (p.label_N + 1) % 10, "its predictions give"),
        ("ids", lambda p: [p.ids[0]] * len(p.ids), "an image twice"),
    ],
)  # fmt: skip
def test_predictions_that_are_none_are_told_as_what_they_are(layout, name, value, match):
    path = layout.predictions("probe-linear")
    found = read_predictions(path)
    parts = {key: getattr(found, key) for key in ("ids", "label_N", "prob_NK", "rank_NF")}
    write_predictions(path, Predictions(**parts | {name: value(found)}))
    _sign(layout, path)
    assert match in _told(layout)


def test_predictions_of_fewer_images_than_the_folds_were_scored_on(layout):
    path = layout.predictions("probe-linear")
    found = read_predictions(path)
    few = slice(0, 20)
    write_predictions(path, Predictions(found.ids[few], found.label_N[few], found.prob_NK[few], found.rank_NF[few]))
    _sign(layout, path)
    assert "but its predictions" in _told(layout)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": {"top1": 0.99}}, {"ensemble": {"top1": 2}}, {"ensemble": {"top1": "0.5"}}, {"ensemble": {"top1": None}},
        {"folds": [{"top1": 0.9}]}, {"folds": []}, {"folds": 5}, {"folds": [5]}, {"seed": "0"}, {"seed": 1.5}, {"kind": 5},
        {"data": 5}, {"data": {"name": 5, "fingerprint": "x"}}, {"encoder": []}, {"objective": {}}, {"labels_per_class": 5},
        {"labels_per_class": [{"labels_per_class": 0, "top1": 0.5}]}, {"parents": 5}, {"protocol": "kfold"}, {"schema": 2},
    ],
)  # fmt: skip
def test_results_of_wrong_types_or_numbers_are_told_and_not_averaged(layout, changes):
    path = layout.result("probe-linear")
    content = read_json(path)
    for name, value in changes.items():
        same = isinstance(value, dict) and name in ("mean", "ensemble")
        content[name] = content[name] | value if same else value
    write_json(path, content)
    _sign(layout, path)
    _told(layout, (MISMATCHED, BROKEN))
