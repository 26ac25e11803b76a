"""The stages one after the other: what they leave, that a second time changes nothing, and that a broken link is named."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from tiny_chain import extract, prepare, train

import pretext
from pretext import stage_configs as configs
from pretext.artifacts.checkpoint import read_header
from pretext.artifacts.features import read_split
from pretext.artifacts.layout import DataLayout, RunLayout
from pretext.artifacts.metrics import read_metrics
from pretext.artifacts.results import read_predictions, read_result
from pretext.artifacts.shards import open_data
from pretext.errors import ArtifactError, ConfigError, DataError, UsageError
from pretext.stages import export, extract_features, fine_tune, probe


def times(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_prepared_data_holds_what_the_source_draws(chain):
    data = open_data(DataLayout(chain / "data" / "shapes"))
    assert data.num_images == {"unlabeled": 96, "train": 60, "test": 50}
    assert (data.split("unlabeled").labels() == -1).all()
    assert np.bincount(data.split("train").labels()).tolist() == [6] * 10
    assert len(data.split("train+unlabeled")) == 156


def test_a_run_holds_weights_curve_picture_and_a_done_manifest(chain):
    folder = chain / "runs" / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"manifest.json", "checkpoint.safetensors", "checkpoint-last.safetensors", "metrics.parquet",
            "reconstructions.png", "features.parquet", "features.manifest.json"} == names  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "done"
    assert '"auto"' not in json.dumps(manifest["config"])
    epochs = [row for row in read_metrics(folder / "metrics.parquet") if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert epochs[1]["val/loss"] < epochs[0]["val/loss"]


def test_features_are_the_encoders_output(chain):
    encoder = pretext.load_encoder(chain / "runs" / "run")
    images = open_data(DataLayout(chain / "data" / "shapes")).split("test")
    image01 = torch.from_numpy(images.images.read(np.arange(50))).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = encoder(image01).numpy()
    found = read_split(chain / "runs" / "run" / "features.parquet", "test")
    np.testing.assert_allclose(found.feature_ND, expected, rtol=1e-4, atol=1e-5)
    assert found.ids == images.ids()


@pytest.mark.parametrize("stage", ["prepare", "train", "extract", "probe", "fine-tune", "export", "pixels"])
def test_a_second_time_touches_no_file(root, stage):
    work = {
        "prepare": lambda: prepare(root),
        "train": lambda: train(root),
        "extract": lambda: extract(root),
        "probe": lambda: probe.run(configs.ProbeConfig(run=root / "runs/run", k=2, labels_per_class=(1, 2), draws=2)),
        "fine-tune": lambda: fine_tune.run(configs.FineTuneConfig(run=root / "runs/run", data_dir=root / "data", k=2, epochs=1)),
        "export": lambda: export.run(configs.ExportConfig(run=root / "runs/run")),
        "pixels": lambda: extract_features.run(configs.ExtractFeaturesConfig(
            raw_pixels=True, data_dir=root / "data", runs_dir=root / "runs")),
    }[stage]  # fmt: skip
    work()
    before = times(root)
    outcome = work()
    assert outcome["status"] == "already done"
    assert times(root) == before


def test_other_options_for_the_same_output_are_an_error_that_shows_them(root):
    with pytest.raises(ArtifactError, match=r"lr was 0.001, now 0.1") as caught:
        train(root, lr=0.1)
    assert "--overwrite" in caught.value.hint
    outcome = train(root, lr=0.1, overwrite=True)
    assert outcome["status"] == "done"


def test_a_new_checkpoint_breaks_the_link_to_old_features(root):
    train(root, seed=1, overwrite=True)
    with pytest.raises(ArtifactError, match="was made from checkpoint sha256:.*but the run now holds sha256:"):
        probe.run(configs.ProbeConfig(run=root / "runs/run"))
    with pytest.raises(ArtifactError, match="its checkpoint .* has changed since"):
        extract(root)
    extract(root, overwrite=True)
    assert probe.run(configs.ProbeConfig(run=root / "runs/run", k=2))["status"] == "done"


def test_new_data_break_the_link_to_an_old_run(root):
    prepare(root, seed=5, overwrite=True)
    with pytest.raises(ArtifactError, match="its data .* has changed since"):
        train(root)


def test_several_data_sets_must_be_chosen_among(root):
    prepare(root, name="second")
    with pytest.raises(UsageError, match="holds 2 data sets: second, shapes"):
        train(root, "other")
    assert train(root, "other", data="second", epochs=1)["status"] == "done"


def test_probe_results_follow_the_schema_and_their_predictions(root):
    probe.run(configs.ProbeConfig(run=root / "runs/run", k=3, labels_per_class=(1, 2), draws=2))
    result = read_result(root / "runs/run/probe-linear.json")
    predictions = read_predictions(root / "runs/run/probe-linear-predictions.parquet")
    assert result["ensemble"]["top1"] == (predictions.prob_NK.argmax(1) == predictions.label_N).mean()
    assert [fold["top1"] for fold in result["folds"]] == (predictions.rank_NF == 0).mean(0).tolist()
    low, high = result["ci95"]["ensemble_top1"]
    assert low <= result["ensemble"]["top1"] <= high
    assert result["protocol"]["stratified"] is True
    assert [(row["labels_per_class"], row["draw"], row["num_labels"]) for row in result["labels_per_class"]] == [
        (1, 0, 10), (1, 1, 10), (2, 0, 20), (2, 1, 20)]  # fmt: skip
    assert "test" not in result["selected_on"]


@pytest.mark.parametrize("kind", ["linear", "knn", "mlp"])
def test_without_a_test_split_the_held_out_folds_are_judged(root, kind):
    prepare(root, num_test=0, name="no-test")
    extract(root, data="no-test", overwrite=True)
    options = {"epochs": 3} if kind == "mlp" else {}
    probe.run(configs.ProbeConfig(run=root / "runs/run", kind=kind, k=3, labels_per_class=(1,), **options))
    result = read_result(root / f"runs/run/probe-{kind}.json")
    assert result["protocol"]["test"] == "held-out folds"
    assert sum(fold["n"] for fold in result["folds"]) == 60
    ranks = read_predictions(root / f"runs/run/probe-{kind}-predictions.parquet").rank_NF
    assert ((ranks >= 0).sum(1) == 1).all()


def test_unlabelled_features_can_not_be_probed(root):
    prepare(root, num_train=0, num_test=0, name="plain")
    extract(root, data="plain", overwrite=True)
    with pytest.raises(DataError, match="no labels to learn from"):
        probe.run(configs.ProbeConfig(run=root / "runs/run"))


def test_a_probe_gives_the_same_bytes_again(root):
    file = root / "runs/run/probe-linear.json"
    probe.run(configs.ProbeConfig(run=root / "runs/run", k=2))
    before = file.read_bytes()
    probe.run(configs.ProbeConfig(run=root / "runs/run", k=2, overwrite=True))
    assert file.read_bytes() == before


def test_random_control_is_the_initial_encoder(root):
    outcome = train(root, "random", objective="random", epochs=50)
    assert outcome["images seen"] == 0
    assert read_header(root / "runs/random/checkpoint.safetensors")["weights"] == "initial"


def test_wall_time_is_counted_over_restarts(root, monkeypatch):
    from pretext.training import loop

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(root, "stopped", save_every=0)
    path = root / "runs/stopped/manifest.json"
    before = json.loads(path.read_text())["wall_seconds"]
    assert before > 0
    path.write_text(path.read_text().replace(f'"wall_seconds": {before}', '"wall_seconds": 1000.0'))
    train(root, "stopped", save_every=0)
    assert json.loads(path.read_text())["wall_seconds"] > 1000


def test_init_from_takes_the_weights_and_not_the_run(root):
    train(root, "next", init_from=root / "runs/run", objective="random")
    old = pretext.load_encoder(root / "runs/run").state_dict()
    new = pretext.load_encoder(root / "runs/next").state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_mistyped_run_names_the_ones_that_are_there(chain):
    with pytest.raises(ArtifactError, match=r"no run at .*rum; .* holds: run"):
        extract(chain, "rum")


def test_a_layer_that_is_not_there_is_named_and_costs_nothing(root):
    before = times(root)
    with pytest.raises(ConfigError, match="'conv9' is no layer of cnn; it has conv1, conv2"):
        extract(root, layer="conv9", overwrite=True)
    assert times(root) == before


def test_an_overwrite_that_can_not_work_costs_nothing(root):
    probe.run(configs.ProbeConfig(run=root / "runs/run", k=2))
    before = times(root)
    with pytest.raises(DataError, match="official folds"):
        probe.run(configs.ProbeConfig(run=root / "runs/run", folds="official", overwrite=True))
    with pytest.raises(ConfigError, match="leaves 1 of 96 images"):
        train(root, val_fraction=0.9896, overwrite=True)
    with pytest.raises(DataError, match="labels-per-class 50: class 0 has 6 images"):
        probe.run(configs.ProbeConfig(run=root / "runs/run", labels_per_class=(50,), overwrite=True))
    assert times(root) == before


def test_image_sizes_must_match(root):
    prepare(root, image_size=48, name="bigger")
    with pytest.raises(ConfigError, match="trained on 32 px, data set bigger has 48 px"):
        extract(root, data="bigger", overwrite=True)
    with pytest.raises(ConfigError, match="trained on 32 px, data set bigger has 48 px"):
        fine_tune.run(configs.FineTuneConfig(run=root / "runs/run", data="bigger", data_dir=root / "data"))


def test_a_dry_run_writes_nothing(root):
    before = times(root)
    assert train(root, "dry", dry_run=True)["status"] == "dry run"
    assert extract(root, dry_run=True)["status"] == "dry run"
    assert prepare(root, name="dry", dry_run=True)["status"] == "dry run"
    assert times(root) == before
    assert not (root / "runs" / "dry").exists()


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11, on loading a program
def test_exported_programs_answer_like_the_encoder(root):
    encoder = pretext.load_encoder(root / "runs/run")
    image01 = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected = encoder(image01)
    program = export.run(configs.ExportConfig(run=root / "runs/run"))["output"]
    torch.testing.assert_close(torch.export.load(program).module()(image01), expected)
    with pytest.raises(ConfigError, match="not of torchvision's shape"):
        export.run(configs.ExportConfig(run=root / "runs/run", format="state-dict"))


def test_a_torchvision_shaped_encoder_is_exported_under_torchvisions_names(root):
    import torchvision
    from safetensors.torch import load_file

    train(root, "resnet", encoder="resnet18", width=1.0, stem="7x7", objective="random")
    file = export.run(configs.ExportConfig(run=root / "runs/resnet"))["output"]
    report = torchvision.models.resnet18().load_state_dict(load_file(file), strict=False)
    assert report.unexpected_keys == []
    assert report.missing_keys == ["fc.weight", "fc.bias"]


def test_folds_without_official_ones_say_so(root):
    with pytest.raises(DataError, match="official folds can't be made of 60 labelled images"):
        probe.run(configs.ProbeConfig(run=root / "runs/run", folds="official"))


def test_too_few_images_to_train_is_one_sentence(root):
    prepare(root, num_unlabeled=1, name="one")
    with pytest.raises(ConfigError, match="leaves 1 of 1 images to train on"):
        train(root, "one", data="one")


def test_a_running_manifest_is_no_run_to_build_on(root):
    path = root / "runs/run/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"status": "running"}))
    with pytest.raises(ArtifactError, match="is not finished"):
        extract(root)


def test_a_truncated_checkpoint_is_found_before_use(root):
    path = root / "runs/run/checkpoint.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ArtifactError, match="missing or not of the size"):
        extract(root, overwrite=True)
    # the run itself is made whole again by the same command
    assert train(root)["status"] == "done"


@pytest.mark.parametrize("stem", ["features", "probe-linear", "fine-tune-frozen"])
def test_what_a_kill_after_the_work_left_behind_is_tidied_up(root, stem):
    """Between the manifest that says done and the end of the process only the resume folder is still to go."""
    run = root / "runs" / "run"
    again = {
        "features": lambda: extract(root),
        "probe-linear": lambda: probe.run(configs.ProbeConfig(run=run, k=2)),
        "fine-tune-frozen": lambda: fine_tune.run(
            configs.FineTuneConfig(run=run, data_dir=root / "data", protocol="frozen", k=2, epochs=1)
        ),
    }[stem]
    again()
    left = RunLayout(run).stage_resume(stem)
    left.mkdir()
    (left / "part").write_bytes(b"x")
    assert again()["status"] == "already done"
    assert not left.exists()
