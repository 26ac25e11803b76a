"""Which runs are seeds of one method, and which results were measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pretext.artifacts.layout import LATENT
from pretext.reports.gather import SCRATCH_KIND, Result, Run
from pretext.reports.naming import (
    FULL_KIND,
    TRAINED,
    Identity,
    evaluation_options,
    images_key,
    label_all,
    layer_of,
    layer_rank,
    natural,
    pool_of,
    run_identity,
    scratch_identity,
)

Member = tuple[Run, Result]
LayerKey = tuple[str, str]  # a layer, and what became of its map; both empty where none was read
WHOLE: LayerKey = ("", "")


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
    return sorted(methods, key=lambda m: (m.is_control, m.identity.sort, natural(m.label))), owner


@dataclass(slots=True)
class Family:
    """Results of one protocol on the same images, by what was read of the encoder: a layer, and what became of it.

    One of its groups is the primary one: the encoder's output vector, which every encoder has; where no probe read
    that, the layer that most runs were probed at, and of those the deepest. Raw pixels, which have no layers, stand
    beside the primary one.
    """

    groups: dict[LayerKey, list[Member]]
    primary: LayerKey


def find_families(pairs: Sequence[Member]) -> list[Family]:
    """Results by evaluation; the supervised control joins the fine-tuning that shares its settings."""
    families: dict[Any, dict[LayerKey, list[Member]]] = {}
    controls = []
    for run, result in pairs:
        if result.kind == SCRATCH_KIND:
            controls.append((run, result))
            continue
        key = (result.kind, images_key(result), tuple(sorted(map(repr, evaluation_options(result).items()))))
        layer = (layer_of(result), " ".join(str(value) for value in pool_of(result).values()))
        families.setdefault(key, {}).setdefault(layer, []).append((run, result))
    for run, result in controls:
        own, tested = evaluation_options(result), images_key(result)
        home = [key for key, groups in families.items() if key[:2] == (FULL_KIND, tested)
                and _agree(own, evaluation_options(groups[WHOLE][0][1]))]  # fmt: skip
        key = home[0] if home else (SCRATCH_KIND, tested, tuple(sorted(map(repr, own.items()))))
        families.setdefault(key, {}).setdefault(WHOLE, []).append((run, result))
    return [_family(groups) for groups in families.values()]


def _family(groups: dict[LayerKey, list[Member]]) -> Family:
    pixels = groups.pop(WHOLE) if len(groups) > 1 and WHOLE in groups else []
    primary = max(groups, key=lambda key: (key[0] == LATENT, len(groups[key]), layer_rank(key[0]), key[1]))
    groups[primary] += pixels
    return Family(dict(sorted(groups.items(), key=lambda item: (layer_rank(item[0][0]), item[0][1]))), primary)


def _agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[name] == b[name] for name in a.keys() & b.keys())


def leader(members: Sequence[Member]) -> Result:
    """The result whose protocol stands for the group's: not the supervised control's where there is another."""
    return next((result for _, result in members if result.kind != SCRATCH_KIND), members[0][1])
