"""Colours, sizes and bytes."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

from pretext.reports.style import COLORS, CONTROL_COLORS, drawable, finish, looks, panels, style, wrap


def _luminance(color):
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_methods_look_different_and_controls_are_grey(study):
    found = looks(study.methods)
    assert len(found) == len(study.methods)
    for method in study.methods:
        color = found[method.identity.key].color
        assert (color in CONTROL_COLORS) == method.is_control
    pairs = {(own.color, own.marker) for own in found.values()}
    assert len(pairs) == len(study.methods)


def test_no_two_methods_of_many_look_alike(study):
    many = [study.methods[0]] * 0 + [_Method(str(n)) for n in range(30)]
    found = looks(many)
    assert len({(own.color, own.marker, str(own.line)) for own in found.values()}) == 30


class _Method:
    is_control = False

    def __init__(self, key):
        self.identity = type("Identity", (), {"key": key})


def test_colours_stay_apart_without_red_or_green():
    """What someone who can't tell red from green has left: blue, and lightness."""
    for a, b in itertools.combinations(COLORS, 2):
        blue = abs(int(a[5:], 16) - int(b[5:], 16)) / 255
        assert max(blue, abs(_luminance(a) - _luminance(b))) > 0.09


def test_names_are_made_safe_to_draw():
    assert drawable("a\x01b\nc") == "a?b?c"
    assert wrap("word " * 10).count("\n") == 1
    assert wrap("") == ""


def _draw(name):
    with style():
        figure, axes = panels(2, height=2)
        axes[0].set_title(name)
        axes[1].plot([1, 2], [3, 4])
        return finish(figure, "f", "caption", "alt")


def test_same_figure_same_bytes():
    a, b = _draw("x"), _draw("x")
    assert (a.png, a.svg) == (b.png, b.svg)
    assert a.png.startswith(b"\x89PNG")
    assert not a.is_raster
    assert a.share == 1.0
    assert b"<dc:date>" not in a.svg
    assert b"Software" not in a.png


def test_no_name_is_a_formula_or_breaks_the_drawing():
    ET.fromstring(_draw("$x^2$ $broken a_{b} <b>& -- \N{CJK UNIFIED IDEOGRAPH-732B}").svg)


def test_one_panel_is_narrower_than_the_page():
    with style():
        figure, axes = panels(1, height=2)
        assert len(axes) == 1
        assert finish(figure, "f", "", "", is_raster=True).share < 0.7
