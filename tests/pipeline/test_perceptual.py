"""Losses in a network's features through the stages, with random weights: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_chain import extract, prepare, train

from pretext import load_encoder
from pretext import stage_configs as configs
from pretext.errors import ConfigError, DataError
from pretext.stages import pretrain
from pretext.variants import choose_pretraining, default_run_name

RANDOM = {"loss_network": "squeezenet1_1", "loss_network_weights": "random"}
SMALL = {"encoder": "conv-k4", "latent_dim": 12, "epochs": 1, "augment": "none"}
SHAPES = {"image_size": 64, "num_unlabeled": 32, "num_train": 20, "num_test": 10}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("perceptual")
    prepare(root, **SHAPES)
    return root


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.fixture(scope="module")
def perceptual(root):
    train(root, "perceptual", loss="perceptual", layer=("1", "3"), layer_weights=(1.0, 0.5), pixel_loss="mse",
          pixel_weight=0.1, **RANDOM, **SMALL)  # fmt: skip
    return root / "runs" / "perceptual"


@pytest.fixture(scope="module")
def features(root):
    out = extract(root, run=None, data="shapes", network="squeezenet1_1", network_weights="random", layer="4",
                  runs_dir=root / "runs")  # fmt: skip
    return Path(out["output"]).parent


class TestPerceptual:
    def test_the_record_says_which_network_was_looked_through(self, perceptual):
        content = manifest(perceptual)
        objective = content["config"]["objective"]
        fingerprint = objective.pop("loss_network_fingerprint")
        assert objective == {
            "name": "autoencode", "loss": "perceptual", **RANDOM, "normalize": "imagenet", "layer": "1,3",
            "layer_weights": "1.0,0.5", "pixel_loss": "mse", "pixel_weight": 0.1,
        }  # fmt: skip
        parents = {parent["kind"]: parent for parent in content["parents"]}
        assert parents["loss_network"]["path"] == "squeezenet1_1"
        assert parents["loss_network"]["fingerprint"] == fingerprint

    def test_its_terms_add_up_to_the_loss(self, perceptual):
        summary = manifest(perceptual)["summary"]
        terms = summary["val_losses"]
        assert list(terms) == ["features", "mse"]
        assert terms["features"] + 0.1 * terms["mse"] == pytest.approx(summary["best_val_loss"], rel=1e-4)

    def test_the_network_is_not_in_the_checkpoint(self, perceptual):
        assert set(manifest(perceptual)["summary"]["parameters"]) == {"encoder", "decoder"}
        encoder = load_encoder(perceptual)
        assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 12)

    def test_again_it_is_done(self, perceptual, root):
        again = train(root, "perceptual", loss="perceptual", layer=("1", "3"), layer_weights=(1.0, 0.5),
                      pixel_loss="mse", pixel_weight=0.1, **RANDOM, **SMALL)  # fmt: skip
        assert again["status"] == "already done"

    def test_another_seed_is_another_random_network(self, perceptual, root):
        train(root, "other", loss="perceptual", seed=1, **RANDOM, **SMALL)
        first, second = (manifest(root / "runs" / name)["config"]["objective"]["loss_network_fingerprint"]
                         for name in ("perceptual", "other"))  # fmt: skip
        assert first != second

    def test_a_run_of_this_toolkit_is_a_loss_network(self, perceptual, root):
        train(root, "second", loss="perceptual", loss_network=str(perceptual), layer=("conv2",), **SMALL)
        objective = manifest(root / "runs" / "second")["config"]["objective"]
        want = manifest(perceptual)["outputs"]["checkpoint.safetensors"]["sha256"]
        assert objective["loss_network_fingerprint"] == want
        assert objective["loss_network_saw"].startswith("shapes, by autoencode with perceptual")

    def test_a_run_takes_images_as_they_are(self, perceptual, root):
        config = configs.PretrainConfig(loss="perceptual", loss_network=str(perceptual), layer=("conv2",),
                                        normalize="imagenet", data_dir=root / "data", out=root / "runs" / "n", **SMALL)  # fmt: skip
        with pytest.raises(ConfigError, match="--normalize is for published networks"):
            pretrain.run(config, explicit={"loss", "loss_network", "normalize"})

    def test_denoising_compares_with_the_clean_image(self, root):
        out = train(root, "denoise", objective="denoise", loss="lpips", channel_weights="unit", layer=("2",), **RANDOM,
                    **SMALL)  # fmt: skip
        assert out["status"] == "done"


class TestNoReference:
    def test_measures_that_are_not_trained_stand_beside_it(self, root):
        train(root, "dark", loss="no-reference", quality="darkness:Darkness", channel_weights="unit", **RANDOM, **SMALL)
        terms = manifest(root / "runs" / "dark")["summary"]["val_losses"]
        assert list(terms) == ["lpips", "quality", "held-out mse", "held-out 1 - ssim"]

    def test_without_a_quality_it_is_refused(self, root):
        with pytest.raises(ConfigError, match="needs --quality"):
            train(root, "none", loss="no-reference", channel_weights="unit", **RANDOM, **SMALL)


@pytest.fixture(scope="module")
def predicting(root, features):
    train(root, "predict", objective="predict-features", features=features, layer=("4",), **SMALL)
    return manifest(root / "runs" / "predict")


class TestFeatures:
    def test_they_are_predicted_without_decoding_an_image(self, predicting):
        summary = predicting["summary"]
        assert summary["constant_loss"] > 0
        assert set(summary["parameters"]) == {"encoder", "head"}

    def test_known_features_of_the_images_give_the_loss_that_computing_them_gives(self, root, features):
        options = {"loss": "perceptual", "layer": ("4",), "normalize": "imagenet", **RANDOM, **SMALL}
        train(root, "computed", **options)
        train(root, "cached", features=features, **options)
        computed, cached = (
            manifest(root / "runs" / name)["summary"]["best_val_loss"] for name in ("computed", "cached")
        )
        assert cached == pytest.approx(computed, rel=1e-4)

    def test_those_of_another_network_are_refused(self, root, features):
        with pytest.raises(ConfigError, match="are of normalize imagenet, but the loss compares normalize none"):
            train(
                root, "wrong", loss="perceptual", layer=("4",), features=features, normalize="none", **RANDOM, **SMALL
            )

    def test_they_are_of_images_as_they_are(self, root, features):
        with pytest.raises(ConfigError, match="--augment must be none, got small"):
            train(
                root,
                "small",
                loss="perceptual",
                features=features,
                layer=("4",),
                **RANDOM,
                **SMALL | {"augment": "small"},
            )

    def test_predicting_them_needs_them(self, root):
        with pytest.raises(ConfigError, match="needs --features"):
            train(root, "nothing", objective="predict-features", **SMALL)

    def test_those_of_a_run_serve_a_loss_that_compares_in_it(self, perceptual, root):
        extract(root, "perceptual", layer="conv3")
        train(
            root, "own", loss="perceptual", loss_network=str(perceptual), layer=("conv3",), features=perceptual, **SMALL
        )
        train(root, "own2", loss="perceptual", loss_network=str(perceptual), layer=("conv3",), **SMALL)
        cached, computed = (manifest(root / "runs" / name)["summary"]["best_val_loss"] for name in ("own", "own2"))
        assert cached == pytest.approx(computed, rel=1e-4)
        objective = manifest(root / "runs" / "own2")["config"]["objective"]
        assert (objective["loss_network"], objective["loss_network_weights"], objective["normalize"]) == (
            "perceptual", "run", "none"
        )  # fmt: skip

    def test_where_a_run_lies_is_not_what_it_is(self, perceptual, root, monkeypatch):
        train(root, "own2", loss="perceptual", loss_network=str(perceptual), layer=("conv3",), **SMALL)
        monkeypatch.chdir(root)
        again = train(root, "own2", loss="perceptual", loss_network="runs/perceptual", layer=("conv3",), **SMALL)
        assert again["status"] == "already done"

    def test_pooled_ones_are_not_all_of_a_layer(self, perceptual, root):
        extract(root, "perceptual", layer="conv2", pool="avg")
        with pytest.raises(ConfigError, match="are .*, but the layer gives") as caught:
            train(root, "pooled", loss="perceptual", loss_network=str(perceptual), layer=("conv2",), features=perceptual,
                  **SMALL)  # fmt: skip
        assert caught.value.hint == "extract them with --pool flatten"
        assert not (root / "runs" / "pooled").exists()

    def test_the_record_says_whose_they_are(self, predicting):
        objective = predicting["config"]["objective"]
        assert objective["features_of"]["network"] == "squeezenet1_1"
        assert "loss_network_saw" not in objective, "random weights have seen nothing"


class TestWrongInput:
    @pytest.mark.parametrize(
        ("options", "told"),
        [({"layer": ("9",)}, "it has 1 to 4"), ({"loss_network": "vgg17"}, "did you mean 'vgg1"),
         ({"layer_weights": (1.0, 2.0)}, "layer_weights")],
    )  # fmt: skip
    def test_it_is_refused_before_anything_is_written(self, root, options, told):
        with pytest.raises(Exception, match=told):
            train(root, "refused", **{"loss": "perceptual", **RANDOM, **SMALL, **options})
        assert not (root / "runs" / "refused").exists()

    def test_images_too_small_for_the_network_are_found_before_anything_is_written(self, tmp_path):
        prepare(tmp_path, **SHAPES | {"image_size": 16})
        with pytest.raises(ConfigError, match=r"image must be at least \d+ px .* got \(16, 16\)"):
            train(tmp_path, "small", loss="perceptual", layer=("4",), epochs=1, **RANDOM)
        assert not (tmp_path / "runs").exists()

    def test_missing_weights_are_named_with_address_checksum_and_place(self, root, tmp_path):
        with pytest.raises(DataError, match="vgg16-397923af.pth is missing") as caught:
            train(root, "offline", loss="perceptual", offline=True, weights_dir=tmp_path, **SMALL)
        assert "https://" in caught.value.hint
        assert "sha256:397923af" in caught.value.hint
        assert str(tmp_path) in str(caught.value)

    def test_a_finished_run_does_not_ask_for_its_weights_again(self, root, tmp_path):
        from safetensors.torch import save_file

        from pretext.perceptual.networks import build_network

        options = {
            "loss": "perceptual",
            "loss_network": "squeezenet1_1",
            "layer": ("1",),
            "weights_dir": tmp_path / "w",
        }
        (tmp_path / "w").mkdir()
        network = build_network("squeezenet1_1", layers=("1",), weights="random")
        file = tmp_path / "w" / "squeezenet1_1.safetensors"
        save_file(network._inner.graph.state_dict(), file)
        assert train(root, "kept", offline=True, **options, **SMALL)["status"] == "done"
        before = (root / "runs" / "kept" / "manifest.json").read_bytes()
        file.unlink()
        for offline in (True, False):  # nothing is downloaded either
            assert train(root, "kept", offline=offline, **options, **SMALL)["status"] == "already done"
        assert (root / "runs" / "kept" / "manifest.json").read_bytes() == before
        with pytest.raises(DataError, match="is missing"):
            train(root, "kept", offline=True, overwrite=True, **options, **SMALL)
        assert (root / "runs" / "kept" / "manifest.json").read_bytes() == before, "nothing is lost"

    def test_a_dry_run_downloads_nothing(self, root, tmp_path):
        out = train(root, "dry", loss="lpips", dry_run=True, weights_dir=tmp_path / "none", **SMALL)
        assert (out["status"], (tmp_path / "none").exists()) == ("dry run", False)
        assert "'loss_network_weights': 'imagenet'" in out["config"]["objective"]

    @pytest.mark.parametrize(
        ("quality", "told"),
        [("darkness:Absent", "AttributeError"), ("nowhere_at_all:Q", "ModuleNotFoundError"), (":Q", "ValueError"),
         ("darkness:__name__", "TypeError"), ("builtins:dict", "must return a torch module")],
    )  # fmt: skip
    def test_a_quality_that_can_t_be_made_is_an_error_for_people(self, root, quality, told):
        with pytest.raises(ConfigError, match=told):
            train(
                root,
                "bad",
                loss="no-reference",
                quality=quality,
                channel_weights="unit",
                offline=True,
                **RANDOM,
                **SMALL,
            )

    def test_an_option_of_another_loss_is_refused(self, root):
        config = configs.PretrainConfig(loss="mse", loss_network="vgg16", data_dir=root / "data")
        with pytest.raises(ConfigError, match="--loss-network is read only with --loss perceptual or lpips"):
            pretrain.run(config, explicit={"loss", "loss_network"})


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "stl10-cnn-perceptual-vgg16-2-s0"),
     ({"layer": ("1", "3"), "normalize": "none"}, "stl10-cnn-perceptual-vgg16-none-1+3-s0"),
     ({"loss_network": "runs/a:b", "pixel_loss": "pse", "pixel_weight": 0.5},
      "stl10-cnn-perceptual-a-b-pse-pixel-weight0.5-2-s0"),
     ({"loss": "lpips"}, "stl10-cnn-lpips-vgg16-s0")],
)  # fmt: skip
def test_the_name_of_a_run_tells_its_loss(options, name):
    config = configs.PretrainConfig(**{"loss": "perceptual", **options})
    assert default_run_name("stl10", choose_pretraining(config, set(options)), 0) == name
