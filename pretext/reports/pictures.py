"""What the networks made of some images: the pictures that the runs hold."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pretext.errors import is_system_failure
from pretext.reports.compare import Study
from pretext.reports.gather import look
from pretext.reports.style import Picture

# The name of a picture in a run's folder: its heading, and the name of its figures.
KINDS = {"reconstructions": ("Reconstructions", "reconstruction"),
         "colorizations": ("Colourings", "colorization")}  # fmt: skip


def run_pictures(study: Study, kind: str) -> tuple[list[Picture], list[str]]:
    """The picture of each method's first seed, and the runs whose picture can't be read."""
    pictures: list[Picture] = []
    missing: list[str] = []
    for method in study.methods:
        runs = [run for run in method.runs if run.manifest is not None and run.layout.picture(kind).exists()]
        if not runs or method.is_control:
            continue
        run = min(runs, key=lambda run: (look(run.manifest, "seed") or 0, run.name))
        content = _checked_png(run.layout.picture(kind))
        if content is None:
            missing.append(run.name)
            continue
        caption = f"{method.label} (run {run.name})"
        pictures.append(Picture(f"{KINDS[kind][1]}-{len(pictures) + 1}", caption, f"Pictures made by {method.label}.",
                                content, b""))  # fmt: skip
    return pictures, missing


def _checked_png(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        if is_system_failure(error):
            raise
        return None
    return content
