"""Reading runs: whole ones are read whole, and nothing that is wrong with one raises, but for a disk that fails."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from pretext.artifacts.atomic import read_json, write_json
from pretext.artifacts.layout import RunLayout, find_runs
from pretext.artifacts.results import read_predictions
from pretext.errors import ArtifactError
from pretext.reports.gather import BROKEN, DONE, MISMATCHED, UNFINISHED, MismatchError, check_content, gather, look


def test_whole_run_is_read(workshop):
    layout = workshop.add("a", ("probe-linear", 1.0), ("fine-tune-full", 2.0), loss="pse", sigma=4.0)
    (run,) = workshop.gather()
    assert (run.name, run.state, run.issues) == ("a", DONE, [])
    assert [result.stem for result in run.results] == ["fine-tune-full", "probe-linear"]
    assert len(run.curve) == 20
    assert run.finished == "2026-01-02T03:04:05+00:00"
    assert run.stage_seconds == {"pretrain": 1234.5, "features": 21.0, "fine-tune-full": 65.0, "probe-linear": 65.0}
    predictions = read_predictions(layout.predictions("probe-linear"))
    result = run.results[1]
    for n, (prob_K, label) in enumerate(zip(predictions.prob_NK, predictions.label_N, strict=True)):
        assert result.rank_N[n] == sum(p >= prob_K[label] for p in prob_K) - 1
        assert result.predicted_N[n] == np.argmax(prob_K)
        assert result.confidence_N[n] == prob_K.max()
    assert result.top(1) == pytest.approx(result.content["ensemble"]["top1"], abs=1e-9)


def test_features_and_results_of_several_layers_lie_beside_each_other(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0))
    (run,) = workshop.gather()
    assert run.issues == []
    assert sorted(run.features) == ["features-conv1.parquet", "features.parquet"]
    assert [(result.stem, result.kind, result.content["encoder"]["layer"]) for result in run.results] == [
        ("probe-linear", "probe-linear", "latent"), ("probe-linear-conv1", "probe-linear", "conv1")]  # fmt: skip
    assert run.stage_seconds["features-conv1"] == 21.0


def test_earlier_features_of_one_layer_do_not_cost_the_others(workshop):
    layout = workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0))
    record = layout.record("features-conv1")
    manifest = read_json(record)
    manifest["outputs"]["features-conv1.parquet"]["sha256"] = "sha256:other"
    write_json(record, manifest)
    (run,) = workshop.gather()
    assert [result.stem for result in run.results] == ["probe-linear"]
    (issue,) = run.issues
    assert issue.part == "probe-linear-conv1"
    assert issue.reason == "it was made from another features-conv1.parquet than the one that is here"


def test_features_of_an_earlier_checkpoint_are_a_mismatch(workshop):
    layout = workshop.add_color("a", ("conv1", 0.5))
    manifest = read_json(layout.manifest)
    manifest["outputs"]["checkpoint.safetensors"]["sha256"] = "sha256:other"
    write_json(layout.manifest, manifest)
    (run,) = workshop.gather()
    assert [issue.reason for issue in run.issues] == [
        "it was made from another checkpoint.safetensors than the one that is here"]  # fmt: skip


@pytest.mark.parametrize(("said", "unstratified", "expected"), [
    (None, True, False), (None, False, True), (None, None, None), (True, True, True), (False, None, False),
])  # fmt: skip
def test_whether_few_label_sets_are_stratified(workshop, change_result, said, unstratified, expected):
    layout = workshop.add("a")
    workshop.fab.make_result(layout, "probe-linear", workshop.data, quality=1.0, seed=0, curve=(1,))
    record = read_json(layout.record("probe-linear"))
    record["config"] = {} if unstratified is None else {"unstratified": unstratified}
    write_json(layout.record("probe-linear"), record)
    if said is not None:
        change_result(layout, "probe-linear", lambda content: content["protocol"].update(stratified=said))
    (run,) = workshop.gather()
    assert run.results[0].is_stratified is expected


def test_pixels_are_a_run_without_pretraining(workshop):
    layout = workshop.fab.make_pixels(workshop.runs / "pixels", workshop.data)
    workshop.fab.make_result(layout, "probe-linear", workshop.data, quality=0.3, seed=None)
    (run,) = workshop.gather()
    assert run.manifest is None
    assert run.state == DONE
    assert run.results[0].seed is None


def test_unfinished_run_says_how_far_it_is(workshop):
    workshop.fab.make_run(workshop.runs / "a", workshop.data, status="running")
    (run,) = workshop.gather()
    assert run.state == UNFINISHED
    assert run.issues[0].reason == "begun and not finished (epoch 7, of 20)"


def test_results_of_an_unfinished_run_are_not_used(workshop):
    layout = workshop.add("a", ("probe-linear", 1.0))
    manifest = read_json(layout.manifest)
    write_json(layout.manifest, manifest | {"status": "running"})
    (run,) = workshop.gather()
    assert run.results == []
    assert [issue.part for issue in run.issues] == ["pretrain", "probe-linear"]
    assert {issue.state for issue in run.issues} == {UNFINISHED}
    assert run.issues[1].reason == "not used: its pretraining is unfinished"


def test_unfinished_probe_leaves_the_rest(workshop):
    layout = workshop.add("a", ("probe-linear", 1.0))
    workshop.fab.make_result(layout, "probe-knn", workshop.data, quality=1, seed=0, status="running")
    (run,) = workshop.gather()
    assert run.state == DONE
    assert [result.stem for result in run.results] == ["probe-linear"]
    assert [(issue.part, issue.state) for issue in run.issues] == [("probe-knn", UNFINISHED)]


def test_truncated_manifest_is_broken(workshop):
    layout = workshop.add("a")
    layout.manifest.write_bytes(layout.manifest.read_bytes()[:100])
    (run,) = workshop.gather()
    assert run.state == BROKEN
    assert "is not valid JSON" in run.issues[0].reason


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_disk_that_fails_is_told_and_no_fault_of_the_run(workshop, monkeypatch, code):
    """A report that took the run for broken would be taken for current after the disk works again."""
    workshop.add("a", ("probe-linear", 1.0))

    def fail(path):
        raise ArtifactError(f"{path} can't be read") from OSError(code, os.strerror(code))

    monkeypatch.setattr("pretext.reports.gather.read_metrics", fail)
    with pytest.raises(ArtifactError, match=r"metrics\.parquet can't be read"):
        workshop.gather()


def test_missing_output_is_broken(workshop):
    layout = workshop.add("a")
    layout.checkpoint.unlink()
    (run,) = workshop.gather()
    assert run.state == BROKEN
    assert run.issues[0].reason.startswith("checkpoint.safetensors is missing")


def test_folder_of_another_stage_is_no_run(workshop):
    (run,) = gather(find_runs((workshop.root / "data" / "shapes",)))
    assert run.state == BROKEN
    assert run.issues[0].reason.endswith("is the output of prepare-data, not a run")


def test_score_that_the_predictions_do_not_give_is_a_mismatch(workshop, change_result):
    layout = workshop.add("a", ("probe-linear", 1.0))
    change_result(layout, "probe-linear", lambda content: content["ensemble"].update(top1=0.99))
    (run,) = workshop.gather()
    assert run.results == []
    assert run.issues[0].state == MISMATCHED
    assert run.issues[0].reason.startswith("it states 99.00% top-1, but its predictions give ")


def test_result_of_an_earlier_checkpoint_is_a_mismatch(workshop):
    layout = workshop.add("a", ("probe-linear", 1.0), ("fine-tune-full", 1.0))
    manifest = read_json(layout.manifest)
    manifest["outputs"]["checkpoint.safetensors"]["sha256"] = "sha256:other"
    write_json(layout.manifest, manifest)
    (run,) = workshop.gather()
    assert run.results == []
    assert [issue.state for issue in run.issues] == [MISMATCHED] * 2
    assert {issue.reason for issue in run.issues} == {
        "it was made from another checkpoint.safetensors than the one that is here"}  # fmt: skip


def test_probe_of_earlier_features_is_a_mismatch(workshop):
    layout = workshop.add("a", ("probe-linear", 1.0), ("fine-tune-full", 1.0))
    record = layout.record("features")
    manifest = read_json(record)
    manifest["outputs"]["features.parquet"]["sha256"] = "sha256:other"
    write_json(record, manifest)
    (run,) = workshop.gather()
    assert [result.stem for result in run.results] == ["fine-tune-full"]
    assert run.issues[0].reason == "it was made from another features.parquet than the one that is here"


def test_broken_curve_does_not_cost_the_results(workshop):
    layout = workshop.add("a", ("probe-linear", 1.0))
    layout.metrics.write_bytes(b"x" * layout.metrics.stat().st_size)
    (run,) = workshop.gather()
    assert len(run.results) == 1
    assert run.curve == []
    assert run.issues[0].part == "metrics"


@pytest.mark.parametrize(("part", "value"), [
    ("protocol", []), ("data", {"name": "x"}), ("encoder", {}), ("objective", {"name": 3}), ("mean", {"top1": 0.5}),
    ("ensemble", {"top1": 1.5, "top2": 1, "top4": 1, "top5": 1}), ("sd", 3), ("kind", 3), ("seed", "zero"),
    ("folds", [{"top1": "much"}]), ("parents", {}), ("labels_per_class", [{"top1": 0.5, "labels_per_class": 0}]),
])  # fmt: skip
def test_part_of_the_wrong_kind_is_named(workshop, part, value):
    layout = workshop.add("a", ("probe-linear", 1.0))
    content = read_json(layout.result("probe-linear"))
    check_content(content)
    with pytest.raises(MismatchError, match=rf"its part '{part}(\.\w+)?' is not what the schema says"):
        check_content(content | {part: value})


def test_predictions_that_can_not_be_are_a_mismatch(workshop):
    from pretext.artifacts.results import Predictions, write_predictions
    from pretext.reports.gather import read_one

    layout = workshop.add("a", ("probe-linear", 1.0))
    (run,) = workshop.gather()
    write_predictions(layout.predictions("probe-linear"), Predictions(
        ["a"], np.array([9]), np.full((1, 3), 0.3, np.float32), np.zeros((1, 1), np.int64)))  # fmt: skip
    with pytest.raises(MismatchError, match="of classes that do not exist"):
        read_one(run, "probe-linear", {})


def test_no_damage_to_any_file_raises(workshop):
    """Every file of a run, cut in half, emptied, and overwritten with noise: always a state, never an exception."""
    layout = workshop.add("a", ("probe-linear", 1.0), loss="pse", sigma=4.0)
    rng = np.random.default_rng(0)
    files = sorted(path for path in layout.folder.iterdir() if path.is_file())
    assert len(files) == 9
    for path in files:
        before = path.read_bytes()
        for damaged in (before[: len(before) // 2], b"", rng.bytes(len(before)), b"[]", b'{"status": "done"}'):
            path.write_bytes(damaged)
            (run,) = gather([RunLayout(layout.folder)])
            assert run.issues or path.name in ("reconstructions.png", "checkpoint.safetensors", "features.parquet")
        path.write_bytes(before)
    assert gather([RunLayout(layout.folder)])[0].issues == []


def test_two_folders_of_one_name_are_told_apart(workshop):
    first = workshop.add("a")
    second = workshop.fab.make_run(workshop.root / "more" / "a", workshop.data)
    names = [run.name for run in gather([RunLayout(first.folder), RunLayout(second.folder)])]
    assert names == [str(first.folder), str(second.folder)]


def test_look_gives_the_default_where_the_path_ends():
    content = {"a": {"b": 1}}
    assert look(content, "a", "b") == 1
    assert look(content, "a", "x", default=2) == look(content, "a", "b", "c", default=2) == 2
    assert look(None, "a") is None
