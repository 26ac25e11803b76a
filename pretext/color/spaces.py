"""The colour spaces of the catalogue: into which two groups of channels a picture is split, and how each is binned."""

from __future__ import annotations

from pretext.color.bins import Bins, Points
from pretext.color.quantize import Quantizer

LIGHTNESS_BINS = Bins((100,), ((0, 101),))
CHROMA_BINS = Bins((10, 10), ((-87, 99), (-108, 95)))
"""Every 24-bit sRGB colour lies inside; 77 of the 100 joint bins hold one."""

COARSE_LIGHTNESS_BINS = Bins((50,), ((0, 100),))

PUBLISHED_POINTS = Points((
    (-90, 50, 90), (-80, 20, 90), (-70, 0, 90), (-60, -20, 90), (-50, -30, 100), (-40, -40, 100), (-30, -50, 100),
    (-20, -50, 100), (-10, -60, 100), (0, -70, 100), (10, -80, 90), (20, -80, 90), (30, -90, 90), (40, -100, 90),
    (50, -100, 80), (60, -110, 80), (70, -110, 80), (80, -110, 70), (90, -110, 70), (100, -90, 0),
))  # fmt: skip
"""The 313 points of Zhang, Isola, Efros 2016, as released. No rule applied to sRGB gives exactly these."""

GAMUT_POINTS = Points((
    (-90, 80, 80), (-80, 40, 80), (-70, 20, 90), (-60, 0, 90), (-50, -20, 90), (-40, -30, 90), (-30, -40, 90),
    (-20, -40, 90), (-10, -50, 90), (0, -60, 90), (10, -70, 80), (20, -70, 80), (30, -80, 80), (40, -90, 80),
    (50, -90, 70), (60, -100, 70), (70, -110, 70), (80, -110, 70), (90, -90, 0), (100, -70, -50),
))  # fmt: skip
"""The 261 points of the same grid that are the nearest one to some 24-bit sRGB colour."""


def build_rgb() -> Quantizer:
    """R | GB: 100 bins for R, 10 x 10 for G and B, over 0..1.01."""
    unit = (0, 1.01)
    return Quantizer("rgb", 1, "rgb", ("R", "GB"), (Bins((100,), (unit,)), Bins((10, 10), (unit, unit))))


def build_lab() -> Quantizer:
    """L | ab: 100 bins for L, 10 x 10 for a and b, over all of sRGB."""
    return Quantizer("lab", 1, "lab", ("L", "ab"), (LIGHTNESS_BINS, CHROMA_BINS))


def build_lab_rescaled() -> Quantizer:
    """As `build_lab`, but the bins of a and b span each image's own range: a class is a relative colour."""
    return Quantizer("lab-rescaled", 1, "lab", ("L", "ab"), (LIGHTNESS_BINS, Bins((10, 10))))


def build_lab_rescaled_all() -> Quantizer:
    """As `build_lab_rescaled`, with L's bins too spanning each image's own range."""
    return Quantizer("lab-rescaled-all", 1, "lab", ("L", "ab"), (Bins((100,)), Bins((10, 10))))


def build_lab_313() -> Quantizer:
    """L | ab of the split-brain autoencoder: 50 bins for L, the 313 published points for a and b.

    Reference: Zhang, Isola, Efros 2017, "Split-Brain Autoencoders", arXiv:1611.09842, sec. 3.
    """
    return Quantizer("lab-313", 1, "lab", ("L", "ab"), (COARSE_LIGHTNESS_BINS, PUBLISHED_POINTS))


def build_lab_gamut() -> Quantizer:
    """As `build_lab_313`, with the 261 points of the grid that sRGB reaches."""
    return Quantizer("lab-gamut", 1, "lab", ("L", "ab"), (COARSE_LIGHTNESS_BINS, GAMUT_POINTS))
