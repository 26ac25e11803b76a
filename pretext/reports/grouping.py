"""Which runs are seeds of one method, and which results were measured alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pretext.reports.gather import SCRATCH_KIND, Result, Run
from pretext.reports.naming import (
    FULL_KIND,
    TRAINED,
    Identity,
    evaluation_options,
    images_key,
    label_all,
    run_identity,
    scratch_identity,
)

Member = tuple[Run, Result]


@dataclass(slots=True)
class Method:
    """Runs that differ in nothing but the seed, or one control."""

    label: str
    identity: Identity
    runs: list[Run] = field(default_factory=list)

    @property
    def is_control(self) -> bool:
        return self.identity.sort != TRAINED


def find_methods(runs: Sequence[Run]) -> tuple[list[Method], dict[tuple[str, str], Method]]:
    """Every method, and which one each (run, stem) belongs to."""
    found: dict[str, Method] = {}
    owner: dict[tuple[str, str], Method] = {}
    for run in runs:
        own = run_identity(run)
        parts = [(own, [result for result in run.results if result.kind != SCRATCH_KIND])] if own else []
        parts += [(scratch_identity(result), [result]) for result in run.results if result.kind == SCRATCH_KIND]
        for identity, results in parts:
            method = found.setdefault(identity.key, Method(identity.base, identity))
            if run not in method.runs:
                method.runs.append(run)
            owner |= {(run.name, result.stem): method for result in results}
    methods = list(found.values())
    labels = label_all([method.identity.base for method in methods], [method.identity.options for method in methods])
    for method, label in zip(methods, labels, strict=True):
        method.label = label
    return sorted(methods, key=lambda m: (m.is_control, m.identity.sort, _natural(m.label))), owner


def _natural(text: str) -> list[tuple[float, str]]:
    """A sort key that puts pse10 behind pse4, and lr 0.001 behind lr 0.0001."""
    return [(float(part), "") if number else (0.0, part) for part, number in
            ((match[0], match[1]) for match in re.finditer(r"(\d+(?:\.\d+)?)|\D+", text))]  # fmt: skip


def find_groups(pairs: Sequence[Member]) -> list[list[Member]]:
    """Results by evaluation; the supervised control joins the fine-tuning that shares its settings."""
    groups: dict[Any, list[Member]] = {}
    controls = []
    for run, result in pairs:
        if result.kind == SCRATCH_KIND:
            controls.append((run, result))
            continue
        key = (result.kind, images_key(result), tuple(sorted(map(repr, evaluation_options(result).items()))))
        groups.setdefault(key, []).append((run, result))
    for run, result in controls:
        own, tested = evaluation_options(result), images_key(result)
        home = [key for key, members in groups.items() if key[:2] == (FULL_KIND, tested)
                and _agree(own, evaluation_options(members[0][1]))]  # fmt: skip
        key = home[0] if home else (SCRATCH_KIND, tested, tuple(sorted(map(repr, own.items()))))
        groups.setdefault(key, []).append((run, result))
    return list(groups.values())


def _agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[name] == b[name] for name in a.keys() & b.keys())


def leader(members: Sequence[Member]) -> Result:
    """The result whose protocol stands for the group's: not the supervised control's where there is another."""
    return next((result for _, result in members if result.kind != SCRATCH_KIND), members[0][1])
