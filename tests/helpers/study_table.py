"""The README's tables of a study, from the tables that its report wrote.

python tests/helpers/study_table.py examples/stl10-pse prints them.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def study_table(folder: Path) -> str:
    """Methods by evaluations: top-1 in per cent with the half width of its interval over test images, and seeds."""
    rows = read(folder / "results.csv")
    per_evaluation = Counter(row["evaluation"] for row in rows)
    evaluations = [name for name, count in per_evaluation.items() if count > 1]  # one alone is compared with nothing
    methods = list(dict.fromkeys(row["method"] for row in rows if row["evaluation"] in evaluations))
    cells = {(row["method"], row["evaluation"]): cell(row) for row in rows}
    lines = ["| method | " + " | ".join(evaluations) + " |", "| --- |" + " ---: |" * len(evaluations)]
    lines += [f"| {method} | " + " | ".join(cells.get((method, evaluation), "") for evaluation in evaluations) + " |"
              for method in sorted(methods, key=order)]  # fmt: skip
    return "\n".join(lines)


# Metrics of the README's table, by their words in the report.
OWN = "lpips-{}-unit-conv1+conv2+conv3+conv4"
METRICS = {
    "lpips-squeezenet1_1-fit.squeezenet1_1": "SqueezeNet 1.1, channel weights fitted here",
    "lpips-squeezenet1_0-fit.squeezenet1_0": "SqueezeNet 1.0, channel weights fitted here",
    "lpips-squeezenet1_0-unit": "SqueezeNet 1.0, unit weights",
    "lpips-squeezenet1_1-unit": "SqueezeNet 1.1, unit weights",
    "perceptual-squeezenet1_1-4": "SqueezeNet 1.1, layer 4 alone",
    "perceptual-squeezenet1_1-1": "SqueezeNet 1.1, layer 1 alone",
    "lpips-squeezenet1_1-published": "SqueezeNet 1.1, published channel weights",
    "lpips-squeezenet1_1-random-s0-unit": "SqueezeNet 1.1, random",
    "ssim": "SSIM", "mse": "MSE", "l1": "L1", "pse4": "PSE, sigma 4",
    OWN.format("sq4-s0"): "an encoder of above: perceptual, layer 4", OWN.format("mse-s0"): "an encoder of above: MSE",
    OWN.format("untrained-s0"): "an encoder of above: not trained",
}  # fmt: skip


def agreement_table(folder: Path) -> str:
    """Share of judges who agree, in per cent, with half of its interval over references; the best first."""
    rows = [row for row in read(folder / "agreement.csv") if row["metric"] in METRICS]
    assert len(rows) == len(METRICS), METRICS.keys() - {row["metric"] for row in rows}
    lines = ["| compared in | judges who agree, % |", "| --- | ---: |"]
    for row in sorted(rows, key=lambda row: -float(row["two_afc"])):
        half = 50 * (float(row["two_afc_high"]) - float(row["two_afc_low"]))
        lines.append(f"| {METRICS[row['metric']]} | {100 * float(row['two_afc']):.1f} ± {half:.1f} |")
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
    if (Path(sys.argv[1]) / "agreement.csv").exists():
        print(agreement_table(Path(sys.argv[1])))
