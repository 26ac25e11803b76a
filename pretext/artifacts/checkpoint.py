"""Weights in safetensors with plain keys, and beside them in the header what is needed to rebuild the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pretext.artifacts.atomic import atomic_path, loads_strictly
from pretext.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

HEADER_KEY = "pretext"
SCHEMA = 1


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write named tensors atomically, with a JSON header.

    Equal tensors and an equal header give equal bytes: names are sorted, and nothing of the moment is in the file.
    """
    from safetensors.torch import save

    ready = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    text = json.dumps({"schema": SCHEMA, **header}, sort_keys=True, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(ready, metadata={HEADER_KEY: text}))


def read_header(path: Path) -> dict[str, Any]:
    """Read a file's JSON header without its tensors.

    Raises:
        ArtifactError: If the file is missing, not safetensors, or not written by this toolkit.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ArtifactError(f"{path} does not exist")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} can't be read as safetensors: {error}") from error
    if text is None:
        raise ArtifactError(f"{path} was not written by this toolkit: its header has no '{HEADER_KEY}'")
    header = loads_strictly(path, text, problem="has a damaged header")
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise ArtifactError(f"{path} has a header of another schema; this version reads {SCHEMA}")
    return header


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors whose names begin with `prefix`, which is cut off.

    Raises:
        ArtifactError: If the file is missing or broken.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} can't be read as safetensors: {error}") from error


class Shaped(NamedTuple):
    """What a file tells of a tensor before it is read."""

    shape: tuple[int, ...]


def read_shapes(path: Path, prefix: str = "") -> dict[str, Shaped]:
    """The shapes of the tensors whose names begin with `prefix`, which is cut off; no tensor is read.

    Raises:
        ArtifactError: If the file is missing or broken.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name.removeprefix(prefix): Shaped(tuple(file.get_slice(name).get_shape()))
                    for name in file.keys() if name.startswith(prefix)}  # fmt: skip
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} can't be read as safetensors: {error}") from error


def check_keys(path: Path, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Check that a file holds exactly the tensors a network needs, each of the right shape.

    Args:
        path: The file, for messages.
        expected: Tensors by name, with or without values (device meta).
        found: Tensors by name, or what `read_shapes` told of them.

    Raises:
        ArtifactError: Naming the missing, unexpected and misshapen ones.
    """
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    misshapen = [f"{name} is {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
                 for name in sorted(expected.keys() & found.keys()) if found[name].shape != expected[name].shape]  # fmt: skip
    if missing or unexpected or misshapen:
        matched = len(expected.keys() & found.keys()) - len(misshapen)
        parts = [f"{matched} of {len(expected)} tensors match"]
        parts += [f"missing: {', '.join(missing[:5])}"] if missing else []
        parts += [f"unexpected: {', '.join(unexpected[:5])}"] if unexpected else []
        parts += [f"wrong shape: {'; '.join(misshapen[:5])}"] if misshapen else []
        raise ArtifactError(f"{path} does not fit its own description: {'; '.join(parts)}")
