"""Ranges and frequencies of what is drawn. Run alone: pytest tests/unit/augment/test_draws.py."""

from __future__ import annotations

import math

import pytest
import torch

from pretext.augment import AUGMENTATIONS, Augmentation, draw
from pretext.augment.draws import rectangle_corners

MANY = 20_000


def drawn(augmentation, *, count=MANY, height=96, width=96, seed=0):
    return draw(augmentation, count, height, width, torch.Generator().manual_seed(seed))


def assert_uniform(value, least, most):
    """Mean and spread of a uniform law, to five standard errors; ends reached, none passed."""
    value, reach = value.double(), most - least
    assert value.min() >= least
    assert value.max() <= most
    assert value.mean().item() == pytest.approx((least + most) / 2, abs=5 * reach / math.sqrt(12 * len(value)))
    assert value.std().item() == pytest.approx(reach / math.sqrt(12), rel=0.03)


def test_nothing_is_drawn_for_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    draws = draw(AUGMENTATIONS["none"], 4, 96, 96, generator)
    assert draws.colour == ()
    assert draws.shift_B2 is draws.flip_B is draws.box_B4 is draws.angle_B is draws.corner_B42
    assert torch.equal(generator.get_state(), before)


def test_colour_factors_of_strong():
    colour = dict(drawn(AUGMENTATIONS["strong"]).colour)
    assert_uniform(colour["brightness"], 0.8, 1.2)
    assert_uniform(colour["contrast"], 0.9, 1.1)
    assert_uniform(colour["saturation"], 0.95, 1.05)
    assert_uniform(colour["hue"], -0.05, 0.05)


def test_a_factor_is_never_negative():
    ((_, factor),) = drawn(Augmentation(contrast=3.0)).colour
    assert_uniform(factor, 0.0, 4.0)


def test_every_order_of_colour_changes_occurs_equally_often():
    strong = AUGMENTATIONS["strong"]
    orders = [tuple(name for name, _ in drawn(strong, count=1, seed=seed).colour) for seed in range(960)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert max(counts) < 40 + 5 * math.sqrt(40)
    assert min(counts) > 40 - 5 * math.sqrt(40)


def test_windows_and_flips_of_small():
    draws = drawn(AUGMENTATIONS["small"])
    for shift in draws.shift_B2.T:
        counts = torch.bincount(shift, minlength=9)
        assert len(counts) == 9
        assert (counts - MANY / 9).abs().max() < 5 * math.sqrt(MANY / 9)
    assert torch.corrcoef(draws.shift_B2.T.double())[0, 1].abs() < 5 / math.sqrt(MANY)
    assert draws.flip_B.double().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(MANY))


def test_boxes_of_strong_lie_inside_and_keep_their_area_and_ratio():
    top, left, height, width = drawn(AUGMENTATIONS["strong"]).box_B4.double().unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 96).all()
    assert (left + width <= 96).all()
    area, ratio = height * width / 96**2, width / height
    assert area.min() > 0.79
    assert area.max() <= 1.0
    assert ratio.min() > 0.79
    assert ratio.max() < 1.22
    assert (area < 0.82).double().mean() > 0.02
    assert (ratio < 0.85).double().mean() > 0.02
    inner = (96 - height) > 0
    assert (top / (96 - height))[inner].mean().item() == pytest.approx(0.5, abs=0.02)


def test_boxes_of_a_wide_range_are_uniform():
    small = Augmentation(crop_scale=(0.1, 0.4), crop_ratio=(0.5, 2.0))  # every candidate fits a square
    _, _, height, width = drawn(small, height=400, width=400).box_B4.double().unbind(1)
    assert_uniform((height * width / 400**2).clamp(0.1, 0.4), 0.1, 0.4)
    assert_uniform((width / height).log().clamp(-math.log(2), math.log(2)), -math.log(2), math.log(2))


@pytest.mark.parametrize(
    ("ratio", "box"), [((3.0, 4.0), [8, 0, 8, 24]), ((0.1, 0.2), [0, 9, 24, 5]), ((0.5, 2.0), [0, 0, 24, 24])]
)
def test_a_box_that_never_fits_becomes_the_largest_centred_one(ratio, box):
    whole_area = Augmentation(crop_scale=(1.0, 1.0), crop_ratio=ratio)
    assert drawn(whole_area, count=50, height=24, width=24).box_B4.tolist() == [box] * 50


def test_angles_of_strong():
    assert_uniform(drawn(AUGMENTATIONS["strong"]).angle_B, -10, 10)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (60, 100)])
def test_corners_of_strong_move_inwards_in_a_fifth_of_the_images(height, width):
    inwards = drawn(AUGMENTATIONS["strong"], height=height, width=width).corner_B42 - rectangle_corners(height, width)
    inwards = inwards * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    most = torch.tensor([int(0.1 * (width // 2)), int(0.1 * (height // 2))])
    assert inwards.min() == 0
    assert torch.equal(inwards.flatten(0, 1).amax(dim=0), most)
    moved = inwards.flatten(1).any(dim=1)
    assert moved.double().mean().item() == pytest.approx(0.2, abs=5 * 0.4 / math.sqrt(MANY))
    assert inwards[moved].double().mean(dim=(0, 1)).tolist() == pytest.approx((most / 2).tolist(), rel=0.03)


def test_the_seed_decides():
    first, again, other = (drawn(AUGMENTATIONS["strong"], count=8, seed=seed) for seed in (3, 3, 4))
    assert [name for name, _ in first.colour] == [name for name, _ in again.colour]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first.colour, again.colour, strict=True))
    for name in ("flip_B", "box_B4", "angle_B", "corner_B42"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.angle_B, other.angle_B)


def test_only_a_cpu_generator():
    class Elsewhere:
        device = torch.device("cuda:0")

    with pytest.raises(ValueError, match="generator must be on the CPU, got cuda:0"):
        draw(AUGMENTATIONS["small"], 1, 8, 8, Elsewhere())
