"""`bench`: how fast this machine does each part of the work, against the plain way and the hardware's ceiling."""

from __future__ import annotations

import importlib
import time
from collections.abc import Collection
from typing import Any

from pretext.artifacts.atomic import write_json
from pretext.bench.ceilings import measure_ceilings
from pretext.bench.document import make_document, to_table
from pretext.bench.measure import Row
from pretext.errors import ArtifactError
from pretext.progress import Progress, Silent
from pretext.stage_configs import BENCH_PARTS, BenchConfig
from pretext.training.device import resolve_compute

MINUTES = 5  # that all parts take at most on two cores


def run(config: BenchConfig, *, explicit: Collection[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Measure the parts that were asked for; see `BenchConfig` for the options.

    Args:
        config: The options.
        explicit: Which of them the user gave.
        progress: Where progress goes.

    Returns:
        The table as `text`, the numbers as `document`, and the file that holds them, if one was asked for.

    Raises:
        DeviceError: If the device asked for is not there.
        ArtifactError: If the file is there already.
    """
    progress = progress or Silent()
    compute = resolve_compute(config.device, "auto")
    parts = [name for name in BENCH_PARTS if name in config.parts or "all" in config.parts]
    output = str(config.out or "bench")
    if config.dry_run:
        return {"output": output, "status": "dry run", "parts": parts, "device": compute.name,
                "expected seconds": MINUTES * 60 * len(parts) / len(BENCH_PARTS)}  # fmt: skip
    if config.out is not None and config.out.exists() and not config.overwrite:
        raise ArtifactError(f"{config.out} exists", hint="--overwrite replaces it, or choose another place")
    started, rows = time.perf_counter(), list[Row]()
    with progress.task("measuring", None, "rows") as task:
        ceilings = measure_ceilings(compute)
        for name in parts:
            for row in importlib.import_module(f"pretext.bench.{name}").measure(compute):
                rows.append(row)
                task.advance(1, last=row.what)
    document = make_document(parts, rows, ceilings, compute, time.perf_counter() - started)
    if config.out is not None:
        write_json(config.out, document)
    return {"output": output, "status": "done", "document": document, "text": to_table(document)}
