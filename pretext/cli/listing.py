"""`pretext list` and `pretext inspect`: what there is to choose from, and what a file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pretext.artifacts.atomic import loads_strictly, read_json
from pretext.artifacts.layout import FAILED_STEP, MANIFEST, SCORE, RunLayout, features_stems
from pretext.catalog import AXES
from pretext.cli.errors import one_line
from pretext.errors import ArtifactError, UnknownVariantError
from pretext.registry import Registry


def list_axis(axis: str | None, *, as_json: bool) -> str:
    """One line for every variant: name, what it is, its options, its paper.

    Raises:
        UnknownVariantError: If there is no such axis.
    """
    tables = AXES if axis is None else {axis: _axis(axis)}
    if as_json:
        rows = {name: [{"name": row.name, "summary": row.summary, "paper": row.paper, "options": dict(row.reads)}
                       for row in table.values()] for name, table in tables.items()}  # fmt: skip
        return json.dumps(rows if axis is None else rows[axis])
    blocks = []
    for name, table in tables.items():
        width = max(len(row.name) for row in table.values())
        lines = [
            f"  {row.name:<{width}}  {row.summary}{f' [{row.paper}]' if row.paper else ''}" for row in table.values()
        ]
        blocks.append("\n".join([name, *lines]))
    return "\n\n".join(blocks)


def _axis(name: str) -> Registry:
    for axis, table in AXES.items():
        if name in (axis, table.axis):
            return table
    raise UnknownVariantError(f"axis '{name}' is unknown; there are: {', '.join(AXES)}", hint="pretext list")


def describe(path: Path, *, as_json: bool) -> str:
    """What an artifact is, from what it was made, with what.

    Raises:
        ArtifactError: If there is nothing at the path, or it is no artifact of this toolkit.
    """
    facts = _facts(path)
    if as_json:
        return json.dumps(facts, default=str)
    return "\n".join(one_line(line) for line in _lines(facts))


def tell_verified(path: Path, *, as_json: bool) -> tuple[str, int]:
    """What `pretext.artifacts.verify` finds of the path's bytes: a line for each damaged file, or that all are whole; and
    how many are damaged.

    Raises:
        ArtifactError: If nothing tells of the path.
    """
    from pretext.artifacts.verify import verify

    facts = verify(path)
    if as_json:
        return json.dumps(facts), len(facts["damaged"])
    whole = [f"{path}: {facts['files']} files, {facts['bytes']:,} bytes, all as they were written"]
    return "\n".join(map(one_line, facts["damaged"] or whole)), len(facts["damaged"])


def _facts(path: Path) -> dict[str, Any]:
    if path.is_dir():
        # What is not trained here has no manifest of a training: raw pixels, networks, fitted metrics, scores of metrics.
        stems = (*features_stems(path), "fit-metric", SCORE)
        records = [path / MANIFEST, *(RunLayout(path).record(stem) for stem in stems)]
        if not (there := [record for record in records if record.exists()]):
            raise ArtifactError(f"{path} is neither a run nor a data set: it has no {MANIFEST}")
        path = there[0]
    if not path.exists():
        raise ArtifactError(f"{path} does not exist")
    if path.suffix == ".json":
        content = read_json(path)
        kind = "manifest" if path.name.endswith(MANIFEST) else "result"
        return {"file": str(path), "what": kind, **(content if isinstance(content, dict) else {"content": content})}
    if path.suffix == ".safetensors":
        return {"file": str(path), **_checkpoint_facts(path)}
    if path.suffix == ".parquet":
        return {"file": str(path), "what": "table", **_parquet_facts(path)}
    if path.suffix == ".arrow":
        return {"file": str(path), **(_tensor_facts(path) if "." in path.stem else _shard_facts(path))}
    raise ArtifactError(f"{path} is no artifact of this toolkit (.json, .safetensors, .parquet or .arrow)")


def _checkpoint_facts(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    from pretext.artifacts.checkpoint import read_header

    header = read_header(path)  # which says so where it is no safetensors
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_slice(name) for name in file.keys()}
        shapes = {name: f"{tensor.get_dtype()} {tuple(tensor.get_shape())}" for name, tensor in tensors.items()}
    what = {FAILED_STEP: "step that gave no number: its batch and the state it began with"}
    return {"what": what.get(str(header.get("kind")), "weights"), "header": header, "tensors": shapes}


def _parquet_facts(path: Path) -> dict[str, Any]:
    from pretext.artifacts.tables import open_table

    file = open_table(path)
    header = (file.schema_arrow.metadata or {}).get(b"pretext")
    columns = {field.name: str(field.type) for field in file.schema_arrow}
    return {"rows": file.metadata.num_rows, "columns": columns,
            "header": loads_strictly(path, header, problem="has a damaged header") if header else {}}  # fmt: skip


def _shard_facts(path: Path) -> dict[str, Any]:
    from pretext.artifacts.shards import Shard

    shard = Shard(path)
    meanings = {field.name: (field.metadata or {}).get(b"meaning", b"").decode() for field in shard.table.schema}
    return {
        "what": "shard of images",
        "rows": len(shard),
        "image": str(shard.image_views[0].shape[1:]) if shard.image_views else "",
        "columns": meanings,
    }


def _tensor_facts(path: Path) -> dict[str, Any]:
    """What was computed from a shard of images: `SPLIT-00000-of-00001.STEM.arrow`."""
    from pretext.artifacts.rows import describe_rows

    return {"what": "computed from a shard of images", **describe_rows(path)}


def _lines(value: Any, indent: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and all(isinstance(entry, dict) for entry in item):
            lines += [f"{indent}{key}:"]
            for entry in item:
                lines.append(f"{indent}  - " + ", ".join(f"{k} {v}" for k, v in entry.items()))
        else:
            lines.append(f"{indent}{key}: {item}")
    return lines
