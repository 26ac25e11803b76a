"""Names of files, and how data sets and runs are found."""

import pytest

from pretext.artifacts.layout import (
    DataLayout,
    RunLayout,
    features_stem,
    features_stems,
    find_data,
    find_run,
    find_runs,
    fine_tune_stem,
    probe_stem,
    result_stems,
    targets_stem,
)
from pretext.errors import ArtifactError, UsageError


def make(folder, *files):
    folder.mkdir(parents=True, exist_ok=True)
    for name in files or ("manifest.json",):
        (folder / name).write_text("{}")
    return folder


def test_names_of_a_data_set(tmp_path):
    layout = DataLayout(tmp_path)
    assert layout.manifest == tmp_path / "manifest.json"
    assert layout.rejected == tmp_path / "rejected.parquet"
    assert layout.shard("train", 3, 12) == tmp_path / "train-00003-of-00012.arrow"


def test_names_of_what_is_computed_from_the_images(tmp_path):
    layout = DataLayout(tmp_path)
    stem = targets_stem("lab-313", 12)
    assert layout.beside(layout.shard("train", 0, 2).name, stem).name == "train-00000-of-00002.targets-lab-313-12.arrow"
    assert layout.beside("train-00000-of-00002.arrow", "lab") == tmp_path / "train-00000-of-00002.lab.arrow"
    assert layout.record(stem).name == "targets-lab-313-12.manifest.json"
    make(tmp_path, "manifest.json", "targets-rgb-6.manifest.json", "targets-lab-12.manifest.json", "lab.manifest.json")
    assert layout.target_stems() == ["targets-lab-12", "targets-rgb-6"]


def test_all_that_depends_on_the_images_is_known_records_first(tmp_path):
    layout = DataLayout(tmp_path)
    make(tmp_path, "manifest.json", "lab.manifest.json", "targets-rgb-6.manifest.json", "rejected.parquet", "notes.txt",
         "train-00000-of-00001.arrow", "train-00000-of-00001.lab.arrow", ".train-00000-of-00001.lab.arrow.tmp")  # fmt: skip
    assert [path.name for path in layout.computed()] == [
        "lab.manifest.json", "targets-rgb-6.manifest.json", "train-00000-of-00001.arrow",
        "train-00000-of-00001.lab.arrow", ".train-00000-of-00001.lab.arrow.tmp",
    ]  # fmt: skip


def test_names_of_a_run(tmp_path):
    layout = RunLayout(tmp_path)
    names = [layout.manifest, layout.checkpoint, layout.last_checkpoint, layout.metrics, layout.picture("reconstructions"),
             layout.resume, layout.features, layout.record("features"), layout.result(probe_stem("knn")),
             layout.predictions(fine_tune_stem("full")), layout.few_label_sets("probe-linear"),
             layout.fold("fine-tune-full", 2), layout.stage_resume("features")]  # fmt: skip
    assert [path.name for path in names] == [
        "manifest.json", "checkpoint.safetensors", "checkpoint-last.safetensors", "metrics.parquet",
        "reconstructions.png", "resume", "features.parquet", "features.manifest.json", "probe-knn.json",
        "fine-tune-full-predictions.parquet", "probe-linear-few-label-sets.parquet",
        "fine-tune-full-fold-2.safetensors", "features-resume",
    ]  # fmt: skip
    assert {path.parent for path in names} == {tmp_path}


def test_names_of_one_layer_among_several(tmp_path):
    layout = RunLayout(tmp_path)
    names = [layout.features_of("conv3"), layout.record(features_stem("conv3")), layout.stage_resume(features_stem("conv3")),
             layout.result(probe_stem("linear", "conv3")), layout.predictions(probe_stem("linear", "conv3"))]  # fmt: skip
    assert [path.name for path in names] == [
        "features-conv3.parquet", "features-conv3.manifest.json", "features-conv3-resume", "probe-linear-conv3.json",
        "probe-linear-conv3-predictions.parquet",
    ]  # fmt: skip
    assert layout.features_of("latent") == layout.features
    assert (features_stem("latent"), probe_stem("knn", "latent")) == ("features", "probe-knn")


def test_features_that_were_begun(tmp_path):
    make(tmp_path, "manifest.json", "features-conv2.manifest.json", "features.manifest.json", "features-conv1.parquet",
         "featureless.manifest.json", "probe-linear-conv2.manifest.json")  # fmt: skip
    assert features_stems(tmp_path) == ["features", "features-conv2"]


def test_results_that_were_begun(tmp_path):
    make(tmp_path, "manifest.json", "features.manifest.json", "probe-linear.manifest.json", "probe-knn.json",
         "fine-tune-as-coded-ft.manifest.json", "notes.manifest.json", "features-conv3.manifest.json",
         "probe-linear-conv3.manifest.json")  # fmt: skip
    assert result_stems(tmp_path) == ["fine-tune-as-coded-ft", "probe-linear", "probe-linear-conv3"]


class TestFindData:
    def test_the_only_one_needs_no_name(self, tmp_path):
        make(tmp_path / "shapes")
        (tmp_path / "not-prepared").mkdir()
        assert find_data(tmp_path, None).folder == tmp_path / "shapes"

    def test_one_of_several_must_be_named(self, tmp_path):
        make(tmp_path / "stl10")
        make(tmp_path / "shapes")
        with pytest.raises(UsageError, match=r"holds 2 data sets: shapes, stl10$") as caught:
            find_data(tmp_path, None)
        assert caught.value.hint == "choose one, for example --data shapes"
        assert find_data(tmp_path, "stl10").folder == tmp_path / "stl10"

    def test_none_at_all(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"no prepared data set in .*nowhere") as caught:
            find_data(tmp_path / "nowhere", None)
        assert caught.value.hint == "pretext prepare-data shapes"
        with pytest.raises(ArtifactError, match=r"no prepared data set 'cifar10' in .*; there is none"):
            find_data(tmp_path, "cifar10")

    def test_an_unknown_name_is_told_with_those_there_are(self, tmp_path):
        make(tmp_path / "shapes")
        with pytest.raises(ArtifactError, match=r"no prepared data set 'shape' in .*; there are: shapes"):
            find_data(tmp_path, "shape")

    def test_a_folder_elsewhere_may_be_named(self, tmp_path):
        other = make(tmp_path / "other" / "mine")
        assert find_data(tmp_path / "data", str(other)).folder == other


class TestFindRun:
    def test_a_run(self, tmp_path):
        make(tmp_path / "a")
        assert find_run(tmp_path / "a").folder == tmp_path / "a"

    def test_raw_pixels_have_features_only(self, tmp_path):
        make(tmp_path / "pixels", "features.manifest.json")
        assert find_run(tmp_path / "pixels").folder == tmp_path / "pixels"

    def test_a_mistyped_run_is_told_with_those_there_are(self, tmp_path):
        make(tmp_path / "b")
        make(tmp_path / "a")
        (tmp_path / "no-run").mkdir()
        with pytest.raises(ArtifactError, match=r"no run at .*/x; .* holds: a, b$"):
            find_run(tmp_path / "x")

    def test_no_run_at_all(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"no run at .*/x$") as caught:
            find_run(tmp_path / "x")
        assert caught.value.hint == "pretext pretrain makes one"

    def test_a_file_is_no_run(self, tmp_path):
        make(tmp_path, "file.txt")
        with pytest.raises(ArtifactError, match=r"no run at .*file\.txt"):
            find_run(tmp_path / "file.txt")

    def test_a_folder_without_manifest_is_no_run(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"is not a run: it has no manifest\.json"):
            find_run(tmp_path)


class TestFindRuns:
    def test_runs_and_folders_of_runs_each_once_in_order(self, tmp_path):
        for name in ("c", "a", "b"):
            make(tmp_path / "runs" / name)
        make(tmp_path / "runs" / "pixels", "features.manifest.json")
        make(tmp_path / "runs" / "empty", "note.txt")
        (tmp_path / "runs" / "note.txt").write_text("x")
        make(tmp_path / "solo")
        found = find_runs(
            (tmp_path / "runs" / "c", tmp_path / "runs", tmp_path / "solo", tmp_path / "runs" / ".." / "solo")
        )
        assert [layout.folder.name for layout in found] == ["c", "a", "b", "pixels", "solo"]

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"no such folder: .*nope"):
            find_runs((tmp_path / "nope",))

    def test_a_folder_without_runs(self, tmp_path):
        (tmp_path / "sub").mkdir()
        with pytest.raises(ArtifactError, match=r"holds no run$"):
            find_runs((tmp_path,))
