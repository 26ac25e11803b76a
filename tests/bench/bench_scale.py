"""Memory and time as the data set grows: preparation, shuffled reading and extraction of up to a million images.

python tests/bench/bench_scale.py [--json FILE] [--images 100000 1000000]

The images are noise of 32 px in CIFAR-10's binary layout (3.1 GB for a million). Preparation and extraction are the real
commands, each in a process of its own; what is told of memory is the peak over time of what the processes of a command
hold besides mapped files, which the system takes back when it needs to. A table is printed, and the last line of
stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pretext.artifacts.provenance import device_facts, versions

RECORD, FILES, BATCH, BATCHES = 3073, 5, 128, 400
ASKS_EVERY = 0.05  # seconds

SHUFFLED = f"""
import sys, time
from pathlib import Path
import numpy as np, torch
from pretext.artifacts.layout import DataLayout
from pretext.artifacts.shards import open_data
from pretext.training.order import epoch_order
from pretext.training.pool import ImagePool
images = open_data(DataLayout(Path(sys.argv[1]))).split("train").images
pool = ImagePool(images, np.arange(len(images)), device=torch.device("cpu"))
started = time.perf_counter()
for number, batch in enumerate(pool.batches(epoch_order(len(pool), {BATCH}, seed=0, epoch=0))):
    if number == {BATCHES}:
        break
print(time.perf_counter() - started)
"""


def write_source(root: Path, count: int) -> None:
    """CIFAR-10's files, with `count` images in all, and names of classes."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(f"class {number}" for number in range(10)) + "\n")
    random = np.random.default_rng(0)
    for number in range(1, FILES + 1):
        with (folder / f"data_batch_{number}.bin").open("wb") as file:
            for _ in range(count // FILES // 1000):
                record_BR = random.integers(256, size=(1000, RECORD), dtype=np.uint8)
                record_BR[:, 0] %= 10
                file.write(record_BR.tobytes())


def measure(command: list[str]) -> tuple[float, int, str]:
    """Wall seconds, peak bytes, and what was printed."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(own_bytes, family(process.pid))))
            time.sleep(ASKS_EVERY)
        assert process.stdout is not None
        printed = process.stdout.read()
    assert process.returncode == 0, printed
    return time.perf_counter() - started, peak, printed


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for parent in found:
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, file.read_text().split())
            except OSError:
                continue  # it ended meanwhile
    return found


def own_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000])
    arguments = parser.parse_args()
    rows = []
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            write_source(root, count)
            data = ["--data-dir", str(root / "data"), "--quiet"]
            commands = {
                "prepare-data": ["-m", "pretext", "prepare-data", "cifar10", "--root", str(root), "--offline", *data],
                f"{BATCHES} shuffled batches": ["-c", SHUFFLED, str(root / "data" / "cifar10")],
                "extract-features": ["-m", "pretext", "extract-features", "--raw-pixels", "--pixel-size", "2", *data,
                                     "--runs-dir", str(root / "runs"), "--device", "cpu"],
            }  # fmt: skip
            for what, command in commands.items():
                wall, peak, printed = measure(command)
                seconds = float(printed) if command[0] == "-c" else wall
                handled = BATCHES * BATCH if command[0] == "-c" else count
                rows.append({"what": what, "images": count, "seconds": seconds, "us_an_image": 1e6 * seconds / handled,
                             "peak_mb": peak / 1e6})  # fmt: skip
                print(f"{what:<22} {count:9,} images {seconds:7.1f} s {rows[-1]['us_an_image']:6.1f} us an image "
                      f"{rows[-1]['peak_mb']:6.0f} MB", flush=True)  # fmt: skip
    document = {"schema": 1, "suite": "scale", "rows": rows, "versions": versions(), "device": device_facts(None)}
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
