"""The question answered in plain sentences, and what a reader must be warned of, both computed from the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pretext.reports.compare import Entry, Evaluation, Study
from pretext.reports.gather import SCRATCH_KIND, look
from pretext.reports.naming import FULL_KIND, PIXELS, PUBLISHED, RANDOM, SCRATCH
from pretext.reports.score_tables import is_significant
from pretext.reports.tables import PLUS_MINUS, p_value, percent, points
from pretext.reports.troubles import troubles

SMALL_TEST = 2000
LISTED = 4  # names, before a number says it better
CONTROL_NAMES = {RANDOM: "a random encoder", PIXELS: "raw pixels", SCRATCH: "training from scratch"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The headline, and under it what each evaluation says: its label and sentences."""

    headline: str
    parts: list[tuple[str, list[str]]]


def answer(study: Study) -> Answer:
    """Which method is best, by how much, and how sure that is.

    Of an encoder that was probed at several layers, its output vector speaks (see `Family`): choosing the best layer on
    the test images would flatter the encoders with many. What another layer scores is said beside it.
    """
    primary = study.primary
    parts = [(evaluation.label, _evaluation_sentences(evaluation) + _layer_sentences(study, evaluation))
             for evaluation in primary]  # fmt: skip
    if not any(best_trained(evaluation) for evaluation in primary):
        return Answer("No finished result of a pretrained encoder is here yet.", parts)
    contests: dict[str, list[Evaluation]] = {}
    for evaluation in primary:
        if len(_trained(evaluation)) > 1:
            contests.setdefault(evaluation.data, []).append(evaluation)
    if not contests:
        return Answer("No two pretrained encoders were measured alike: there is nothing to choose between yet.", parts)
    several = len({evaluation.data for evaluation in primary}) > 1
    sentences = [(f"On {data}, among" if several else "Among") + _headline(found) for data, found in contests.items()]
    beaten = sum(evaluation.entries[0].method.is_control for evaluation in primary if _trained(evaluation))
    if beaten:
        sentences.append(f"In {beaten} of {len(primary)} evaluations a control scores higher than they do.")
    return Answer(" ".join(sentences), parts)


def _layer_sentences(study: Study, primary: Evaluation) -> list[str]:
    """The best layer of any pretrained encoder, if it is another than the one that is compared."""
    others = [(entry, evaluation) for evaluation in study.layers_of(primary.family) if evaluation is not primary
              if (entry := best_trained(evaluation))]  # fmt: skip
    if not others:
        return []
    best, where = max(others, key=lambda pair: pair[0].top1)
    here = best_trained(primary)
    if here is not None and here.top1 >= best.top1:
        return [f"No other layer scores higher; the next is {where.layer} of {best.method.label}, "
                f"{percent(best.top1)} %."]  # fmt: skip
    return [f"The highest layer of all is {where.layer} of {best.method.label}, {percent(best.top1)} %: the best of "
            "many, chosen on the test images."]  # fmt: skip


def _headline(evaluations: Sequence[Evaluation]) -> str:
    """Who wins the evaluations of one data set, and how often the lead is established."""
    total = len(evaluations)
    leaders = [_trained(evaluation)[0] for evaluation in evaluations if not _is_tied(evaluation)]
    if not leaders:
        return " the pretrained encoders no single one scores best."
    winners = Counter(entry.method.label for entry in leaders)
    (label, wins), others, tied = winners.most_common(1)[0], len(winners) - 1, total - len(leaders)
    held = sum(is_established(evaluation, *_trained(evaluation)[:2]) for evaluation in evaluations)
    if total == 1:
        sure = "established" if held else "not established"
        return f" the pretrained encoders {label} scores best; its lead over the runner-up is {sure}."
    sure = f"established in {held} of {total}" if held else "established in none of them"
    if wins == total:
        return f" the pretrained encoders {label} scores best in all {total} evaluations; its lead is {sure}."
    where = [f"in {wins} of {total} evaluations"]
    where += [f"{'another one' if others == 1 else f'{others} others'} in {len(leaders) - wins}"] if others else []
    where += [f"a tie in {tied}"] if tied else []
    return f" the pretrained encoders {label} scores best {', '.join(where)}; the lead is {sure}."


def _is_tied(evaluation: Evaluation) -> bool:
    first, second = _trained(evaluation)[:2]
    return first.top1 == second.top1


def _trained(evaluation: Evaluation) -> list[Entry]:
    return [entry for entry in evaluation.entries if not entry.method.is_control]


def best_trained(evaluation: Evaluation) -> Entry | None:
    """The best entry that is no control."""
    return next((entry for entry in evaluation.entries if not entry.method.is_control), None)


def is_established(evaluation: Evaluation, a: Entry, b: Entry) -> bool:
    """Whether a's lead over b holds over two or more seeds and over the test images."""
    found = evaluation.seed_difference(a.method, b.method)
    return found is not None and found.is_established


def _evaluation_sentences(evaluation: Evaluation) -> list[str]:
    best = best_trained(evaluation)
    if best is None:
        return ["Only controls have been measured."]
    low, high = best.image_interval
    sentences = [f"Best: {best.method.label}, {percent(best.top1)} % top-1, {_seeds(len(best.results))} (95 % "
                 f"{percent(low)} to {percent(high)} over test images)."]  # fmt: skip
    others = [entry for entry in evaluation.entries if entry is not best]
    following = next((entry for entry in others if not entry.method.is_control), None)
    control = next((entry for entry in others if entry.method.is_control), None)
    if following:
        sentences.append(f"Next: {following.method.label}, {_lead(evaluation, best, following, 'behind')}")
    if control and control.top1 > best.top1:
        sentences.append(f"Better than every pretrained encoder: the control {control.method.label}, "
                         f"{_lead(evaluation, control, best, 'ahead')}")  # fmt: skip
    elif control:
        sentences.append(f"Best control: {control.method.label}, {_lead(evaluation, best, control, 'behind')}")
    return sentences


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _lead(evaluation: Evaluation, a: Entry, b: Entry, word: str) -> str:
    """By how much a is ahead of b, and how sure that is; ends the sentence."""
    tests = evaluation.tests_of(a.method, b.method)
    held = sum(is_significant(test) for test in tests)
    over_seeds = evaluation.seed_difference(a.method, b.method)
    if over_seeds is None:
        p = p_value(tests[0].p_holm)
        test = f"McNemar with Holm's correction, p {p if p.startswith('<') else '= ' + p}"
        size = f"{_points(tests[0].difference)} points {word}, of one seed"
        if held:
            return f"{size}: significant on these test images ({test}), but method or luck of the seed is open."
        return f"{size}: not significant on these test images ({test})."
    verdict = "established" if over_seeds.is_established else "not established"
    return (f"{_points(over_seeds.mean)} points {word}, {verdict}: 95 % {_range(over_seeds.interval)} over "
            f"{over_seeds.num_seeds} seeds, {_range(over_seeds.image_interval)} over test images; McNemar holds for "
            f"{held} of {len(tests)}.")  # fmt: skip


def _points(value: float) -> str:
    return points(value).lstrip("+")


def _range(interval: tuple[float, float]) -> str:
    return f"{_points(interval[0])} to {_points(interval[1])}"


def warnings(study: Study) -> list[str]:
    """What a reader must know before believing the numbers."""
    lines = []
    if study.issues:
        runs = sorted({issue.run for issue in study.issues})
        who = ", ".join(runs) if len(runs) <= LISTED else f"{len(runs)} of them"
        lines.append(f"Not everything of these runs could be used, see Runs: {who}.")
    if not study.evaluations and not any(run.score for run in study.runs):
        lines.append("There is no finished result to compare: run pretext probe or pretext fine-tune.")
    data = list(dict.fromkeys(evaluation.data for evaluation in study.evaluations))
    fingerprints = {look(result.content, "data", "fingerprint")
                    for evaluation in study.evaluations for result in evaluation.results}  # fmt: skip
    if len(fingerprints) > 1:
        lines.append(f"The results are of {len(fingerprints)} different data sets ({', '.join(data)}). Scores on "
                     "different data are never compared: each has evaluations of its own.")  # fmt: skip
    lines += troubles(study) + _missing_controls(study) + _seen_labels(study)
    single = dict.fromkeys(entry.method.label for evaluation in study.evaluations for entry in evaluation.entries
                           if len(entry.results) == 1 and entry.method.identity.sort not in (PIXELS, PUBLISHED))  # fmt: skip
    if single:
        who = "; ".join(single) if len(single) <= LISTED else f"{len(single)} methods"
        lines.append(f"One seed only: {who}. Such a score cannot be told from the luck of its seed.")
    two = [entry.method.label for evaluation in study.evaluations for entry in evaluation.entries
           if len(entry.results) == 2]  # fmt: skip
    if two:
        lines.append("With two seeds an interval over seeds is very wide (Student's t has one degree of freedom): "
                     "three or more tell much more.")  # fmt: skip
    small = {evaluation.num_test for evaluation in study.evaluations if evaluation.num_test < SMALL_TEST}
    if small:
        num_test = min(small)
        half = percent(1.96 * 0.5 / num_test**0.5)
        lines.append(f"The smallest test set has {num_test:,} images: one score is only sure to about "
                     f"{PLUS_MINUS}{half} points.")  # fmt: skip
    return lines


def _seen_labels(study: Study) -> list[str]:
    """Which encoders learned from labels after all, through the network of their loss."""
    found: dict[str, dict[str, None]] = {}
    for evaluation in study.evaluations:
        for entry in evaluation.entries:
            saw = entry.method.identity.options.get("loss_network_saw")
            if entry.method.identity.sort == PUBLISHED and "supervised" in entry.method.identity.base:
                saw = "ImageNet-1K labels"
            if isinstance(saw, str) and "labels" in saw:
                found.setdefault(saw, {})[entry.method.label] = None
    of_imagenet = any(evaluation.data.startswith("stl10") for evaluation in study.evaluations)
    lines = []
    for saw, labels in found.items():
        who = "; ".join(labels) if len(labels) <= LISTED else f"{len(labels)} methods"
        lines.append(f"Behind these stands a network that saw {saw}: {who}. Such an encoder is not pretrained without labels; "
                     "its control has a network of random weights."
                     + (" STL-10 is a part of ImageNet, so these are labels of its own images."
                        if of_imagenet and "ImageNet" in saw else ""))  # fmt: skip
    return lines


def _missing_controls(study: Study) -> list[str]:
    """Which controls an evaluation lacks: no score means much without them."""
    wanted = {FULL_KIND: (SCRATCH,), SCRATCH_KIND: ()}
    missing: dict[str, list[str]] = {}
    for evaluation in study.evaluations:
        # Raw pixels have no layers: they stand beside one of them.
        usual = (RANDOM, PIXELS) if evaluation.kind.startswith("probe-") and evaluation.is_primary else (RANDOM,)
        there = {entry.method.identity.sort for entry in evaluation.entries}
        if there == {PUBLISHED}:  # a layer of a network of others, which is a control itself
            continue
        for sort in wanted.get(evaluation.kind, usual):
            if sort not in there:
                missing.setdefault(sort, []).append(evaluation.label)
    return [f"Controls missing: {CONTROL_NAMES[sort]} in "
            f"{', '.join(labels) if len(labels) <= LISTED else f'{len(labels)} evaluations'}."
            for sort, labels in missing.items()]  # fmt: skip
