"""What every objective of the catalogue must do, with every loss it may take."""

from __future__ import annotations

import pytest
import torch

from pretext.catalog import ENCODERS, LOSSES, OBJECTIVES

CASES = [(name, loss) for name, row in OBJECTIVES.items() for loss in (LOSSES if "loss" in row.reads else [None])]
PARTS = ("encoder.", "decoder.", "head.", "teacher.")


def build(objective, loss, seed=0):
    torch.manual_seed(seed)
    encoder = ENCODERS["cnn"].load()(image_size=32, width=0.25, latent_dim=32)
    row = LOSSES[loss] if loss else None
    built = row.load()(**row.fixed, **row.reads) if row else None
    return OBJECTIVES[objective].load()(encoder=encoder, loss=built, width=0.25)


def smooth_images(count=8):
    """Blobs: something that eight numbers can say."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 3, 3, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0, 1)


def test_there_are_cases():
    assert len(CASES) >= 6


@pytest.mark.parametrize(("objective", "loss"), CASES)
def test_state_names_are_plain(objective, loss):
    assert all(name.startswith(PARTS) for name in build(objective, loss).state_dict())


@pytest.mark.parametrize(("objective", "loss"), [case for case in CASES if OBJECTIVES[case[0]].trains])
def test_the_loss_falls_on_one_batch(objective, loss):
    module, image01 = build(objective, loss), smooth_images()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = module.loss_of(image01)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    floor = float(module.loss(image01, image01))  # bce of an image with itself is its entropy, not 0
    assert values[-1] - floor < 0.6 * (values[0] - floor)


@pytest.mark.parametrize(("objective", "loss"), CASES)
def test_same_seed_same_bits(objective, loss):
    one, two = build(objective, loss).state_dict(), build(objective, loss).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("objective", "loss"), CASES)
def test_the_picture_has_a_column_an_image(objective, loss):
    picture = build(objective, loss).eval().picture(smooth_images(4))
    if OBJECTIVES[objective].trains:
        assert picture.width > 4 * 64
    else:
        assert picture is None
