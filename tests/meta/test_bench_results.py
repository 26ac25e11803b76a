"""Every benchmark's result that is kept says what was measured, on what, with what, in the fields that tools read."""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path

import pytest

from pretext.bench.document import SCHEMA, to_table
from pretext.bench.measure import Row
from pretext.stage_configs import BENCH_PARTS

FILES = sorted((Path(__file__).parents[1] / "bench" / "results").glob("*.json"))
FIELDS = {
    "schema": int, "kind": str, "parts": list, "rows": list, "ceilings": dict, "device": dict, "threads": int,
    "precision": str, "load_average": float, "seconds": float, "versions": dict,
}  # fmt: skip
HINTS = typing.get_type_hints(Row)


def fits(value, hint):
    if isinstance(hint, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint)


def test_there_are_results():
    assert {path.name for path in FILES} >= {"bench-cpu.json", "scale-cpu.json"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_names_hardware_and_versions(path):
    document = json.loads(path.read_text())
    assert document["device"].keys() == {"device", "processor", "cores", "system"}
    assert {"pretext", "python", "torch", "numpy"} <= document["versions"].keys()


@pytest.mark.parametrize("path", [path for path in FILES if path.name.startswith("bench-")], ids=lambda path: path.name)
def test_it_has_the_schema_of_a_benchmark(path):
    document = json.loads(path.read_text())
    assert (document["schema"], document["kind"]) == (SCHEMA, "bench")
    assert document.keys() == FIELDS.keys()
    assert all(isinstance(document[name], kind) for name, kind in FIELDS.items())
    assert set(document["parts"]) <= set(BENCH_PARTS)
    assert all(fits(value, float) and value > 0 for value in document["ceilings"].values())
    for row in document["rows"]:
        assert row.keys() == {field.name for field in dataclasses.fields(Row)}
        assert all(fits(value, HINTS[name]) for name, value in row.items()), row
        assert row["part"] in document["parts"]
        assert min(row["per_s"], row["against_per_s"], row["ratio"]) > 0
        assert (row["flops_each"] is None) == (row["arithmetic"] is None)
    assert len({(row["what"], row["against"]) for row in document["rows"]}) == len(document["rows"])
    lines = [line for line in to_table(document).splitlines() if line.startswith("| ")]
    assert len(lines) == len(document["rows"]) + 2


def test_a_wrong_type_would_be_seen():
    assert not fits(True, HINTS["ratio"])
    assert not fits(math.nan, HINTS["ratio"])
    assert not fits("3", HINTS["goal"])
    assert fits(None, HINTS["goal"])
