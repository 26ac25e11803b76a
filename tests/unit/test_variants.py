"""From a stage's options to the rows that are meant."""

from dataclasses import replace

import pytest

from pretext.config import resolve
from pretext.errors import ConfigError
from pretext.stage_configs import FineTuneConfig, PrepareDataConfig, PretrainConfig, ProbeConfig
from pretext.variants import choose_pretraining, choose_row, default_run_name, default_text


def pretraining(**given):
    return choose_pretraining(*resolve(PretrainConfig, given))


def row_of(config_class, chooser, **given):
    return choose_row(*swap(resolve(config_class, given), chooser))


def swap(resolved, chooser):
    config, explicit = resolved
    return config, chooser, explicit


class TestChoosePretraining:
    def test_defaults(self):
        parts = pretraining()
        assert {option: row.name for option, (row, _) in parts.items()} == {
            "objective": "autoencode", "encoder": "cnn", "loss": "mse",
        }  # fmt: skip
        assert parts["encoder"][1] == {"width": 1.0, "latent_dim": 256}
        assert parts["loss"][1] == {}

    def test_given_options_go_to_the_row_that_reads_them(self):
        parts = pretraining(loss="pse", sigma=2.5, encoder="resnet18", latent_dim=32, stem="7x7")
        assert parts["loss"][1] == {"sigma": 2.5, "truncate": 4.0, "padding": "symmetric", "residual": "abs"}
        assert parts["encoder"][1] == {"width": 1.0, "latent_dim": 32, "stem": "7x7"}

    def test_each_row_has_its_own_default_of_an_option(self):
        assert pretraining(loss="pse-slides")["loss"][1] == {"sigma": 3.0}
        assert pretraining(loss="pse")["loss"][1]["sigma"] == 4.0

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"sigma": 2.0}, "--sigma is read only with --loss pse or pse-slides; chosen is --objective autoencode, "
                             "--encoder cnn, --loss mse"),
            ({"loss": "pse-slides", "truncate": 2.0}, "--truncate is read only with --loss pse; chosen is "
                                                      "--objective autoencode, --encoder cnn, --loss pse-slides"),
            ({"stem": "7x7"}, "--stem is read only with --encoder resnet18 or alexnet-fcn; chosen is --objective autoencode, "
                              "--encoder cnn, --loss mse"),
            ({"objective": "random", "loss": "mse"}, "--loss is read only with --objective autoencode or denoise "
             "or split-brain or colorize or predict-light or cross-channel or two-colorizers or predict-features; chosen is --objective random, "
             "--encoder cnn"),
        ],
    )  # fmt: skip
    def test_an_option_that_no_chosen_row_reads_is_an_error_naming_its_readers(self, given, line):
        with pytest.raises(ConfigError) as caught:
            pretraining(**given)
        assert caught.value.problems == [line]

    def test_all_unread_options_are_told_at_once(self):
        with pytest.raises(ConfigError) as caught:
            pretraining(sigma=2.0, stem="3x3", padding="zero")
        assert [line.split()[0] for line in caught.value.problems] == ["--padding", "--sigma", "--stem"]

    def test_a_control_that_trains_nothing_has_no_loss_and_refuses_options_of_training(self):
        parts = pretraining(objective="random", seed=3, latent_dim=8)
        assert set(parts) == {"objective", "encoder"}
        with pytest.raises(ConfigError) as caught:
            pretraining(objective="random", epochs=3, lr=0.1, augment="none", sigma=1.0, seed=1)
        assert caught.value.problems == [
            "--sigma is read only with --loss pse or pse-slides; chosen is --objective random, --encoder cnn",
            "--augment means nothing to --objective random, which trains nothing",
            "--epochs means nothing to --objective random, which trains nothing",
            "--lr means nothing to --objective random, which trains nothing",
        ]

    def test_an_option_at_its_default_that_was_not_given_is_no_error(self):
        config, _ = resolve(PretrainConfig, {})
        config = replace(config, sigma=4.0)
        assert choose_pretraining(config, frozenset())["loss"][0].name == "mse"


class TestWhatFits:
    def test_an_objective_brings_its_own_defaults(self):
        parts = pretraining(objective="split-brain", color_space="lab")
        assert {option: row.name for option, (row, _) in parts.items()} == {
            "objective": "split-brain", "encoder": "simplenet5", "loss": "cross-entropy",
        }  # fmt: skip
        assert parts["objective"][1]["augment"] == "flip"
        assert pretraining(objective="denoise")["encoder"][0].name == "conv4"

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"loss": "cross-entropy"},
             "--objective autoencode works with --loss mse or l1 or bce or pse or pse-slides or perceptual or lpips or no-reference; chosen is cross-entropy"),
            ({"objective": "split-brain", "loss": "mse"},
             "--objective split-brain works with --loss cross-entropy or regression; chosen is mse"),
            ({"objective": "colorize", "encoder": "cnn"},
             "--objective colorize works with --encoder simplenet5 or simplenet13 or alexnet-fcn or resnet18-fcn; "
             "chosen is cnn"),
            ({"objective": "split-brain", "augment": "small"},
             "--objective split-brain works with --augment none or flip; chosen is small"),
            ({"objective": "random", "color_space": "lab"},
             "--color-space works with --encoder simplenet5 or simplenet13 or alexnet-fcn or resnet18-fcn; chosen is cnn"),
        ],
    )  # fmt: skip
    def test_what_does_not_go_together_is_an_error_naming_what_does(self, given, line):
        with pytest.raises(ConfigError) as caught:
            pretraining(**given)
        assert caught.value.problems == [line]


class TestRunNames:
    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({}, "d-cnn-mse-s0"),
            ({"loss": "pse"}, "d-cnn-pse4-s0"),
            ({"loss": "pse", "sigma": 2, "latent_dim": 32}, "d-cnn-latent32-pse2-s0"),
            ({"objective": "random"}, "d-cnn-random-s0"),
            ({"objective": "denoise"}, "d-conv4-denoise-salt-pepper-0.05-s0"),
            (
                {"objective": "denoise", "noise": "masking", "noise_level": 0.5, "loss": "pse"},
                "d-conv4-denoise-masking-0.5-pse4-s0",
            ),
            ({"objective": "split-brain", "color_space": "lab", "seed": 3}, "d-simplenet5-split-brain-lab-s3"),
            (
                {
                    "objective": "colorize",
                    "color_space": "lab-313",
                    "target_size": 16,
                    "loss": "regression",
                    "width": 0.5,
                },
                "d-simplenet5-width0.5-colorize-lab-313-target16-regression-s0",
            ),
            ({"objective": "random", "color_space": "rgb", "encoder": "resnet18-fcn"}, "d-resnet18-fcn-random-rgb-s0"),
        ],
    )
    def test_what_differs_from_the_defaults_is_in_the_name(self, given, name):
        assert default_run_name("d", pretraining(**given), given.get("seed", 0)) == name


class TestChooseRow:
    def test_a_source_with_its_options(self):
        row, options = row_of(PrepareDataConfig, "source", source="shapes", num_train=10)
        assert row.name == "shapes"
        assert options == {"num_unlabeled": 8000, "num_train": 10, "num_test": 2000, "image_size": 32}

    def test_a_source_refuses_another_sources_option(self):
        with pytest.raises(ConfigError, match="--num-train is read only with SOURCE shapes; chosen is SOURCE cifar10"):
            row_of(PrepareDataConfig, "source", source="cifar10", num_train=10)
        with pytest.raises(ConfigError, match="PATH is read only with SOURCE folder; chosen is SOURCE shapes"):
            row_of(PrepareDataConfig, "source", source="shapes", path="x")

    def test_options_that_every_source_takes_are_no_errors(self):
        row, _ = row_of(PrepareDataConfig, "source", source="stl10", seed=3, limit=5, workers=1, image_size=48)
        assert row.name == "stl10"

    def test_a_probe_refuses_another_probes_option(self):
        with pytest.raises(
            ConfigError, match="--lr is read only with --kind mlp or mlp-seven; chosen is --kind linear"
        ):
            row_of(ProbeConfig, "kind", run="r", lr=0.1)
        row, options = row_of(ProbeConfig, "kind", run="r", kind="knn", neighbours="3,4")
        assert (row.name, options) == ("knn", {"neighbours": (3, 4)})

    def test_an_option_that_is_a_rows_elsewhere_is_a_stages_own_here(self):
        row, options = row_of(FineTuneConfig, "protocol", run="r", lr=0.1, epochs=3, patience=2, head="slides")
        assert (row.name, options) == ("full", {"augment": "strong", "head": "slides"})

    def test_a_protocol_has_its_own_defaults(self):
        assert row_of(FineTuneConfig, "protocol", run="r", protocol="frozen")[1] == {
            "augment": "none",
            "head": "linear",
        }


class TestDefaultText:
    def test_one_value_with_the_rows_that_have_it(self):
        assert default_text("image_size", ["source"]) == "32 (shapes, cifar10, cifar100); 96 (stl10, folder)"

    def test_values_of_several_rows(self):
        assert default_text("sigma", ["loss", "encoder"]) == "4.0 (pse); 3.0 (pse-slides)"
        assert default_text("loss", ["objective"]) == (
            "mse (autoencode, predict-features); bce (denoise); cross-entropy (split-brain, colorize, predict-light, cross-channel, "
            "two-colorizers)"
        )

    def test_lists_are_shown_as_they_are_typed(self):
        assert default_text("strengths", ["kind"]) == "1e-05,0.0001,0.001,0.01,0.1,1 (linear)"

    def test_what_no_row_decides_has_no_text(self):
        assert default_text("sigma", ["encoder"]) is None
        assert default_text("root", ["source"]) is None, "None is no default to show"
        assert default_text("offline", ["source"]) is None, "neither is an absent switch"
