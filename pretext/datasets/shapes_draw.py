"""Draw scenes of one textured shape on a cluttered ground, many at once, from nothing but uniform numbers.

Letters: B images; H, W pixels; U uniform numbers per image; G lattice points per side. Lengths are shares of the
image's side with the origin at its centre. As in `shapes_geometry`, pixels see only arithmetic that IEEE 754 makes
exact, and angles come from a table: the same numbers give the same bytes, whatever else is drawn in the same call.
"""

from __future__ import annotations

import numpy as np

from pretext.datasets.shapes_geometry import SHAPES, Array

DRAWING_VERSION = 1
NUM_UNIFORMS = 406
TEXTURES = ("plain", "gradient", "stripes", "dots", "cloud")
COARSE, FINE = 5, 14  # lattice points per side of clouds and of grain
# Rec. 601 luma, and two directions of colour that leave it unchanged
LUMA = np.array([0.299, 0.587, 0.114])
_RED_CYAN = np.array([1.0, -0.299 / 0.587, 0.0])
_BLUE_YELLOW = np.array([0.0, -0.114 / 0.587, 1.0])
_TURN = np.arange(4096) * (2 * np.pi / 4096)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)


class _Draws:
    """Hands out the columns of (B, U) uniform numbers, each once."""

    def __init__(self, uniform_BU: np.ndarray) -> None:
        self._uniform_BU = uniform_BU
        self._next = 0

    def number(self, low: float, high: float) -> Array:
        """(B, 1, 1) numbers between two bounds."""
        return self.block(1, low, high)[:, :, None]

    def block(self, num_columns: int, low: float, high: float) -> Array:
        """(B, num_columns) numbers between two bounds."""
        columns = self._uniform_BU[:, self._next : self._next + num_columns]
        self._next += num_columns
        return (low + (high - low) * columns).astype(np.float32)

    def choice(self, num_choices: int) -> np.ndarray:
        """(B,) whole numbers from 0 to num_choices - 1."""
        self._next += 1
        return (self._uniform_BU[:, self._next - 1] * num_choices).astype(np.int64)

    def direction(self) -> tuple[Array, Array]:
        """(B, 1, 1) cosines and sines of one angle."""
        step_B = self.choice(len(_TURN))
        return _column(_COS[step_B]), _column(_SIN[step_B])

    def sign(self) -> Array:
        """(B, 1, 1) of -1 and 1."""
        return _column(2.0 * self.choice(2) - 1)

    def chroma(self, most: float) -> Array:
        """(B, 3) offsets of RGB that leave the luma unchanged, none beyond `most`."""
        cos, sin = self.direction()
        tint_B3 = cos[:, :, 0] * _RED_CYAN + sin[:, :, 0] * _BLUE_YELLOW
        peak_B = np.maximum(np.maximum(np.abs(tint_B3[:, 0]), np.abs(tint_B3[:, 1])), np.abs(tint_B3[:, 2]))
        return (tint_B3 / peak_B[:, None] * self.block(1, 0.2 * most, most)).astype(np.float32)


def draw_scenes(label_B: np.ndarray, uniform_BU: np.ndarray, *, image_size: int) -> np.ndarray:
    """Draw one scene per row.

    Pose, size, colour, texture and ground are drawn alike for every class, so that only the outline tells it. The
    luma of shape and ground differ by 0.4 to 0.6, either way round; what lies on them moves it by 0.13 at most on each.

    Args:
        label_B: The shape of each scene, an index into `SHAPES`.
        uniform_BU: (B, NUM_UNIFORMS) numbers in [0, 1).
        image_size: Side in pixels.

    Returns:
        image_BHWC: (B, image_size, image_size, 3) uint8. A scene at another size is the same scene.
    """
    draws = _Draws(uniform_BU)
    grid = ((np.arange(image_size) + 0.5) / image_size - 0.5).astype(np.float32)
    full = (len(label_B), image_size, image_size)
    x_BHW, y_BHW = np.broadcast_to(grid, full), np.broadcast_to(grid[:, None], full)
    contrast = draws.number(0.4, 0.6)
    low = np.float32(0.14) + draws.number(0, 1) * (np.float32(0.72) - contrast)
    shape_is_light = draws.sign() > 0
    ground_luma = np.where(shape_is_light, low, low + contrast)
    shape_luma = np.where(shape_is_light, low + contrast, low)

    cover_BHW = _shape_cover(draws, label_B, x_BHW, y_BHW)
    relief_BHW = _clip(_texture(draws, x_BHW, y_BHW) * draws.number(0.05, 0.13), 0.13)
    shape_chroma_B3 = draws.chroma(0.4)
    ground_BHW3 = _ground(draws, x_BHW, y_BHW, ground_luma)
    image_BHWC = np.empty((*x_BHW.shape, 3), dtype=np.uint8)
    for channel in range(3):
        shape_BHW = shape_luma + relief_BHW + shape_chroma_B3[:, channel, None, None]
        ground_BHW = ground_BHW3[channel]
        value_BHW = ground_BHW + (shape_BHW - ground_BHW) * cover_BHW
        value_BHW = np.minimum(np.maximum(value_BHW, np.float32(0)), np.float32(1))
        image_BHWC[..., channel] = value_BHW * np.float32(255) + np.float32(0.5)  # the cast rounds down
    return image_BHWC


def _shape_cover(draws: _Draws, label_B: np.ndarray, x_BHW: Array, y_BHW: Array) -> Array:
    """Share of each pixel that the shape covers, from its distance to the outline."""
    radius = draws.number(0.26, 0.42)
    cos, sin = draws.direction()
    dx_BHW = x_BHW - draws.number(-0.1, 0.1)
    dy_BHW = y_BHW - draws.number(-0.1, 0.1)
    u_BHW = (dx_BHW * cos + dy_BHW * sin) / radius
    v_BHW = (dy_BHW * cos - dx_BHW * sin) / radius
    distance_BHW = np.empty(x_BHW.shape, dtype=np.float32)
    for label, distance in enumerate(SHAPES.values()):
        rows = np.flatnonzero(label_B == label)
        if len(rows) > 0:
            distance_BHW[rows] = distance(u_BHW[rows], v_BHW[rows])
    return _cover(distance_BHW * radius)


def _ground(draws: _Draws, x_BHW: Array, y_BHW: Array, luma: Array) -> list[Array]:
    """Return the three channels of a ground: a colour ramp, clouds, a texture, steps, bars, arcs, spots and grain."""
    # signed reliefs in luma; the tint of each thing is drawn with it, so that colour edges are no shape edges either
    luma_BHW = _clouds(draws, x_BHW.shape[1], COARSE) * draws.number(0.02, 0.1)
    luma_BHW = luma_BHW + _clouds(draws, x_BHW.shape[1], FINE) * draws.number(0.01, 0.05)
    luma_BHW = luma_BHW + _texture(draws, x_BHW, y_BHW) * draws.number(0.0, 0.07)
    cos, sin = draws.direction()
    ramp_BHW = _clip(x_BHW * cos + y_BHW * sin, 0.5)
    luma_BHW = luma_BHW + ramp_BHW * draws.number(0.0, 0.14)
    base_B3, slope_B3 = draws.chroma(0.3), draws.chroma(0.3)
    tint_BHW3 = [base_B3[:, c, None, None] + ramp_BHW * slope_B3[:, c, None, None] for c in range(3)]
    for cover in [_step] * 2 + [_bar] * 5 + [_arc] * 2 + [_spot] * 3:
        cover_BHW = cover(draws, x_BHW, y_BHW)
        luma_BHW = luma_BHW + cover_BHW * (draws.sign() * draws.number(0.05, 0.13))
        chroma_B3 = draws.chroma(0.12)
        tint_BHW3 = [tint_BHW + cover_BHW * chroma_B3[:, c, None, None] for c, tint_BHW in enumerate(tint_BHW3)]
    luma_BHW = luma + _clip(luma_BHW, 0.13)
    return [luma_BHW + tint_BHW for tint_BHW in tint_BHW3]


def _turned(draws: _Draws, x_BHW: Array, y_BHW: Array) -> tuple[Array, Array]:
    """Coordinates in a frame somewhere in the picture, turned by some angle."""
    cos, sin = draws.direction()
    dx_BHW, dy_BHW = x_BHW - draws.number(-0.5, 0.5), y_BHW - draws.number(-0.5, 0.5)
    return dx_BHW * cos + dy_BHW * sin, dy_BHW * cos - dx_BHW * sin


def _step(draws: _Draws, x_BHW: Array, y_BHW: Array) -> Array:
    along_BHW, _ = _turned(draws, x_BHW, y_BHW)
    return _cover(along_BHW)


def _bar(draws: _Draws, x_BHW: Array, y_BHW: Array) -> Array:
    along_BHW, across_BHW = _turned(draws, x_BHW, y_BHW)
    beyond_BHW = np.maximum(np.abs(along_BHW) - draws.number(0.06, 0.35), np.float32(0))
    return _cover(np.sqrt(beyond_BHW * beyond_BHW + across_BHW * across_BHW) - draws.number(0.008, 0.04))


def _arc(draws: _Draws, x_BHW: Array, y_BHW: Array) -> Array:
    """Half a thin circle or less: never the class "ring"."""
    along_BHW, across_BHW = _turned(draws, x_BHW, y_BHW)
    length_BHW = np.sqrt(along_BHW * along_BHW + across_BHW * across_BHW)
    rim_BHW = np.abs(length_BHW - draws.number(0.08, 0.3)) - draws.number(0.01, 0.03)
    return _cover(np.maximum(rim_BHW, draws.number(0.0, 0.1) - along_BHW))


def _spot(draws: _Draws, x_BHW: Array, y_BHW: Array) -> Array:
    """A soft oval without an outline."""
    along_BHW, across_BHW = _turned(draws, x_BHW, y_BHW)
    u_BHW, v_BHW = along_BHW / draws.number(0.08, 0.3), across_BHW / draws.number(0.05, 0.15)
    fall_BHW = np.maximum(np.float32(1) - u_BHW * u_BHW - v_BHW * v_BHW, np.float32(0))
    return fall_BHW * fall_BHW


def _texture(draws: _Draws, x_BHW: Array, y_BHW: Array) -> Array:
    """A relief in [-1, 1] of one of `TEXTURES` for each image."""
    kind_B = draws.choice(len(TEXTURES))
    cos, sin = draws.direction()
    period = draws.number(0.11, 0.2)
    shift_u, shift_v = draws.number(0, 1), draws.number(0, 1)
    cloud_BHW = _clouds(draws, x_BHW.shape[1], COARSE)
    relief_BHW = np.zeros(x_BHW.shape, dtype=np.float32)
    for kind in range(1, len(TEXTURES)):
        rows = np.flatnonzero(kind_B == kind)
        if len(rows) == 0:
            continue
        c, s, x, y = cos[rows], sin[rows], x_BHW[rows], y_BHW[rows]
        u, v = x * c + y * s, y * c - x * s
        if TEXTURES[kind] == "gradient":
            relief_BHW[rows] = _clip(u * np.float32(3), 1)
        elif TEXTURES[kind] == "stripes":
            relief_BHW[rows] = _clip((_wave(u / period[rows] + shift_u[rows]) - np.float32(0.25)) * np.float32(8), 1)
        elif TEXTURES[kind] == "dots":
            p, q = _wave(u / period[rows] + shift_u[rows]), _wave(v / period[rows] + shift_v[rows])
            relief_BHW[rows] = _clip((np.float32(0.3) - np.sqrt(p * p + q * q)) * np.float32(8), 1)
        else:
            relief_BHW[rows] = _clip(cloud_BHW[rows] * np.float32(1.5), 1)
    return relief_BHW


def _wave(phase_BHW: Array) -> Array:
    """Distance to the nearest whole number, 0 to 0.5."""
    return np.abs(phase_BHW - np.floor(phase_BHW + np.float32(0.5)))


def _clouds(draws: _Draws, image_size: int, points: int) -> Array:
    """Smooth noise in [-1, 1]: a lattice of random heights, blended bilinearly between its points."""
    height_BGG = draws.block(points * points, -1, 1).reshape(-1, points, points)
    at = (np.arange(image_size) + 0.5) / image_size * (points - 1)
    below = at.astype(np.int64)
    blend = (at - below).astype(np.float32)
    height_BHG = height_BGG[:, below] * (1 - blend)[:, None] + height_BGG[:, below + 1] * blend[:, None]
    return height_BHG[:, :, below] * (1 - blend) + height_BHG[:, :, below + 1] * blend


def _cover(distance_BHW: Array) -> Array:
    """Share of a pixel inside an outline at this distance: the ramp is one pixel wide."""
    inside_BHW = np.float32(0.5) - distance_BHW * np.float32(distance_BHW.shape[1])
    return np.minimum(np.maximum(inside_BHW, np.float32(0)), np.float32(1))


def _clip(value: Array, most: float) -> Array:
    return np.minimum(np.maximum(value, np.float32(-most)), np.float32(most))


def _column(values_B: np.ndarray) -> Array:
    return values_B.astype(np.float32)[:, None, None]
