"""What every objective of the catalogue must do, with every loss it may take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from color_fixture import make_task

from pretext.artifacts.rows import Rows
from pretext.catalog import ENCODERS, LOSSES, NETWORK_LOSSES, OBJECTIVES
from pretext.objectives.base import Setting, View
from pretext.objectives.color_task import network_shape
from pretext.objectives.feature_task import FeatureTask

CASES = [(name, loss) for name, row in OBJECTIVES.items() for loss in row.fits.get("loss", [None])]
PARTS = ("encoder.", "decoder.", "head.", "teacher.")
each_case = pytest.mark.parametrize(("objective", "loss"), CASES)
each_trained = pytest.mark.parametrize(("objective", "loss"), [case for case in CASES if OBJECTIVES[case[0]].trains])


def smooth_images(count=8, size=32):
    """Blobs: something that eight numbers can say."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 3, 3, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def build_loss(row):
    options = {name: value for name, value in {**row.reads, **row.tiny}.items() if name != "features"}
    return row.load()(**row.fixed, **options)


def build(objective, loss, seed=0, count=8):
    """The module and a view of a batch that it can learn."""
    torch.manual_seed(seed)
    row = OBJECTIVES[objective]
    built = build_loss(LOSSES[loss]) if loss else None
    own = {name: value for name, value in row.reads.items() if name in ("noise", "noise_level")}
    if "wiring" not in row.fixed:
        encoder = ENCODERS["cnn"].load()(image_size=32, width=0.25, latent_dim=32)
        view = View(smooth_images(count), torch.Generator().manual_seed(0))
        if "features" in row.reads:
            target = torch.nn.functional.adaptive_avg_pool2d(view.input01_BCHW, 4)
            rows = Rows([target.numpy()], (3, 4, 4), np.dtype(np.float32))
            setting = Setting(encoder, built, 0.25, features=FeatureTask(folder=Path("x"), rows=rows, facts={}))
            return row.load()(setting), View(view.input01_BCHW, view.generator, target)
        return row.load()(Setting(encoder, built, 0.25), **own), view
    task, view = make_task(smooth_images(count, 64), size=4)
    shape = network_shape(row.fixed["wiring"], task, loss)
    encoder = ENCODERS["simplenet5"].load()(image_size=64, width=0.5, **shape)
    return row.load()(Setting(encoder, built, 0.5, task), **row.fixed), view


def test_there_are_cases():
    assert len(CASES) >= 6
    assert {name for name, _ in CASES} == set(OBJECTIVES)


@each_case
def test_state_names_are_plain(objective, loss):
    assert all(name.startswith(PARTS) for name in build(objective, loss)[0].state_dict())


@each_trained
def test_the_loss_falls_on_one_batch(objective, loss):
    module, view = build(objective, loss)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = module.loss_of(view)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    # bce of an image with itself is its entropy, not 0
    floor = float(module.loss(view.input01_BCHW, view.input01_BCHW)) if not module.terms_of(view) else 0.0
    assert values[-1] - floor < 0.7 * (values[0] - floor)


@each_trained
def test_the_parts_of_the_loss_are_its_sum_and_have_a_constant_to_beat(objective, loss):
    module, view = build(objective, loss)
    module.eval()
    terms, constants = module.terms_of(view), module.constant_losses()
    if loss not in NETWORK_LOSSES:  # no constant picture is the best for a network's features; these have weights
        assert terms.keys() == constants.keys()
    if constants:
        torch.testing.assert_close(torch.stack(list(terms.values())).sum(), module.loss_of(view), rtol=1e-5, atol=1e-6)
        assert all(value > 0 for value in constants.values())


@each_case
def test_same_seed_same_bits(objective, loss):
    one, two = build(objective, loss)[0].state_dict(), build(objective, loss)[0].state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@each_case
def test_the_picture_has_a_column_an_image(objective, loss):
    module, view = build(objective, loss, count=4)
    picture = module.eval().picture(view)
    if OBJECTIVES[objective].trains and objective != "predict-features":
        assert picture.width > 4 * 64
    else:
        assert picture is None
