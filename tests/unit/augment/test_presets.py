"""Presets and the ranges they may state. Run alone: pytest tests/unit/augment/test_presets.py."""

from __future__ import annotations

import pytest

from pretext.augment import AUGMENTATIONS, Augmentation, get_augmentation


def test_exactly_these_presets():
    assert list(AUGMENTATIONS) == ["none", "flip", "small", "strong"]


def test_what_each_preset_needs():
    facts = {name: (preset.is_random, preset.is_warp, preset.changes_colours) for name, preset in AUGMENTATIONS.items()}
    assert facts == {"none": (False, False, False), "flip": (True, False, False), "small": (True, False, True),
                     "strong": (True, True, True)}  # fmt: skip


def test_flip_is_every_second_image():
    assert AUGMENTATIONS["flip"] == Augmentation(flip_probability=0.5)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, False),
        ({"flip_probability": 1.0}, False),
        ({"perspective_distortion": 0.1}, False),
        *(({name: 0.1}, True) for name in ("brightness", "contrast", "saturation", "hue", "rotation_degrees")),
        ({"crop_padding": 1}, True),
        ({"crop_scale": (0.5, 1.0)}, True),
    ],
)
def test_what_may_bring_colours_that_were_not_there(options, changes):
    assert Augmentation(**options).changes_colours is changes


@pytest.mark.parametrize(
    ("options", "warp"),
    [
        ({"crop_scale": (0.5, 1.0)}, True),
        ({"crop_ratio": (1.0, 1.5)}, True),
        ({"rotation_degrees": 1.0}, True),
        ({"perspective_distortion": 0.1, "perspective_probability": 0.5}, True),
        ({"perspective_distortion": 0.1}, False),
        ({"flip_probability": 0.5, "crop_padding": 2}, False),
        ({"hue": 0.1}, False),
    ],
)
def test_interpolates_only_where_it_must(options, warp):
    assert Augmentation(**options).is_warp is warp


def test_lookup_by_name_or_by_value():
    own = Augmentation(hue=0.1)
    assert get_augmentation(own) is own
    assert get_augmentation("small") is AUGMENTATIONS["small"]
    with pytest.raises(ValueError, match="preset must be one of none, flip, small, strong, got 'weak'"):
        get_augmentation("weak")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": -0.1}, "brightness must be finite and >= 0, got -0.1"),
        ({"contrast": float("inf")}, "contrast must be finite and >= 0, got inf"),
        ({"crop_padding": -1}, "crop_padding must be finite and >= 0, got -1"),
        ({"hue": 0.6}, "hue must be in 0..0.5, got 0.6"),
        ({"perspective_distortion": 0.9}, "perspective_distortion must be in 0..0.5, got 0.9"),
        ({"flip_probability": 1.5}, "flip_probability must be in 0..1, got 1.5"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale must be 0 < least <= most <= 1, got \(0.0, 1.0\)"),
        ({"crop_scale": (0.9, 0.8)}, r"got \(0.9, 0.8\)"),
        ({"crop_ratio": (2.0, 1.0)}, r"crop_ratio must be 0 < least <= most, got \(2.0, 1.0\)"),
        ({"crop_padding": 4, "rotation_degrees": 5.0}, "can't be combined .* got crop_padding 4"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
