"""The spaces of the catalogue hold the colours that exist. Run alone: pytest tests/unit/color/test_spaces.py."""

from __future__ import annotations

import pytest
import torch

from pretext.color import (
    LAB_LOW,
    LAB_SPAN,
    build_lab,
    build_lab_313,
    build_lab_gamut,
    build_lab_rescaled,
    build_lab_rescaled_all,
    build_rgb,
    rgb_to_lab,
)
from pretext.color.spaces import CHROMA_BINS, GAMUT_POINTS, PUBLISHED_POINTS

LEVELS = sorted({*range(0, 256, 6), 255})  # 85,184 colours, enough to reach all that 24 bits reach


@pytest.fixture(scope="module")
def colours():
    """Bytes and Lab of a dense grid of colours, 1 x 3 x 1 x N."""
    level = torch.tensor(LEVELS, dtype=torch.uint8)
    image = torch.cartesian_prod(level, level, level).T.reshape(1, 3, 1, -1).contiguous()
    return image, rgb_to_lab(image)


@pytest.mark.parametrize(
    ("build", "name", "groups", "num_bins", "per_image"),
    [
        (build_rgb, "rgb", ("R", "GB"), (100, 100), False),
        (build_lab, "lab", ("L", "ab"), (100, 100), False),
        (build_lab_rescaled, "lab-rescaled", ("L", "ab"), (100, 100), True),
        (build_lab_rescaled_all, "lab-rescaled-all", ("L", "ab"), (100, 100), True),
        (build_lab_313, "lab-313", ("L", "ab"), (50, 313), False),
        (build_lab_gamut, "lab-gamut", ("L", "ab"), (50, 261), False),
    ],
)
def test_who_is_who(build, name, groups, num_bins, per_image):
    quantizer = build()
    assert (quantizer.name, quantizer.groups, quantizer.num_bins, quantizer.per_image) == (
        name, groups, num_bins, per_image,
    )  # fmt: skip
    assert quantizer.image_space == ("rgb" if name == "rgb" else "lab")


def test_77_joint_bins_and_all_of_lightness_hold_a_colour(colours):
    lightness, chroma = build_lab().encode(colours[1])[0]
    assert len(chroma.unique()) == 77
    assert len(lightness.unique()) == 100


def test_no_colour_lies_outside_the_bins(colours):
    for value, (low, high) in zip(colours[1][0, 1:], CHROMA_BINS.spans, strict=True):
        assert value.min() > low
        assert value.max() < high
    ends = [(low, low + span) for low, span in zip(LAB_LOW, LAB_SPAN, strict=True)]
    assert ends[1:] == list(CHROMA_BINS.spans)


def test_the_published_points():
    assert PUBLISHED_POINTS.num_bins == len({tuple(point) for point in PUBLISHED_POINTS.centres.tolist()}) == 313
    known = {0: (-90, 50), 5: (-80, 20), 12: (-80, 90), 312: (100, 0)}
    assert {index: tuple(PUBLISHED_POINTS.centres[index]) for index in known} == known


def test_the_261_points_are_those_that_colours_reach(colours):
    nearest = (colours[1][0, 1:, 0] / 10).round().T.mul(10).unique(dim=0)
    assert nearest.tolist() == GAMUT_POINTS.centres.tolist()
    assert GAMUT_POINTS.num_bins == 261


def test_points_of_one_list_that_the_other_lacks():
    published, gamut = ({tuple(point) for point in code.centres.tolist()} for code in (PUBLISHED_POINTS, GAMUT_POINTS))
    assert gamut < published


@pytest.mark.parametrize("build", [build_lab_313, build_lab_gamut])
def test_every_real_colour_is_within_half_a_step_of_its_point(build, colours):
    quantizer = build()
    error = (quantizer.decode(quantizer.encode(colours[1])) - colours[1]).abs()[:, 1:]
    assert error.max() <= 5 + 1e-4


def test_rgb_bytes(colours):
    image = colours[0] / 255
    red, rest = build_rgb().encode(image)[0, :, 0].long()
    byte_r, byte_g, byte_b = colours[0][0, :, 0].long()
    # edges at multiples of 0.0101 and 0.101: in whole numbers, so without rounding
    assert torch.equal(red, byte_r * 10000 // (255 * 101))
    assert torch.equal(rest, byte_g * 1000 // (255 * 101) * 10 + byte_b * 1000 // (255 * 101))
