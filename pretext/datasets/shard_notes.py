"""Which shards of a set are finished, over all ranks and restarts: a kill of any rank loses none of them.

The first rank notes its own in the manifest. The others write a file each, in a folder beside it which the next start reads,
whatever the number of ranks is then.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pretext import world
from pretext.artifacts.atomic import content_sha256, read_json, write_json
from pretext.artifacts.layout import MANIFEST
from pretext.artifacts.manifest import Record

Facts = dict[str, dict[str, Any]]  # of shards, by name


class ShardNotes:
    """The facts of finished shards, each with the number of its `bytes` and, where it is not its name, its `file`.

    Every rank makes one when the record has begun, adds what it finishes, and gathers at the end.

    Args:
        record: The manifest of what is made of shards, which has begun.
    """

    def __init__(self, record: Record) -> None:
        self._record, self._mine = record, Facts()
        self._folder = record.path.with_name(record.path.name.replace(MANIFEST, "resume"))
        # Notes of other options, which a manifest removed by hand leaves behind, say nothing about this work.
        self._work = content_sha256([dict(record.request), [parent.fingerprint for parent in record.parents]])
        self.kept: Facts = world.from_first(self._read)
        """What earlier starts finished and is still there."""

    def _read(self) -> Facts:
        """What the first rank finds is what all go by: together they must divide the same shards."""
        noted: Facts = dict(self._record.content["progress"])
        for path in sorted(self._folder.glob("rank-*.json")):
            note = read_json(path)
            if note["work"] == self._work:
                noted |= note["shards"]
        kept = {name: facts for name, facts in noted.items() if self._is_whole(facts.get("file", name), facts["bytes"])}
        self._close(kept)
        return kept

    def _is_whole(self, file: str, size: int) -> bool:
        path = self._record.path.with_name(file)
        return path.is_file() and path.stat().st_size == size

    def _close(self, shards: Facts) -> None:
        """Put what the ranks' files say into the manifest, then remove them."""
        if self._folder.exists():
            self._record.note(shards)
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, name: str, facts: dict[str, Any]) -> None:
        """Note one shard that this rank has finished."""
        self._mine[name] = facts
        if world.is_first():
            self._record.note(self.kept | self._mine)
        else:
            write_json(self._path, {"work": self._work, "shards": self._mine})

    @property
    def _path(self) -> Path:
        return self._folder / f"rank-{world.rank()}.json"

    def gather(self) -> Facts:
        """The facts of all shards, when every rank is through with its part."""
        shards = dict(self.kept)
        for part in world.gather(self._mine):
            shards |= part
        world.from_first(lambda: self._close(shards))
        return shards


def part_of(label: str) -> str:
    """What the first rank's progress is of: its own part, the others' being as large."""
    return f"{label}, part 1 of {world.size()}" if world.size() > 1 else label
