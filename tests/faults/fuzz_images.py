"""Coverage-guided fuzzing of the decoder of images and of the reader of archives, with atheris (not a dependency).

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    PYTHONPATH=.:tests/helpers:.venv/lib/python3.11/site-packages \\
        /tmp/fuzz/bin/python tests/faults/fuzz_images.py images -max_total_time=600 -timeout=20 -rss_limit_mb=2500

The first argument is images or archives; the others are libFuzzer's. The search ends at the first find, whose input is
then in the working folder. The same targets are tried by hypothesis in test_bad_images.py and test_archives.py.
"""

from __future__ import annotations

import gzip
import inspect
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import bad_images
from image_targets import archive_seeds, check_archive, check_image

from pretext.datasets import extraction, images

MAX_INPUT = 20_000  # bytes


def main() -> None:
    """Fuzz `images` or `archives`; further arguments are libFuzzer's."""
    import atheris
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin

    what, *options = sys.argv[1:]
    check = {"images": check_image, "archives": check_archive}[what]
    plugins = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin)
    for module in (tarfile, gzip, *plugins, images, extraction):
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) == module.__name__:
                for part in list(vars(value).values()) if isinstance(value, type) else [value]:
                    function = inspect.unwrap(getattr(part, "__func__", part))
                    if inspect.isfunction(function):
                        atheris.instrument_func(function)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    (folder / "seeds").mkdir()
    (folder / "work").mkdir()
    for name, content in (archive_seeds() if what == "archives" else bad_images.sound() | bad_images.broken()).items():
        (folder / "seeds" / name).write_bytes(content[:MAX_INPUT])
    atheris.Setup([sys.argv[0], *options, f"-max_len={MAX_INPUT}", str(folder / "seeds")],
                  lambda content: check(content, folder / "work"))  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
