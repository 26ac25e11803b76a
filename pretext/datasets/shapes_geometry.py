"""Ten shapes as signed distances, exact enough at their outlines to be drawn without stairs.

Letters: B images; H, W pixels. Every function maps the pixels of B images, in the shape's own upright frame with its
centre at the origin, its reach about 1 and y growing downwards, to distances: negative inside, positive outside.
Only + - * /, sqrt, min, max and abs are used on pixels: these are exact by IEEE 754, so a pixel comes out the same
wherever it stands in an array, on any processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray  # of float32
Distance = Callable[[Array, Array], Array]


def _direction(degrees: float) -> tuple[np.float32, np.float32]:
    return np.float32(math.cos(math.radians(degrees))), np.float32(math.sin(math.radians(degrees)))


def _half_plane(x_BHW: Array, y_BHW: Array, *, degrees: float, offset: float) -> Array:
    """Distance beyond the line whose normal points to `degrees`, at `offset` from the origin."""
    nx, ny = _direction(degrees)
    return x_BHW * nx + y_BHW * ny - np.float32(offset)


def _length(x_BHW: Array, y_BHW: Array) -> Array:
    return np.sqrt(x_BHW * x_BHW + y_BHW * y_BHW)


def _box(x_BHW: Array, y_BHW: Array, *, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x_BHW) - np.float32(half_width), np.abs(y_BHW) - np.float32(half_height))


def disc(x_BHW: Array, y_BHW: Array) -> Array:
    """A full circle."""
    return _length(x_BHW, y_BHW) - np.float32(0.88)


def ring(x_BHW: Array, y_BHW: Array) -> Array:
    """A circle with a wide round hole."""
    return np.abs(_length(x_BHW, y_BHW) - np.float32(0.73)) - np.float32(0.2)


def triangle(x_BHW: Array, y_BHW: Array) -> Array:
    """An equilateral triangle."""
    sides = [_half_plane(x_BHW, y_BHW, degrees=degrees, offset=0.5) for degrees in (90, 210, 330)]
    return np.maximum(np.maximum(sides[0], sides[1]), sides[2])


def square(x_BHW: Array, y_BHW: Array) -> Array:
    """A square."""
    return _box(x_BHW, y_BHW, half_width=0.73, half_height=0.73)


def cross(x_BHW: Array, y_BHW: Array) -> Array:
    """Two bars crossing at right angles."""
    upright = _box(x_BHW, y_BHW, half_width=0.27, half_height=0.97)
    level = _box(x_BHW, y_BHW, half_width=0.97, half_height=0.27)
    return np.minimum(upright, level)


def star(x_BHW: Array, y_BHW: Array) -> Array:
    """A star of five points."""
    outer, inner = 1.05, 0.44
    # fold the plane along the star's mirror lines until the tenth between a point and the notch beside it is left
    x_BHW = np.abs(x_BHW)
    for degrees in (108, 36):
        nx, ny = _direction(degrees)
        beyond_BHW = np.float32(2) * np.maximum(x_BHW * nx + y_BHW * ny, np.float32(0))
        x_BHW, y_BHW = x_BHW - beyond_BHW * nx, y_BHW - beyond_BHW * ny
    x_BHW = np.abs(x_BHW)
    notch_x, notch_y = inner * math.sin(math.radians(36)), -inner * math.cos(math.radians(36))
    # the edge runs from the point (0, -outer) to the notch; its normal looks away from the centre
    edge_x, edge_y = notch_x, notch_y + outer
    length = math.hypot(edge_x, edge_y)
    normal_x, normal_y = np.float32(edge_y / length), np.float32(-edge_x / length)
    return x_BHW * normal_x + (y_BHW + np.float32(outer)) * normal_y


def crescent(x_BHW: Array, y_BHW: Array) -> Array:
    """A circle with a bite as large as itself."""
    whole = _length(x_BHW - np.float32(0.22), y_BHW) - np.float32(0.98)
    bite = np.float32(0.84) - _length(x_BHW - np.float32(0.66), y_BHW)
    return np.maximum(whole, bite)


def heart(x_BHW: Array, y_BHW: Array) -> Array:
    """A square on its corner with a half circle on each upper side."""
    half = 0.56
    y_BHW = y_BHW - np.float32(0.12)
    shift = np.float32(half * math.sqrt(0.5))
    nx, ny = _direction(45)
    diamond = _box(x_BHW * nx + y_BHW * ny, y_BHW * nx - x_BHW * ny, half_width=half, half_height=half)
    lobe = _length(np.abs(x_BHW) - shift, y_BHW + shift) - np.float32(half)
    return np.minimum(diamond, lobe)


def arrow(x_BHW: Array, y_BHW: Array) -> Array:
    """A wide head on a shaft."""
    shaft = _box(x_BHW, y_BHW - np.float32(0.45), half_width=0.22, half_height=0.55)
    head = np.maximum(
        np.maximum(
            _half_plane(x_BHW, y_BHW, degrees=-40, offset=0.64), _half_plane(x_BHW, y_BHW, degrees=-140, offset=0.64)
        ),
        y_BHW - np.float32(0.05),
    )
    return np.minimum(shaft, head)


def hourglass(x_BHW: Array, y_BHW: Array) -> Array:
    """Two triangles that meet at their tips."""
    slope = 0.85
    flank = (np.abs(x_BHW) - np.float32(slope) * np.abs(y_BHW) - np.float32(0.06)) / np.float32(math.hypot(1, slope))
    return np.maximum(flank, np.abs(y_BHW) - np.float32(0.84))


SHAPES: dict[str, Distance] = {
    distance.__name__: distance
    for distance in (disc, ring, triangle, square, cross, star, crescent, heart, arrow, hourglass)
}
