"""What the fault suites tried and what was lost, counted in each process and merged into one file at its end.

PRETEXT_FAULTS_JSON names the file; several processes may merge into it, one after the other.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

PARTS = ("tried", "survived", "lost", "inputs")
PACKAGES = ("pretext", "torch", "safetensors", "pyarrow", "numpy", "pillow")

# How much of the long version runs: a factor on what is tried, 1 for the short one.
FACTOR = int(os.environ.get("PRETEXT_FAULTS", "1"))

_table: dict[str, dict[str, int]] = {}


def count(suite: str, tried: int, survived: int, lost: int = 0, inputs: int = 0) -> None:
    """Add to what this process has counted of a suite.

    Args:
        suite: The row of the table, such as "kill at a file operation".
        tried: Faults that were set off.
        survived: Those that ended as they should: the same bits after resuming, or one clear sentence and the right
            exit code, with nothing lost.
        lost: Those that lost something that was already finished.
        inputs: Bad inputs that were given, where the suite feeds inputs.
    """
    row = _table.setdefault(suite, dict.fromkeys(PARTS, 0))
    for name, value in zip(PARTS, (tried, survived, lost, inputs), strict=True):
        row[name] += value


@contextmanager
def attempt(suite: str) -> Iterator[None]:
    """Count one fault: it is survived if nothing in the block fails."""
    count(suite, tried=1, survived=0)
    yield
    count(suite, tried=0, survived=1)


def merge(path: Path) -> None:
    """Add this process's counts to those of a file, under a lock beside it, and start counting anew."""
    if not _table:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = json.loads(path.read_text())["rows"] if path.exists() else []
        rows = {row["what"]: {name: row.get(name, 0) for name in PARTS} for row in known}
        for what, counts in _table.items():
            before = rows.setdefault(what, dict.fromkeys(PARTS, 0))
            rows[what] = {name: before[name] + counts[name] for name in PARTS}
        content = {
            "rows": [{"what": what, **rows[what]} for what in sorted(rows)],
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "device": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
    _table.clear()


def to_table(content: dict[str, list[dict[str, int]]]) -> str:
    """A file of counts as a Markdown table, with a row of sums."""
    rows = [*content["rows"], {"what": "all", **{name: sum(row[name] for row in content["rows"]) for name in PARTS}}]
    lines = ["| what | tried | survived | lost |", "| --- | --- | --- | --- |"]
    lines += [f"| {row['what']} | {row['tried']:,} | {row['survived']:,} | {row['lost']:,} |" for row in rows]
    return "\n".join(lines) + "\n"
