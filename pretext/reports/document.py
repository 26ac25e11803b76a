"""The report as a list of sections, before it becomes HTML or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pretext.reports.agreement import (
    Contest,
    agreement_figure,
    agreement_sentences,
    agreement_table,
    find_contests,
    published_agreement_table,
)
from pretext.reports.answer import Answer, answer, best_trained, warnings
from pretext.reports.compare import Evaluation, Study
from pretext.reports.context_tables import (
    cost_table,
    evaluations_table,
    methods_table,
    runs_table,
)
from pretext.reports.figures import (
    class_names,
    confusion_figure,
    few_labels_figure,
    mistakes_figure,
    results_figure,
    sigma_figure,
)
from pretext.reports.layers import grid_table, layer_panels, layers_figure, layers_table
from pretext.reports.loss_curves import loss_figure
from pretext.reports.loss_networks import Grid, find_grids, loss_network_tables, predictors_table
from pretext.reports.loss_networks_figure import loss_networks_figure
from pretext.reports.loss_tables import pretext_losses_table, whole_losses
from pretext.reports.mistakes import ImageFinder, Mistake, pick_mistakes
from pretext.reports.pictures import KINDS, run_pictures
from pretext.reports.published_tables import published_tables
from pretext.reports.score_tables import (
    MATRIX_METHODS,
    Matrix,
    best_table,
    few_labels_table,
    matrix,
    pairs_table,
    per_run_table,
    results_table,
    seeds_table,
)
from pretext.reports.style import Look, Picture, looks
from pretext.reports.tables import Table

HOW_TO_READ = (
    "A method is everything about a pretraining but its seed. Scores are top-1 on the test images, of the ensemble "
    "that averages the probabilities of the fold models.",
    "Three things vary, and they are kept apart. Test images: the interval behind a score is a 95 % bootstrap over "
    "them. Seeds: the sd over seeds, and Student-t intervals of differences between methods, seed by seed. Folds: "
    "their sd belongs to one encoder and is no error bar for a difference between methods.",
    "Paired tests are exact McNemar tests on the same test images, one for each seed, corrected by Holm over all tests "
    "of one evaluation; they hold where p is below 0.05 after it. They compare two trained networks. Whether two "
    "methods differ shows only over seeds: a lead is called established where its 95 % intervals over seeds and over "
    "test images both lie above 0. Those two are not corrected for their number.",
    "Only results of the same evaluation are compared: the same data, test images, folds, settings and layer. Where an "
    "encoder was probed at several layers, its output vector is compared here, and all of them under Layers.",
)


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Details:
    """A table that a screen shows when asked for; paper leaves it to the CSV file."""

    table: Table


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures beside each other."""

    pictures: list[Picture]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading below the section's."""

    text: str


Block = Text | Heading | Table | Details | Picture | Gallery | Matrix


@dataclass(slots=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """The whole report, and the tables that become files of their own."""

    title: str
    finished: str
    answer: Answer
    warnings: list[str]
    sections: list[Section]
    tables: list[Table]

    @property
    def pictures(self) -> list[Picture]:
        """Every picture, in order."""
        found: list[Picture] = []
        for block in (block for section in self.sections for block in section.blocks):
            found += [block] if isinstance(block, Picture) else block.pictures if isinstance(block, Gallery) else []
        return found


def build_document(study: Study, *, title: str) -> Document:
    """Write the report's sections from a study."""
    look_of = looks(study.methods)
    published, notes = published_tables(study)
    grids, contests = find_grids(study), find_contests(study)
    published.append(published_agreement_table(contests))
    tables = [methods_table(study), evaluations_table(study), results_table(study.evaluations),
              per_run_table(study.evaluations), pairs_table(study.evaluations), seeds_table(study.evaluations),
              few_labels_table(study.evaluations), layers_table(study), pretext_losses_table(study), cost_table(study),
              *loss_network_tables(grids), predictors_table(study.primary), agreement_table(contests), *published,
              runs_table(study)]  # fmt: skip
    by_name = {table.name: table for table in tables}
    sections = [
        Section("compared", "What was compared, and how",
                [by_name["methods"], by_name["evaluations"], *map(Text, HOW_TO_READ)]),
        Section("results", "Results", _results(study, look_of)),
        Section("layers", "Layers", _layers(study, look_of, by_name["layers"])),
        Section("losses", "Pretext losses", _losses(study, look_of, by_name["pretext-losses"])),
        *([Section("loss-networks", "Loss networks", _loss_networks(grids))] if grids else []),
        *([Section("agreement", "Agreement with people", _agreement(contests))] if contests else []),
        Section("sigma", "Sigma", _one(sigma_figure(study), "No two runs differ in nothing but sigma.")),
        Section("few-labels", "Few labels", _few_labels(study, look_of, by_name["few-labels"])),
        Section("confusion", "Confusion", _confusion(study)),
        Section("pictures", "What the networks make", _pictures(study)),
        Section("mistakes", "Mistakes", _mistakes(study)),
        Section("cost", "Cost", [by_name["cost"]]),
        Section("published", "Published figures beside ours", _published(published, notes)),
        Section("runs", "Runs", [by_name["runs"]]),
    ]  # fmt: skip
    finished = max((run.finished for run in study.runs), default="")
    return Document(title, finished, answer(study), warnings(study), sections, tables)


def _results(study: Study, look_of: Mapping[str, Look]) -> list[Block]:
    if not study.evaluations:
        return [Text("There is no finished result yet.")]
    blocks: list[Block] = [results_figure(study, look_of)]
    for evaluation in study.primary:
        table = results_table([evaluation], name_evaluation=False)
        table.title, table.note = "Scores", ""
        blocks += [Heading(evaluation.label), table, *_differences(evaluation)]
        predictors = predictors_table([evaluation], name_evaluation=False)
        blocks += [predictors] if predictors.rows else []
        per_run = per_run_table([evaluation], name_evaluation=False)
        per_run.title = f"{evaluation.label}: each run"
        blocks.append(Details(per_run))
    return blocks


def _differences(evaluation: Evaluation) -> list[Block]:
    if len(evaluation.entries) < 2:
        return [Text("There is nothing to compare it with.")]
    blocks: list[Block] = [best_table(evaluation)]
    grid = matrix(evaluation)
    if grid:
        blocks.append(grid)
    elif len(evaluation.entries) > MATRIX_METHODS:
        blocks.append(Text("All pairs are in tables/pairs.csv."))
    return blocks


def _few_labels(study: Study, look_of: Mapping[str, Look], table: Table) -> list[Block]:
    figure = few_labels_figure(study, look_of)
    return [figure, Details(table)] if figure else [Text("No few-label curve was run (--labels-per-class).")]


def _layers(study: Study, look_of: Mapping[str, Look], table: Table) -> list[Block]:
    figure = layers_figure(study, look_of)
    if figure is None:
        return [Text("No run was probed at several layers (extract-features --layer, probe --layer).")]
    labels = {method.identity.key: method.label for method in study.methods}
    return [figure, *(grid_table(panel, labels) for panel in layer_panels(study)), Details(table)]


def _losses(study: Study, look_of: Mapping[str, Look], table: Table) -> list[Block]:
    whole = whole_losses(table)
    blocks: list[Block] = [whole] if whole.rows else []
    blocks += [Details(table)] if len(table.rows) > len(whole.rows) else []
    return blocks + _one(loss_figure(study, look_of), "No run has a loss curve.")


def _loss_networks(grids: Sequence[Grid]) -> list[Block]:
    """All figures together, then each grid in numbers."""
    blocks: list[Block] = _one(loss_networks_figure(grids), "")
    for grid in grids:
        blocks.append(Heading(grid.label))
        if grid.missing:
            blocks.append(Text(f"Not every network was used at every layer; missing are {', '.join(grid.missing)}."))
        blocks += [table for table in loss_network_tables([grid], name_evaluation=False) if table.rows]
    return blocks


def _agreement(contests: Sequence[Contest]) -> list[Block]:
    blocks: list[Block] = _one(agreement_figure(contests), "")
    for contest in contests:
        table = agreement_table([contest], name_evaluation=False)
        table.title = "Metrics"
        blocks += [Heading(contest.title), Text(" ".join(agreement_sentences(contest))), table]
    return blocks


def _confusion(study: Study) -> list[Block]:
    found = [confusion_figure(evaluation, number) for number, evaluation in enumerate(study.primary, 1)]
    pictures = [picture for picture in found if picture]
    return [Gallery(pictures)] if pictures else [Text("No pretrained encoder has been scored.")]


def _pictures(study: Study) -> list[Block]:
    """A gallery for each kind of picture; those that can't be read are named."""
    blocks: list[Block] = []
    for kind, (heading, _) in KINDS.items():
        pictures, missing = run_pictures(study, kind)
        blocks += [Heading(heading), Gallery(pictures)] if pictures else []
        blocks += [Text(f"Their picture can't be read: {', '.join(missing)}.")] if missing else []
    return blocks or [Text("No run has a picture of what its network makes.")]


def _mistakes(study: Study) -> list[Block]:
    blocks: list[Block] = []
    finder = ImageFinder()
    runs = {run.name: run for run in study.runs}
    for number, evaluation in enumerate(study.primary, 1):
        entry = best_trained(evaluation)
        if entry is None:
            continue
        result = next(iter(entry.results.values()))
        most_M, least_M = pick_mistakes(result)
        who = f"{evaluation.label}, {entry.method.label} (run {result.run})"
        found = finder.find(runs[result.run], result, [*most_M.tolist(), *least_M.tolist()])
        if isinstance(found, str):
            blocks.append(Text(f"{who}: {found}"))
            continue
        if not found:
            blocks.append(Text(f"{who}: no mistakes."))
            continue
        num_classes = int(max(result.label_N.max(), result.predicted_N.max())) + 1
        names = class_names(result, num_classes)
        mistakes = [Mistake(image, names[result.label_N[index]], names[result.predicted_N[index]],
                            float(result.confidence_N[index]))
                    for image, index in zip(found, [*most_M, *least_M], strict=True)]  # fmt: skip
        blocks.append(mistakes_figure(f"mistakes-{number}", f"{who}: the most and the least confident mistakes. "
                                      "Above each: its class, the answer, and the answer's probability.",
                                      mistakes[: len(most_M)], mistakes[len(most_M) :]))  # fmt: skip
    return blocks or [Text("No pretrained encoder has been scored.")]


def _published(tables: list[Table], notes: list[str]) -> list[Block]:
    shown = [table for table in tables if table.rows]
    if not shown:
        return [Text("No published figure that we know of was measured in a way that these results can stand beside.")]
    text = ("A published row is followed by ours. The protocol is the same only if data, split, encoder, loss, folds, "
            "head and optimisation all agree; otherwise the numbers do not compare.")  # fmt: skip
    return [Text(text), *shown, *map(Text, notes)]


def _one(picture: Picture | None, otherwise: str) -> list[Block]:
    return [picture] if picture else [Text(otherwise)]
