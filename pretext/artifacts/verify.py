"""Rot is found before it is used: a file's bytes against the sums that its manifest holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretext.artifacts.atomic import damaged_block
from pretext.artifacts.layout import MANIFEST
from pretext.artifacts.manifest import read_manifest
from pretext.artifacts.parts import part_at
from pretext.errors import ArtifactError

_checked: set[tuple[Path, int, int, int]] = set()


def check_bytes(path: Path, content: Mapping[str, Any]) -> None:
    """Raise unless an output's bytes are those that its manifest recorded, each file once in a process.

    Args:
        path: The output.
        content: The manifest that lists it.

    Raises:
        ArtifactError: Naming the file, where in it the damage is, and the part of its content that lies there.

    Cost: reading the file, and a quarter of a second for each GB.
    """
    try:
        found = path.stat()
        seen = (path, found.st_size, found.st_mtime_ns, found.st_ino)
        if seen in _checked:
            return
        damage = damaged_block(path, content["outputs"][path.name])
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}") from error
    if damage is not None:
        start, stop = damage
        place = part_at(path, start, stop)
        raise ArtifactError(f"{path} is damaged: its bytes {start} to {stop}{place} are not those that "
                            f"{content['stage']} wrote", hint="restore it from a copy, or make it again with --overwrite")  # fmt: skip
    _checked.add(seen)


def check_recorded(path: Path, record: Path) -> None:
    """`check_bytes` of a file by a manifest that may be there and may tell of it; a file that was copied out has none."""
    if record.is_file() and path.name in (content := read_manifest(record))["outputs"]:
        check_bytes(path, content)


def verify(path: Path) -> dict[str, Any]:
    """Compare every byte of an artifact, or of all that a folder's manifests list, with what was recorded.

    Returns:
        How many files, bytes and manifests were looked at, and `damaged`: a sentence for each file that is missing, cut
        short or changed.

    Raises:
        ArtifactError: If no manifest tells of it, or one can't be read.

    Cost: reading the files, and a quarter of a second for each GB.
    """
    folder = path if path.is_dir() else path.parent
    wanted = [(record, content, name) for record in sorted(folder.glob(f"*{MANIFEST}"))
              for content in [read_manifest(record)] for name in content["outputs"] if path.is_dir() or name == path.name]  # fmt: skip
    if not wanted:
        raise ArtifactError(
            f"{path} does not exist" if not path.exists() else f"no manifest in {folder} tells of {path}"
        )
    damaged = []
    for record, content, name in wanted:
        try:
            check_bytes(record.with_name(name), content)
        except ArtifactError as error:
            damaged.append(error.message)
    return {"files": len(wanted), "bytes": sum(content["outputs"][name]["bytes"] for _, content, name in wanted),
            "manifests": len({record for record, _, _ in wanted}), "damaged": damaged}  # fmt: skip
