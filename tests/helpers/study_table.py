"""The README's table of a study, from the tables that its report wrote.

python tests/helpers/study_table.py examples/stl10-pse prints it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def study_table(folder: Path) -> str:
    """Methods by evaluations: top-1 in per cent with the half width of its interval over test images, and seeds."""
    rows = read(folder / "results.csv")
    evaluations = list(dict.fromkeys(row["evaluation"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["method"], row["evaluation"]): cell(row) for row in rows}
    lines = ["| method | " + " | ".join(evaluations) + " |", "| --- |" + " ---: |" * len(evaluations)]
    lines += [f"| {method} | " + " | ".join(cells.get((method, evaluation), "") for evaluation in evaluations) + " |"
              for method in sorted(methods, key=order)]  # fmt: skip
    return "\n".join(lines)


def cell(row: dict[str, str]) -> str:
    low, high = float(row["ensemble_top1_low"]), float(row["ensemble_top1_high"])
    one = "" if int(row["seeds"]) > 1 else " (1 seed)"
    return f"{100 * float(row['ensemble_top1']):.1f} ± {50 * (high - low):.1f}{one if 'pixels' not in row['method'] else ''}"


def order(method: str) -> tuple[bool, str]:
    """Controls last."""
    return (any(word in method for word in ("random", "scratch", "pixels")), method)


if __name__ == "__main__":
    print(study_table(Path(sys.argv[1])))
