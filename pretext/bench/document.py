"""The benchmark's result: JSON for machines, a table for people and for the README."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pretext.artifacts.provenance import device_facts, versions
from pretext.bench.measure import Row
from pretext.training.device import Compute

SCHEMA = 1
HEADER = ("part", "what", "rate", "against", "its rate", "times as fast", "goal", "of the ceiling")


def make_document(parts: Sequence[str], rows: Sequence[Row], ceilings: Mapping[str, float], compute: Compute,
                  seconds: float) -> dict[str, Any]:  # fmt: skip
    """All that was measured, with the hardware and the versions that it was measured with."""
    return {
        "schema": SCHEMA, "kind": "bench", "parts": list(parts), "rows": [row.as_json() for row in rows],
        "ceilings": dict(ceilings), "device": device_facts(compute.name), "threads": torch.get_num_threads(),
        "precision": compute.precision, "load_average": os.getloadavg()[0], "seconds": seconds, "versions": versions(),
    }  # fmt: skip


def to_table(document: Mapping[str, Any]) -> str:
    """The rows of a document as a Markdown table."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    for row in document["rows"]:
        goal = "" if row["goal"] is None else f"{row['goal']:g}{'' if row['ratio'] >= row['goal'] else ' (missed)'}"
        cells = (row["part"], row["what"], _rate(row["per_s"], row["unit"]), row["against"],
                 _rate(row["against_per_s"], row["unit"]), f"{_ratio(row['ratio'])} (iqr {row['ratio_iqr']:.2g})", goal,
                 ceiling_share(row, document["ceilings"]))  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_notes(document)])


def ceiling_share(row: Mapping[str, Any], ceilings: Mapping[str, float]) -> str:
    """How near the row came to what memory or arithmetic allow; nothing where it is not known what bounds it."""
    shares = []
    if row["bytes_each"] is not None:
        shares.append((row["bytes_each"] * row["per_s"] / ceilings["copy_bytes_per_s"], "copy"))
    if row["flops_each"] is not None:
        ceiling = ceilings[f"matmul_{row['arithmetic']}_flops_per_s"]
        shares.append((row["flops_each"] * row["per_s"] / ceiling, f"{row['arithmetic']} product"))
    return ", ".join(f"{100 * share:.0f} % {of}" for share, of in shares)


def _notes(document: Mapping[str, Any]) -> list[str]:
    notes = dict.fromkeys(f"{row['what']}: {row['note']}" for row in document["rows"] if row["note"])
    device, ceilings = document["device"], document["ceilings"]
    name = device["processor"] if device["device"] == "cpu" else device["device"]
    products = ", ".join(f"{name.split('_')[1]} product {value / 1e12:.2f} TFLOP/s" for name, value in ceilings.items()
                         if name.startswith("matmul"))  # fmt: skip
    machine = (f"{name}, {document['threads']} threads, torch {document['versions']['torch']}; copy "
               f"{ceilings['copy_bytes_per_s'] / 1e9:.1f} GB/s, {products}; {document['seconds']:.0f} s in all.")  # fmt: skip
    return ["", machine, *([""] if notes else []), *(f"- {note}" for note in notes)]


def _rate(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}/s" if value >= 100 else f"{value:.3g} {unit}/s"


def _ratio(value: float) -> str:
    return f"{value:#.3g}" if value < 10 else f"{value:.0f}"
