"""The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import base64
from importlib import resources

import jinja2

from pretext import __version__
from pretext.reports.document import Document
from pretext.reports.style import Picture
from pretext.reports.tables import printable

TEMPLATE = "template.html"


def to_html(document: Document) -> str:
    """Render a document; every name in it is escaped."""
    text = resources.files("pretext.reports").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True, finalize=_finalize)  # fmt: skip
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    return environment.from_string(text).render(document=document, version=__version__, data_uri=data_uri)


def _finalize(value: object) -> object:
    """No control characters: one that turns the direction of writing would reach beyond the name that holds it."""
    return printable(" ".join(value.split())) if type(value) is str else value  # Markup is what is escaped already


def data_uri(picture: Picture) -> str:
    """A picture's bytes as the address of itself; drawings stay sharp as SVG, photographs are PNG."""
    kind, content = ("png", picture.png) if picture.is_raster else ("svg+xml", picture.svg)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
