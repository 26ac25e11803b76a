"""Group results into methods and evaluations, and compare what may be compared: the same images, the same protocol.

Seeds are kept apart from folds, and both from test images: an interval always says over which of the three it is.
Letter beside the package's alphabet: S seeds, N test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pretext.artifacts.layout import LATENT
from pretext.reports.gather import Issue, Result, Run
from pretext.reports.grouping import Family, Member, Method, find_families, find_methods, leader
from pretext.reports.naming import SCRATCH, evaluation_base, evaluation_options, label_all, layer_rank, pool_of
from pretext.statistics.bootstrap import bootstrap_interval, paired_bootstrap_interval, seed_interval
from pretext.statistics.paired import holm, mcnemar

Interval = tuple[float, float]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One method in one evaluation.

    Attributes:
        results: One result per seed, in order of seed; None stands for a method that has no seed.
        top1: The ensembles' top-1, mean over seeds, 0..1.
        image_interval: 95 % bootstrap over test images, of the mean over these seeds.
        seed_sd: Standard deviation over seeds (n - 1), None for a single one.
        fold_mean: Mean over folds, and over seeds, of the single fold models' top-1.
        fold_sd: Standard deviation over folds, mean over seeds; None where there was one fold.
    """

    method: Method
    results: dict[int | None, Result]
    top1: float
    image_interval: Interval
    seed_sd: float | None
    fold_mean: float
    fold_sd: float | None

    def mean_of(self, section: str, name: str) -> float | None:
        """A score of the result files, mean over seeds; None where a file lacks it."""
        values = [(result.content[section] or {}).get(name) for result in self.results.values()]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        return float(np.mean(numbers)) if len(numbers) == len(values) else None


@dataclass(slots=True, kw_only=True)
class PairTest:
    """Two runs on the same test images; `p_holm` is corrected for all tests of the evaluation."""

    a: Method
    b: Method
    seeds: tuple[int | None, int | None]
    only_a: int
    only_b: int
    difference: float
    interval: Interval
    p_value: float
    p_holm: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedDifference:
    """Two methods over the seeds that both have.

    `interval` is Student's over the per-seed differences; `image_interval` a paired bootstrap over test images of their
    mean. Either can miss what the other shows: few seeds may agree by chance, and so may few images.
    """

    a: Method
    b: Method
    num_seeds: int
    mean: float
    interval: Interval
    image_interval: Interval

    @property
    def is_established(self) -> bool:
        """Whether a is ahead of b over the seeds and over the test images, each at 95 %."""
        return self.interval[0] > 0 and self.image_interval[0] > 0


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """Results that were measured alike on the same test images; entries from best to worst.

    Attributes:
        label: What people call it; names the layer where it is not the encoder's output vector.
        family: The same for all layers of one protocol on one set of images.
        layer: The layer that was probed, empty for fine-tuning.
        pool: What became of the layer's map, empty where it is none.
        is_primary: Whether it is the one of its family that stands for the encoders as a whole.
        options: The protocol's settings.
    """

    label: str
    family: str
    layer: str
    pool: str
    is_primary: bool
    kind: str
    data: str
    options: Mapping[str, Any]
    entries: list[Entry]
    pairs: list[PairTest]
    seed_differences: list[SeedDifference]

    @property
    def num_test(self) -> int:
        return len(next(iter(self.entries[0].results.values())).ids)

    @property
    def results(self) -> list[Result]:
        return [result for entry in self.entries for result in entry.results.values()]

    def tests_of(self, a: Method, b: Method) -> list[PairTest]:
        """The tests of two methods, in the order asked for: differences are a - b."""
        pair = {id(a), id(b)}
        return [test if test.a is a else _turned(test) for test in self.pairs if {id(test.a), id(test.b)} == pair]

    def seed_difference(self, a: Method, b: Method) -> SeedDifference | None:
        """The across-seed difference a - b, None where they share fewer than two seeds."""
        for found in self.seed_differences:
            if found.a is a and found.b is b:
                return found
            if found.a is b and found.b is a:
                return SeedDifference(a=a, b=b, num_seeds=found.num_seeds, mean=-found.mean,
                                      interval=_negated(found.interval),
                                      image_interval=_negated(found.image_interval))  # fmt: skip
        return None


@dataclass(slots=True, kw_only=True)
class Study:
    """Everything the report tells."""

    runs: list[Run]
    methods: list[Method]
    evaluations: list[Evaluation]
    issues: list[Issue]

    @property
    def primary(self) -> list[Evaluation]:
        """One evaluation of each family: what headlines, figures and galleries are about."""
        return [evaluation for evaluation in self.evaluations if evaluation.is_primary]

    def layers_of(self, family: str) -> list[Evaluation]:
        """All evaluations of one family, in the order in which an image meets their layers."""
        found = [evaluation for evaluation in self.evaluations if evaluation.family == family]
        return sorted(found, key=lambda evaluation: (layer_rank(evaluation.layer), evaluation.pool))


def compare(runs: Sequence[Run]) -> Study:
    """Group runs and test what may be tested."""
    issues = [issue for run in runs for issue in run.issues]
    methods, owner = find_methods(runs)
    families = find_families([(run, result) for run in runs for result in run.results])
    firsts = [leader(family.groups[family.primary]) for family in families]
    several_data = len({first.content["data"]["fingerprint"] for first in firsts}) > 1
    options = [evaluation_options(first) for first in firsts]
    bases = [evaluation_base(first.kind, first.content["data"]["name"], several_data) for first in firsts]
    evaluations = [
        evaluation for label, own, family in zip(label_all(bases, options), options, families, strict=True)
        for evaluation in _evaluations(label, own, family, owner, issues)
    ]  # fmt: skip
    order = ("probe-linear", "probe-knn", "probe-mlp", "probe-mlp-seven", "fine-tune-frozen", "fine-tune-full")
    evaluations.sort(key=lambda e: (e.data, order.index(e.kind) if e.kind in order else len(order), e.family,
                                    not e.is_primary))  # fmt: skip
    return Study(runs=list(runs), methods=methods, evaluations=evaluations, issues=issues)


def _evaluations(label: str, options: Mapping[str, Any], family: Family, owner: Mapping[tuple[str, str], Method],
                 issues: list[Issue]) -> list[Evaluation]:  # fmt: skip
    """One evaluation for each layer of a family."""
    found = []
    layers = [layer for layer, _ in family.groups]
    for (layer, pool), members in family.groups.items():
        words = [label, *([layer] if layer not in ("", LATENT) else []), *([pool] if layers.count(layer) > 1 else [])]
        first = leader(members)
        entries, pairs, differences = _contest(members, owner, issues)
        found.append(Evaluation(
            label=", ".join(words), family=label, layer=layer, pool=pool, is_primary=(layer, pool) == family.primary,
            kind=first.kind, data=first.content["data"]["name"], options={**options, **pool_of(first)},
            entries=entries, pairs=pairs, seed_differences=differences,
        ))  # fmt: skip
    return found


def _contest(members: Sequence[Member], owner: Mapping[tuple[str, str], Method],
             issues: list[Issue]) -> tuple[list[Entry], list[PairTest], list[SeedDifference]]:  # fmt: skip
    """Entries from best to worst, their paired tests, and their differences over seeds."""
    by_method: dict[str, tuple[Method, dict[int | None, Result]]] = {}
    for run, result in members:
        method = owner[run.name, result.stem]
        results = by_method.setdefault(method.identity.key, (method, {}))[1]
        if result.seed in results:
            # The supervised control is the same for every run of one encoder: a repeat is neither a seed nor a fault.
            if method.identity.sort != SCRATCH:
                reason = f"{results[result.seed].run} is the same method with the same seed {result.seed}"
                issues.append(Issue(run.name, result.stem, "not used", reason))
            continue
        results[result.seed] = result
    entries = [_entry(method, results) for method, results in by_method.values()]
    entries.sort(key=lambda entry: (-entry.top1, entry.method.label))
    pairs = [test for a, b in combinations(entries, 2) for test in _pair_tests(a, b)]
    for test, p_holm in zip(pairs, holm([test.p_value for test in pairs]), strict=True):
        test.p_holm = float(p_holm)
    differences = [found for a, b in combinations(entries, 2) if (found := _seed_difference(a, b))]
    return entries, pairs, differences


def _entry(method: Method, results: dict[int | None, Result]) -> Entry:
    ordered = dict(sorted(results.items(), key=lambda item: (item[0] is None, item[0] or 0)))
    first = next(iter(ordered.values()))
    correct_SN = np.stack([aligned_correct(result, first.ids) for result in ordered.values()])
    top1_S = np.array([_top1(result) for result in ordered.values()])
    entry = Entry(
        method=method, results=ordered, top1=float(top1_S.mean()),
        image_interval=bootstrap_interval(correct_SN.mean(axis=0)),
        seed_sd=float(top1_S.std(ddof=1)) if len(top1_S) > 1 else None,
        fold_mean=float(np.mean([result.content["mean"]["top1"] for result in ordered.values()])), fold_sd=None,
    )  # fmt: skip
    entry.fold_sd = entry.mean_of("sd", "top1")
    return entry


def aligned_correct(result: Result, ids: Sequence[str]) -> np.ndarray:
    """Whether the ensemble is right, in the order of `ids`."""
    if list(result.ids) == list(ids):
        return result.correct_N
    place = {name: index for index, name in enumerate(result.ids)}
    return result.correct_N[[place[name] for name in ids]]


def shared_seeds(a: Entry, b: Entry) -> list[tuple[int | None, int | None]]:
    """Which seed of one is compared with which of the other.

    Equal seeds meet; a method without seeds meets every seed; methods that share no seed meet with their first.
    """
    if None in a.results or None in b.results:
        return [(s, t) for s in a.results for t in b.results]
    common = [(seed, seed) for seed in a.results if seed in b.results]
    return common or [(next(iter(a.results)), next(iter(b.results)))]


def _pair_tests(a: Entry, b: Entry) -> list[PairTest]:
    tests = []
    for s, t in shared_seeds(a, b):
        correct_a_N = a.results[s].correct_N
        correct_b_N = aligned_correct(b.results[t], a.results[s].ids)
        found = mcnemar(correct_a_N, correct_b_N)
        tests.append(PairTest(
            a=a.method, b=b.method, seeds=(s, t), only_a=found.only_a, only_b=found.only_b, p_value=found.p_value,
            difference=found.difference, interval=paired_bootstrap_interval(correct_a_N, correct_b_N),
        ))  # fmt: skip
    return tests


def _seed_difference(a: Entry, b: Entry) -> SeedDifference | None:
    seeds = shared_seeds(a, b)
    if len(seeds) < 2:
        return None
    difference_S = [_top1(a.results[s]) - _top1(b.results[t]) for s, t in seeds]
    interval = seed_interval(difference_S)
    assert interval is not None, "two seeds or more always have an interval"
    ids = a.results[seeds[0][0]].ids
    correct_a_N = np.mean([aligned_correct(a.results[s], ids) for s, _ in seeds], axis=0)
    correct_b_N = np.mean([aligned_correct(b.results[t], ids) for _, t in seeds], axis=0)
    return SeedDifference(
        a=a.method,
        b=b.method,
        num_seeds=len(seeds),
        mean=float(np.mean(difference_S)),
        interval=interval,
        image_interval=paired_bootstrap_interval(correct_a_N, correct_b_N),
    )


def _top1(result: Result) -> float:
    return float(result.content["ensemble"]["top1"])


def _turned(test: PairTest) -> PairTest:
    return PairTest(a=test.b, b=test.a, seeds=test.seeds[::-1], only_a=test.only_b, only_b=test.only_a,
                    difference=-test.difference, interval=_negated(test.interval),
                    p_value=test.p_value, p_holm=test.p_holm)  # fmt: skip


def _negated(interval: Interval) -> Interval:
    return -interval[1], -interval[0]
