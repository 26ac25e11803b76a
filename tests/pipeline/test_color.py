"""The colour pillar through the stages: from prepared targets to scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_chain import extract, prepare, train

from pretext import load_encoder
from pretext import stage_configs as configs
from pretext.artifacts.checkpoint import read_header
from pretext.artifacts.layout import DataLayout
from pretext.artifacts.metrics import read_metrics
from pretext.artifacts.shards import open_data
from pretext.errors import ArtifactError, ConfigError
from pretext.objectives.color_task import find_color_task
from pretext.stages import fine_tune, probe

COLOR = {"encoder": "simplenet5", "width": 0.5, "latent_dim": None}
SHAPES = {"image_size": 64, "num_unlabeled": 48, "num_train": 40, "num_test": 20, "target_size": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data set with two colour spaces."""
    root = tmp_path_factory.mktemp("color")
    prepare(root, **SHAPES, color_space=("lab", "rgb"))
    return root


@pytest.fixture(scope="module")
def split_brain(root):
    train(root, "lab", objective="split-brain", color_space="lab", **COLOR)
    return root / "runs" / "lab"


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


class TestChain:
    def test_pretraining_writes_the_shape_of_its_networks_and_its_picture(self, split_brain):
        assert (split_brain / "colorizations.png").stat().st_size > 1000
        header = read_header(split_brain / "checkpoint.safetensors")
        assert header["encoder"] == {"name": "simplenet5", "image_size": 64, "width": 0.5, "channels": ["L", "ab"],
                                     "outputs": [100, 100]}  # fmt: skip
        assert header["objective"] == {"name": "split-brain", "color_space": "lab", "target_size": 4, "bins": [100, 100],
                                       "border": "reflect", "loss": "cross-entropy", "rebalance": 1.0}  # fmt: skip

    def test_the_summary_compares_the_loss_with_the_best_constant(self, split_brain, root):
        content = manifest(split_brain)
        summary = content["summary"]
        assert list(summary["val_losses"]) == list(summary["constant_losses"]) == ["L to ab", "ab to L"]
        assert sum(summary["val_losses"].values()) == pytest.approx(summary["best_val_loss"], rel=1e-5)
        task = find_color_task(open_data(DataLayout(root / "data" / "shapes")), "unlabeled", "lab", None)
        share = task.count_K[1] / task.count_K[1].sum()
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        assert summary["constant_losses"]["L to ab"] == pytest.approx(entropy)
        assert task.count_K[0].sum() == 48 * 16
        assert {parent["kind"]: parent["path"] for parent in content["parents"]}["targets"] == "targets-lab-4"

    def test_a_user_gets_an_encoder_of_srgb_images(self, split_brain):
        encoder = load_encoder(split_brain)
        assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, encoder.num_features)
        assert encoder.forward_layer(torch.rand(2, 3, 64, 64), "logits").shape == (2, 200, 4, 4)

    def test_features_scores_and_the_student_projects_protocol(self, split_brain, root):
        extract(root, "lab")
        extract(root, "lab", layer="conv4", pool="resize", max_features=500)
        assert probe.run(configs.ProbeConfig(run=split_brain, k=2))["status"] == "done"
        assert probe.run(configs.ProbeConfig(run=split_brain, k=2, layer="conv4"))["status"] == "done"
        config = configs.FineTuneConfig(run=split_brain, data_dir=root / "data", protocol="student", k=2, epochs=1)
        assert fine_tune.run(config)["status"] == "done"
        result = json.loads((split_brain / "fine-tune-student.json").read_text())
        assert result["objective"]["color_space"] == "lab"

    def test_again_is_already_done_and_other_colours_are_another_run(self, split_brain, root):
        assert train(root, "lab", objective="split-brain", color_space="lab", **COLOR)["status"] == "already done"
        with pytest.raises(ArtifactError, match="color_space was 'lab', now 'rgb'"):
            train(root, "lab", objective="split-brain", color_space="rgb", **COLOR)

    def test_the_random_control_has_the_same_shape(self, split_brain, root):
        train(root, "random", objective="random", color_space="lab", **COLOR)
        headers = [read_header(run / "checkpoint.safetensors") for run in (split_brain, root / "runs" / "random")]
        assert headers[0]["encoder"] == headers[1]["encoder"]

    @pytest.mark.parametrize("changes", [
        {"objective": "colorize", "loss": "regression", "color_space": "lab"},
        {"objective": "cross-channel", "color_space": "rgb", "rebalance": 0.5},
        {"objective": "denoise", "noise": "gaussian", "loss": "pse"},
        {"objective": "denoise", "encoder": "conv4", "schedule": "step", "gamma": 0.1},
    ])  # fmt: skip
    def test_every_kind_of_objective_trains(self, root, changes):
        name = "-".join(str(value) for value in changes.values())
        assert train(root, name, **{**COLOR, **changes}, epochs=1)["status"] == "done"
        losses = [row["train/loss"] for row in read_metrics(root / "runs" / name / "metrics.parquet")]
        assert np.isfinite(losses).all()
        assert (
            len(list((root / "runs" / name).glob("*izations.png")) + list((root / "runs" / name).glob("recon*.png")))
            == 1
        )


class TestErrors:
    def test_several_target_sets_are_listed(self, root):
        with pytest.raises(
            ConfigError, match="several sets of colour targets: targets-lab-4, targets-rgb-4; --color-space chooses"
        ):
            train(root, "x", objective="split-brain", **COLOR)

    def test_a_space_that_was_not_prepared_names_the_command(self, root):
        with pytest.raises(
            ArtifactError, match="no colour targets lab-313; it has targets-lab-4, targets-rgb-4"
        ) as caught:
            train(root, "x", objective="split-brain", color_space="lab-313", **COLOR)
        assert "--color-space lab-313" in caught.value.hint

    def test_a_data_set_without_targets(self, tmp_path):
        prepare(tmp_path, **{name: value for name, value in SHAPES.items() if name != "target_size"})
        with pytest.raises(ArtifactError, match="has no colour targets; it has none"):
            train(tmp_path, "x", objective="split-brain", **COLOR)

    def test_a_grid_that_does_not_fit_the_targets(self, root):
        prepare(root, **{**SHAPES, "target_size": 8}, color_space=("lab",))
        with pytest.raises(ConfigError, match="targets-lab-4, targets-lab-8; --target-size chooses"):
            train(root, "x", objective="split-brain", color_space="lab", **COLOR)
        with pytest.raises(ConfigError, match="target size must be 4, the grid of simplenet5 at 64 px, got 8"):
            train(root, "x", objective="split-brain", color_space="lab", target_size=8, **COLOR)


class TestFlips:
    def test_targets_follow_the_flips_of_their_images(self, root):
        """A network that reads its target off its input: under flips its loss stays 0 only if both are flipped."""
        from pretext.objectives.base import Objective, PretextLearner
        from pretext.training.pool import ImagePool
        from pretext.training.seeds import make_generator

        class Reader(Objective):
            def loss_of(self, view):
                left_is_brighter = view.input01_BCHW[:, 0, :, :32].mean((1, 2)) > view.input01_BCHW[:, 0, :, 32:].mean(
                    (1, 2)
                )
                bins = view.target_BGHW[:, 0].float()
                return (left_is_brighter != (bins[..., :2].mean((1, 2)) > bins[..., 2:].mean((1, 2)))).float().mean()

        data = open_data(DataLayout(root / "data" / "shapes"))
        pool = ImagePool(data.lab("unlabeled"), np.arange(48), device=torch.device("cpu"),
                         targets=data.targets("unlabeled", "targets-lab-4"))  # fmt: skip
        (batch,) = pool.batches([np.arange(48)])
        plain = float(PretextLearner(Reader(), "none").train_loss(batch, make_generator(0)))
        flipped = float(PretextLearner(Reader(), "flip").train_loss(batch, make_generator(0)))
        assert plain < 0.1, "the test's own reading of the images"
        assert flipped == pytest.approx(plain, abs=0.05)
