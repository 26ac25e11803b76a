"""The record beside every output: what was asked, from what it was made, with what, and whether it is done.

A manifest says `running` before work and `done` after it; one marked done proves whole outputs made from the parents it names.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pretext import world
from pretext.artifacts.atomic import SUMS, file_sums, read_json, write_json
from pretext.artifacts.lock import clear_lock, release_lock, take_lock
from pretext.artifacts.provenance import device_facts, versions
from pretext.errors import ArtifactError

SCHEMA = 1
UNREAD = ""  # the fingerprint of a parent that is not here to be read: any that was recorded is taken for it


@dataclass(frozen=True, slots=True)
class Parent:
    """What an artifact was made from: `kind` is data, checkpoint, features or result."""

    kind: str
    path: str
    fingerprint: str

    def as_json(self) -> dict[str, str]:
        return {"kind": self.kind, "path": self.path, "fingerprint": self.fingerprint}


@dataclass(slots=True)
class Record:
    """One stage's manifest, from its begin to its end.

    Args:
        path: The manifest's file.
        stage: Which stage writes it.
        request: The options that decide the output, as given (with `auto` where the user left it).
        parents: The inputs, with their fingerprints.
    """

    path: Path
    stage: str
    request: Mapping[str, Any]
    parents: Sequence[Parent] = ()
    content: dict[str, Any] = field(default_factory=dict)
    _begun: float = 0.0
    _spent: float = 0.0
    _doomed: list[Path] = field(default_factory=list)
    _seen: list[bytes | None] = field(default_factory=list)

    def is_done(self, *, overwrite: bool, stale: Sequence[Path] = ()) -> bool:
        """Whether the output is there, whole, and made by the same request from the same parents.

        A half-finished output of the same request is gone on with. With `overwrite`, an output of another request, or
        a finished one, is to be replaced: `begin` removes it together with `stale`, so what goes wrong between the two
        costs nothing.

        Of several ranks the first one looks, and all get its answer.

        Raises:
            ArtifactError: If the output was made with other options or from other parents, and `overwrite` is False.
        """
        done, self.content = world.from_first(lambda: (self._look(overwrite, stale), self.content))
        return done

    def _look(self, overwrite: bool, stale: Sequence[Path]) -> bool:
        self._seen = [self._bytes()]
        if self._seen == [None]:
            return False
        found = read_manifest(self.path)
        differences = self._differences(found)
        if overwrite and (differences or found["status"] == "done"):
            self._doomed = list(stale) + [self.path.parent / name for name in found["outputs"]]
            return False
        if differences:
            raise ArtifactError(f"{self.path.parent} already holds another {self.stage}: {'; '.join(differences)}",
                                hint="--overwrite replaces it, or choose another place")  # fmt: skip
        self._spent = float(found.get("wall_seconds", 0.0))
        if found["status"] != "done":
            self.content = found
            return False
        broken = missing_outputs(self.path, found)
        if broken:
            self._doomed, self.content = [self.path.parent / name for name in broken], found
            return False
        clear_lock(self.path)
        self.content = found
        return True

    def is_same(self) -> bool:
        """Whether the whole output of this very request is there; another one is no error."""
        if not self.path.exists():
            return False
        found = read_manifest(self.path)
        return found["status"] == "done" and not self._differences(found) and not missing_outputs(self.path, found)

    def begin(self, resolved: Mapping[str, Any], *, seed: int | None, device: str | None = None) -> None:
        """Write the manifest with status `running`, before any work, and remove what is replaced; the first rank does.

        From here to the end no other process may write this output.

        Raises:
            ArtifactError: If another process writes it, or has written it since `is_done`; or it can't be written.
        """
        self.content = world.from_first(lambda: self._begin(resolved, seed, device))

    def _begin(self, resolved: Mapping[str, Any], seed: int | None, device: str | None) -> dict[str, Any]:
        take_lock(self.path)
        if self._seen and self._bytes() not in self._seen:
            release_lock(self.path)
            raise ArtifactError(
                f"{self.path} was written by another process just now", hint="run the same command again"
            )
        self._begun = time.monotonic()
        self._remove_doomed()
        content = {
            "schema": SCHEMA, "stage": self.stage, "status": "running",
            "request": dict(self.request), "config": dict(resolved), "seed": seed,
            "parents": [parent.as_json() for parent in self.parents],
            "versions": versions(), "device": device_facts(device),
            "started": self.content.get("started", _now()), "wall_seconds": self._spent,
            "progress": self.content.get("progress", {}), "outputs": {},
        }  # fmt: skip
        write_json(self.path, content)
        return content

    def note(self, progress: Mapping[str, Any]) -> None:
        """Write down how far the work is, for a restart; what ranks other than the first note is not written."""
        if not world.is_first():
            return
        self.content["progress"] = dict(progress)
        self.content["wall_seconds"] = round(self.spent_seconds, 3)
        write_json(self.path, self.content)

    def finish(self, outputs: Sequence[Path], *, summary: Mapping[str, Any],
               known: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:  # fmt: skip
        """Record the outputs' fingerprints and mark the manifest `done`; returns its content. The first rank does, when
        every rank is here.

        Args:
            outputs: The files, all beside the manifest.
            summary: What is told of them.
            known: By name, what `file_sums` said of those that were summed up before, and perhaps more.
        """
        world.wait()
        self.content = world.from_first(lambda: self._finish(outputs, summary, known or {}))
        return self.content

    def _finish(
        self, outputs: Sequence[Path], summary: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        self.content["outputs"] = {}
        for path in outputs:
            sums = known.get(path.name) or file_sums(path)
            self.content["outputs"][path.name] = {name: sums[name] for name in SUMS}
        self.content |= {"status": "done", "summary": dict(summary), "finished": _now(),
                         "wall_seconds": round(self.spent_seconds, 3)}  # fmt: skip
        self.content.pop("progress", None)
        write_json(self.path, self.content)
        release_lock(self.path)
        return self.content

    def discard(self) -> None:
        """Forget work that came to nothing, so that its manifest stands in no other request's way."""
        self.path.unlink(missing_ok=True)
        release_lock(self.path)
        if not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def _bytes(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtifactError(f"{self.path} can't be read: {error.strerror}") from error

    @property
    def spent_seconds(self) -> float:
        """Wall time so far, over all restarts."""
        return self._spent + max(0.0, time.monotonic() - self._begun if self._begun else 0.0)

    def _differences(self, found: Mapping[str, Any]) -> list[str]:
        lines = [] if found["stage"] == self.stage else [f"it is the output of {found['stage']}"]
        before, after = found.get("request", {}), dict(self.request)
        lines += [f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
                  for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]  # fmt: skip
        return lines + self._parent_differences(list(found["parents"]))

    def _parent_differences(self, old: list[dict[str, str]]) -> list[str]:
        """Parents are matched by kind and content, so that one that moved is the same; a kind may have several."""
        lines, changed = [], []
        for parent in self.parents:
            same = [p for p in old if p["kind"] == parent.kind and parent.fingerprint in (UNREAD, p["fingerprint"])]
            if same:
                old.remove(same[0])
            else:
                changed.append(parent)
        for parent in changed:
            before = sorted((p for p in old if p["kind"] == parent.kind), key=lambda p: p["path"] != parent.path)
            lines.append(f"its {parent.kind} ({parent.path}) {'has changed since' if before else 'is new'}")
            if before:
                old.remove(before[0])
        return lines + [f"it was made from {parent['path']} as well" for parent in old]

    def _remove_doomed(self) -> None:
        # The old manifest says `running` until nothing of its output is left, so a kill in between leaves no lie.
        if self._doomed and self.path.exists():
            write_json(self.path, {**read_manifest(self.path), "status": "running"})
        for path in self._doomed:
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise ArtifactError(f"{path} can't be removed: {error.strerror or error}") from error
        self._doomed = []


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        ArtifactError: If it is missing, not JSON, not a manifest, damaged, or of another schema.
    """
    content = read_json(path)
    if (
        not isinstance(content, dict)
        or content.get("status") not in ("running", "done")
        or not isinstance(content.get("stage"), str)
    ):
        raise ArtifactError(f"{path} is not a manifest of this toolkit")
    if type(content.get("schema")) is not int or content["schema"] != SCHEMA:
        raise ArtifactError(f"{path} has schema {content.get('schema')!r}, this version reads {SCHEMA}")
    content = {name: empty() for name, (empty, _) in SECTIONS.items()} | content
    for name, (_, is_sound) in SECTIONS.items():
        if not is_sound(content[name]):
            raise ArtifactError(f"{path} is damaged: its section '{name}' is not what this toolkit writes",
                                hint="remove what is there, and make it again")  # fmt: skip
    return content


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _are_parents(value: Any) -> bool:
    keys = ("kind", "path", "fingerprint")
    return isinstance(value, list) and all(
        isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys) for entry in value
    )


def _are_outputs(value: Any) -> bool:
    """Names must be plain ones: what they name is removed on --overwrite, and must never lie elsewhere."""
    return isinstance(value, dict) and all(
        name not in ("", ".", "..") and not set(name) & set("/\\\0") and isinstance(facts, dict)
        and type(facts.get("bytes")) is int and facts["bytes"] >= 0 and isinstance(facts.get("sha256"), str)
        and isinstance(facts.get("crc32"), str)
        for name, facts in value.items()
    )  # fmt: skip


# The sections that code relies on: what stands for an absent one, and whether one is as it should be.
SECTIONS: dict[str, tuple[Callable[[], Any], Callable[[Any], bool]]] = {
    "request": (dict, _is_dict), "config": (dict, _is_dict), "progress": (dict, _is_dict), "summary": (dict, _is_dict),
    "parents": (list, _are_parents), "outputs": (dict, _are_outputs), "wall_seconds": (float, _is_number),
}  # fmt: skip


def missing_outputs(path: Path, content: Mapping[str, Any]) -> list[str]:
    """Names of a done manifest's outputs that are absent or of another size."""
    names = []
    for name, facts in content["outputs"].items():
        file = path.parent / name
        try:
            whole = file.is_file() and file.stat().st_size == facts["bytes"]
        except OSError:
            whole = False
        if not whole:
            names.append(name)
    return names


def require_done(path: Path, *, hint: str) -> dict[str, Any]:
    """Read a manifest that must be of finished, whole work.

    Raises:
        ArtifactError: If it is missing or unfinished, or an output is missing or of another size.
    """
    if not path.exists():
        raise ArtifactError(f"{path.parent} has no {path.name}", hint=hint)
    content = read_manifest(path)
    if content["status"] != "done":
        raise ArtifactError(f"{path} says the {content['stage']} is not finished", hint=hint)
    broken = missing_outputs(path, content)
    if broken:
        raise ArtifactError(
            f"{path.parent / broken[0]} is missing or not of the size that {path.name} states", hint=hint
        )
    return content


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
