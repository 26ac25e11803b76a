"""Colour: sRGB to CIE Lab and back, anti-aliased shrinking, and colours as classes."""

from pretext.color.codes import LAB_LOW, LAB_SPAN, bytes_to_lab, lab_to_bytes, lab_to_unit, unit_to_lab
from pretext.color.convert import (
    lab_to_rgb,
    lab_to_xyz,
    linear_to_srgb,
    linear_to_xyz,
    rgb_to_lab,
    srgb_to_linear,
    xyz_to_lab,
    xyz_to_linear,
)
from pretext.color.downscale import downscale, downscale_matrix
from pretext.color.quantize import Quantizer, marginal_entropy, rebalance_weights, soft_code
from pretext.color.spaces import (
    build_lab,
    build_lab_313,
    build_lab_gamut,
    build_lab_rescaled,
    build_lab_rescaled_all,
    build_rgb,
)

__all__ = [
    "LAB_LOW",
    "LAB_SPAN",
    "Quantizer",
    "build_lab",
    "build_lab_313",
    "build_lab_gamut",
    "build_lab_rescaled",
    "build_lab_rescaled_all",
    "build_rgb",
    "bytes_to_lab",
    "downscale",
    "downscale_matrix",
    "lab_to_bytes",
    "lab_to_rgb",
    "lab_to_unit",
    "lab_to_xyz",
    "linear_to_srgb",
    "linear_to_xyz",
    "marginal_entropy",
    "rebalance_weights",
    "rgb_to_lab",
    "soft_code",
    "srgb_to_linear",
    "unit_to_lab",
    "xyz_to_lab",
    "xyz_to_linear",
]
