"""What colours cost when data are prepared: whole commands at 96 px, without, with Lab targets, with all colour spaces.

python tests/bench/bench_prepare.py [--json FILE] [--images N]

Three sources: STL-10's binary format (nothing but bytes to turn), a folder of JPEGs of 256 px (to decode and make
small), and shapes (to draw). Each command runs in a process of its own, so that loading PyTorch is counted; a table is
printed, and the last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pretext.artifacts.manifest import device_facts, versions
from pretext.catalog import COLOR_SPACES
from pretext.datasets.shapes import build_shapes

SIZE, DRAWN, ROUNDS = 96, 4000, 3
EVERY = ",".join(COLOR_SPACES)


def draw(count: int) -> np.ndarray:
    """Shapes with noise on them, as photographs have it; (N, H, W, 3) uint8."""
    source = build_shapes(image_size=SIZE, num_unlabeled=count, num_train=0, num_test=0, seed=0)
    noise = np.random.default_rng(0).integers(-12, 13, (SIZE, SIZE, 3))
    return np.stack([(sample.image_HWC + np.roll(noise, number, (0, 1))).clip(0, 255).astype(np.uint8)
                     for number, sample in enumerate(source.read("unlabeled", np.arange(count)))])  # fmt: skip


def make_sources(root: Path, count: int) -> dict[str, tuple[int, list[str]]]:
    """Number of images and command line of each source."""
    image_NHWC = draw(DRAWN)
    times = -(-count // DRAWN)
    (root / "stl10_binary").mkdir()
    with (root / "stl10_binary" / "unlabeled_X.bin").open("wb") as file:
        for _ in range(times):
            file.write(np.ascontiguousarray(image_NHWC.transpose(0, 3, 2, 1)).tobytes())
    (root / "pictures").mkdir()
    for number, image in enumerate(image_NHWC):
        Image.fromarray(image).resize((256, 256)).save(root / "pictures" / f"{number:05d}.jpg", quality=92)
    return {
        "binary": (times * DRAWN, ["stl10", "--root", str(root), "--offline", "--shard-mb", "128"]),
        "folder of JPEGs": (DRAWN, ["folder", str(root / "pictures"), "--image-size", str(SIZE), "--shard-mb", "32"]),
        "shapes": (DRAWN, ["shapes", "--image-size", str(SIZE), "--num-unlabeled", str(DRAWN), "--num-train", "0",
                           "--num-test", "0", "--shard-mb", "32"]),
    }  # fmt: skip


def seconds(command: list[str], place: Path) -> float:
    """Wall time of one fresh preparation."""
    shutil.rmtree(place, ignore_errors=True)
    os.sync()  # or this command would wait until the disk has what the last one wrote
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pretext", "prepare-data", *command, "--data-dir", str(place), "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--images", type=int, default=40_000, help=f"images of the binary source; the others have {DRAWN}"
    )
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for source, (count, command) in make_sources(Path(folder), arguments.images).items():
            ways = {"images alone": [], "with lab": ["--color-space", "lab"], "with all": ["--color-space", EVERY]}
            found: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, flags in ways.items():
                    found[way].append(seconds([*command, *flags], Path(folder) / "data"))
            alone = statistics.median(found["images alone"])
            for way, times in found.items():
                median = statistics.median(times)
                rows.append({"source": source, "images": count, "what": way, "median_s": median,
                             "range_s": max(times) - min(times), "times_alone": median / alone})  # fmt: skip
                print(f"{source:<16} {count:7d} images  {way:<13} {median:7.1f} s  (range {max(times) - min(times):.1f})"
                      f"  {1e6 * median / count:6.0f} us an image  {median / alone:5.2f} x", flush=True)  # fmt: skip
    document = {"schema": 1, "suite": "prepare", "rows": rows, "versions": versions(), "device": device_facts(None)}
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
