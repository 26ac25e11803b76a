"""Predicting stored features: the head's shapes, its scale, what a constant scores, and a closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pretext.artifacts.rows import Rows
from pretext.encoders.cnn import build_cnn
from pretext.encoders.conv4 import build_conv4
from pretext.encoders.conv_k4 import build_conv_k4
from pretext.losses import L1Loss, MSELoss
from pretext.objectives.base import PretextLearner, Setting, View
from pretext.objectives.feature_task import FeatureTask
from pretext.objectives.predict_features import FeatureHead, build_predict_features
from pretext.training.pool import ImagePool


def features(shape, count=10, scale=1.0, seed=0):
    value = np.random.default_rng(seed).normal(size=(count, *shape)) + 3
    return (scale * value).astype(np.float32)


def setting(feature, encoder=None, loss=None, width=0.25):
    # two views, as of two files: more than one read
    rows = Rows([feature[:4], feature[4:]], feature.shape[1:], feature.dtype)
    return Setting(encoder or build_cnn(image_size=32, width=0.125, latent_dim=9), loss or MSELoss(), width,
                   features=FeatureTask(folder=Path("x"), rows=rows, facts={}))  # fmt: skip


def images(count=4, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


ENCODERS = {
    "vector": lambda: build_conv_k4(image_size=64, width=0.25, latent_dim=5),
    "map": lambda: build_conv4(image_size=64),
}


@pytest.mark.parametrize("code", ENCODERS)
@pytest.mark.parametrize("shape", [(40,), (7, 1, 1), (6, 3, 3), (6, 4, 4), (8, 23, 23), (5, 64, 64)])
def test_features_of_every_shape_come_out_and_every_parameter_learns(code, shape):
    module = build_predict_features(setting(features(shape, count=6), ENCODERS[code]()))
    predicted = module(images(size=64))
    assert predicted.shape == (4, *shape)
    assert predicted.dtype == torch.float32
    predicted.square().mean().backward()
    assert all(value.grad.isfinite().all() for value in module.parameters() if value.grad is not None)
    unread = [name for name, value in module.named_parameters() if value.grad is None]
    assert unread == []


def test_a_vector_is_predicted_by_one_hidden_layer_half_as_wide_as_it_within_limits():
    for num_features, units in ((10, 64), (500, 250), (10_000, 2048)):
        zero = torch.zeros(num_features)
        head = FeatureHead(code_shape=(9,), shape=(num_features,), width=1.0, mean=zero, sd=zero)
        linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == [(9, units), (units, num_features)]


@pytest.mark.parametrize(
    ("code_shape", "size", "grids"),
    [((5,), 23, [3, 6, 12, 23]), ((5,), 4, [4, 4]), ((5,), 3, [3, 3]), ((6, 4, 4), 23, [6, 12, 23]),
     ((6, 12, 12), 12, [12]), ((6, 24, 24), 5, [5, 5])],
)  # fmt: skip
def test_a_map_grows_by_halves_of_its_size_from_a_small_grid_or_the_code_s_own(code_shape, size, grids):
    head = FeatureHead(code_shape=code_shape, shape=(7, size, size), width=0.25, mean=torch.zeros(7, 1, 1),
                       sd=torch.ones(7, 1, 1))  # fmt: skip
    value, found = torch.zeros(2, *code_shape), []
    for layer in head.layers:
        value = layer(value)
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            found.append(value.shape[-1])
    assert found == grids
    assert value.shape == (2, 7, size, size)


def test_the_last_layer_is_linear_and_its_output_is_scaled_to_the_features():
    feature = features((3, 4, 4), count=50, scale=100.0)
    head = build_predict_features(setting(feature)).head.eval()
    code = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    hidden = head.layers[:-1](code)
    raw = nn.functional.conv2d(hidden, head.layers[-1].weight, head.layers[-1].bias, padding=1)
    mean_C, sd_C = (torch.from_numpy(of((0, 2, 3)))[:, None, None] for of in (feature.mean, feature.std))
    torch.testing.assert_close(head(code), mean_C + sd_C * raw, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", [(11,), (3, 4, 4)])
def test_a_constant_scores_the_mean_variance_or_the_mean_deviation(shape):
    feature = features(shape, count=2500, scale=7.0)  # more than are read at once
    for loss, expected in ((MSELoss(), feature.var(0).mean()), (L1Loss(), np.abs(feature - feature.mean(0)).mean())):
        module = build_predict_features(setting(feature, loss=loss))
        assert module.constant_losses() == {"features": pytest.approx(float(expected), rel=1e-4)}


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_features_of_any_scale_are_learned_alike(scale):
    feature, values = features((3, 4, 4), count=8), []
    for factor in (1.0, scale):
        torch.manual_seed(0)
        module = build_predict_features(setting(factor * feature))
        view = View(images(8), torch.Generator(), torch.from_numpy(factor * feature))
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3, eps=1e-30)
        for _ in range(5):
            optimizer.zero_grad()
            loss = module.loss_of(view)
            loss.backward()
            optimizer.step()
        values.append(float(loss.detach()) / module.constant_losses()["features"])
    assert values[1] == pytest.approx(values[0], rel=1e-2)


def test_a_feature_that_never_changes_is_predicted_from_the_start():
    feature = features((5,), count=6)
    feature[:, 2] = 8.0
    predicted = build_predict_features(setting(feature)).eval()(images())
    torch.testing.assert_close(predicted[:, 2], torch.full((4,), 8.0))


def test_under_autocast_it_predicts_in_full_precision():
    module = build_predict_features(setting(features((3, 4, 4), scale=1000.0)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = module(images())
        loss = module.loss_of(View(images(), torch.Generator(), torch.zeros(4, 3, 4, 4)))
    assert (predicted.dtype, loss.dtype) == (torch.float32, torch.float32)


def test_its_state_holds_what_is_trained_and_no_statistics_of_the_features():
    names = build_predict_features(setting(features((3, 4, 4)))).state_dict()
    assert {name.split(".")[0] for name in names} == {"encoder", "head"}
    assert not {"head.mean", "head.sd"} & set(names)


def test_batches_bring_each_image_its_own_features():
    feature = features((11,), count=10)
    stored = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    task = setting(feature)
    pool = ImagePool(Rows([stored], (32, 32, 3), stored.dtype), np.array([1, 4, 9]), device=torch.device("cpu"),
                     targets=task.features.rows)  # fmt: skip
    module = build_predict_features(task)
    learner = PretextLearner(module.eval(), "none")
    (batch,) = pool.batches([np.array([2, 0])])
    image = torch.from_numpy(stored[[9, 1]]).permute(0, 3, 1, 2).float() / 255
    expected = (module(image) - torch.from_numpy(feature[[9, 1]])).square().mean()
    for loss in (learner.val_loss(batch), learner.train_loss(batch, torch.Generator())):
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match="features and a loss must be given"):
        build_predict_features(Setting(build_cnn(image_size=32, width=0.125), MSELoss()))
    with pytest.raises(ValueError, match=r"features must be \(D,\) or \(C, h, h\), got \(3, 4, 5\)"):
        build_predict_features(setting(features((3, 4, 5))))
    module = build_predict_features(setting(features((5,))))
    with pytest.raises(ValueError, match="target must be given for a prediction of features, got None"):
        module.loss_of(View(images(), torch.Generator()))
    with pytest.raises(ValueError, match="must have one shape"):
        module.loss_of(View(images(), torch.Generator(), torch.zeros(4, 6)))
