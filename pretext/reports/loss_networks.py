"""Encoders pretrained by comparing images in a network's features: which network, and which of its layers.

Letters beside the package's alphabet: A networks, B layers, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pretext.published import imagenet
from pretext.reports.compare import Entry, Evaluation, Study, aligned_correct, shared_seeds
from pretext.reports.gather import look
from pretext.reports.naming import PIXELS, RANDOM, RANDOM_WEIGHTS, label_all, natural, short
from pretext.reports.score_tables import EVALUATION
from pretext.reports.tables import Column, Estimate, Table
from pretext.statistics.bootstrap import bootstrap_interval, seed_interval
from pretext.statistics.variance import rank_correlation, variance_shares

LAYERS = ("1", "2", "3", "4")
# What a cell's place in the grid says, and what follows from it.
PLACE = {"loss_network", "loss_network_weights", "layer", "loss_network_fingerprint", "loss_network_saw",
         "channel_weights_fingerprint"}  # fmt: skip
WITH_NORM, WITHOUT_NORM = "vgg16_bn", "vgg16"
IMAGENET = "imagenet"
Cells = dict[tuple[str, str], Entry]


@dataclass(slots=True)
class Grid:
    """Encoders that differ in nothing but the loss network and its layer, in one evaluation.

    Attributes:
        cells: By network and layer, of the networks that were trained on ImageNet.
        untrained: The same of networks of random weights.
        others: What else was trained alike with other losses, and the controls; best first.
    """

    label: str
    evaluation: Evaluation
    cells: Cells = field(default_factory=dict)
    untrained: Cells = field(default_factory=dict)
    others: list[Entry] = field(default_factory=list)

    @property
    def networks(self) -> list[str]:
        """Best mean rank first; those of the same one by name."""
        ranks = _ranks(self.cells)
        means = {name: float(np.mean([ranks[cell] for cell in ranks if cell[0] == name])) for name, _ in ranks}
        return sorted(means, key=lambda name: (means[name], natural(name)))

    @property
    def layers(self) -> list[str]:
        return sorted({layer for _, layer in self.cells | self.untrained})

    @property
    def missing(self) -> list[str]:
        """The cells that an even grid would have."""
        return [f"{name} {layer}" for name in self.networks for layer in self.layers if (name, layer) not in self.cells]

    @property
    def complete(self) -> list[str]:
        """The networks that were used at every layer."""
        return [name for name in self.networks if all((name, layer) in self.cells for layer in self.layers)]


def find_grids(study: Study) -> list[Grid]:
    """A grid for each evaluation and all settings that are not the network or the layer; two cells make one."""
    found = []
    for evaluation in study.primary:
        own: dict[Any, Grid] = {}
        settings: list[dict[str, Any]] = []
        for entry in evaluation.entries:
            options = entry.method.identity.options
            cell = str(options.get("loss_network")), short(options.get("layer")).replace("|", ",")
            weights = options.get("loss_network_weights")
            if "loss_network" not in options or cell[1] not in LAYERS or weights not in (IMAGENET, RANDOM_WEIGHTS):
                continue
            setting = {name: value for name, value in options.items() if name.split(".")[0] not in PLACE}
            grid = own.setdefault(tuple(sorted(map(repr, setting.items()))), Grid(evaluation.label, evaluation))
            settings += [setting] if not grid.cells | grid.untrained else []
            (grid.cells if weights == IMAGENET else grid.untrained)[cell] = entry
        labels = label_all([evaluation.label] * len(own), settings) if len(own) > 1 else [evaluation.label]
        for grid, label in zip(own.values(), labels, strict=False):
            grid.label = label
            grid.others = _others(grid)
            found += [grid] if len(grid.cells) > 1 else []
    return found


def _others(grid: Grid) -> list[Entry]:
    """Controls of the same encoder, raw pixels, and what was trained alike but for its objective."""
    inside = [*grid.cells.values(), *grid.untrained.values()]
    encoder, training = _alike(inside[0])
    kept = []
    for entry in grid.evaluation.entries:
        sort = entry.method.identity.sort
        own_encoder, own_training = _alike(entry)
        same = sort == PIXELS or (own_encoder == encoder and (sort == RANDOM or own_training == training))
        if same and not any(entry is cell for cell in inside):
            kept.append(entry)
    return kept


def _alike(entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of an entry's encoder, and those of its training without its objective's."""
    manifest = entry.method.runs[0].manifest if entry.method.runs else None
    objective = look(manifest, "config", "objective", default={})
    options = entry.method.identity.options
    encoder = {name: value for name, value in options.items() if name.startswith("encoder.")}
    return encoder, {name: value for name, value in options.items()
                     if name not in encoder and name.split(".")[0] not in objective}  # fmt: skip


def _ranks(cells: Cells) -> dict[tuple[str, str], float]:
    """Every cell's place among all, 1 the best; equal scores share the mean of their places."""
    ranks = stats.rankdata([-entry.top1 for entry in cells.values()])
    return {cell: float(rank) for cell, rank in zip(cells, ranks, strict=True)}


def _mean(values: Iterator[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def loss_network_tables(grids: Sequence[Grid], *, name_evaluation: bool = True) -> list[Table]:
    """Scores by network and layer, ranks of layers, variance, batch norm, ImageNet accuracy, and the other losses."""
    layers = sorted({layer for grid in grids for layer in grid.layers})
    estimate, points = "estimate", "points-estimate"
    cells = [Column(f"layer_{layer}", f"Layer {layer}, %", "percent") for layer in layers]
    specs: list[tuple[str, str, list[Column], Callable[[Grid], Iterator[tuple[Any, ...]]], str]] = [
        ("loss-networks", "Scores by loss network and layer, top-1, %",
         [Column("network", "Loss network"), Column("weights", "Its weights"),
          Column("imagenet", "Its own top-1 on ImageNet, %", "percent"), *cells, Column("mean", "Mean, %", "percent"),
          Column("rank", "Mean rank", "number")], lambda grid: _score_rows(grid, layers),
         "Means over seeds. A cell's rank is its place among all cells of trained networks, 1 the best."),
        ("loss-network-layers", "Layers of the loss networks",
         [Column("layer", "Layer"), Column("networks", "Networks", "count"), Column("mean", "Mean top-1, %", "percent"),
          Column("rank", "Mean rank", "number"), Column("best", "Best layer of", "count")], _layer_rows,
         "The last column counts the networks of which it is the best layer."),
        ("loss-network-variance", "What the scores owe to the network and to the layer",
         [Column("part", "Part"), Column("levels", "Levels", "count"),
          Column("eta", "Variance explained, % (95 %)", estimate),
          Column("omega", "Less what chance explains, % (95 %)", estimate)], _variance_rows,
         "Two-way analysis of variance of the cells' means, of the networks that were used at every layer: eta squared, "
         "and omega squared, which takes off what as many levels would explain by chance. The bootstrap draws networks, "
         "and in each cell seeds; the rest is interaction and noise."),
        ("loss-network-batch-norm", f"Batch norm: {WITH_NORM} against {WITHOUT_NORM}",
         [Column("layer", "Layer"), Column("without", f"{WITHOUT_NORM}, %", "percent"),
          Column("with", f"{WITH_NORM}, %", "percent"),
          Column("difference", "Difference, points (95 % over test images)", points),
          Column("over_layers", "95 % over layers", points)], _norm_rows, ""),
        ("loss-network-imagenet", "Rank correlation with ImageNet accuracy",
         [Column("what", "Score"), Column("networks", "Networks", "count"),
          Column("rho", "Spearman's rho (95 % over networks)", "signed-estimate")], _correlation_rows,
         f"Accuracies: {imagenet.SOURCE}."),
        ("loss-network-others", "Other losses and controls beside them",
         [Column("method", "Method"), Column("top1", "Top-1, % (95 % over test images)", estimate),
          Column("ahead", "Cells ahead of it", "count"), Column("cells", "Of", "count")], _other_rows, ""),
    ]  # fmt: skip
    tables = []
    for name, title, columns, rows_of, note in specs:
        rows = [(grid.label, *row) if name_evaluation else row for grid in grids for row in rows_of(grid)]
        tables.append(Table(name, title, [EVALUATION, *columns] if name_evaluation else columns, rows, note).compact())
    return tables


def _score_rows(grid: Grid, layers: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    ranks = _ranks(grid.cells)
    untrained = sorted({name for name, _ in grid.untrained}, key=natural)
    for names, cells, weights in ((grid.networks, grid.cells, "ImageNet"), (untrained, grid.untrained, RANDOM_WEIGHTS)):
        for name in names:
            scores = [cells[name, layer].top1 if (name, layer) in cells else None for layer in layers]
            own = (rank for (network, _), rank in ranks.items() if network == name)
            yield (name, weights, imagenet.TOP1.get(name) if cells is grid.cells else None, *scores,
                   _mean(score for score in scores if score is not None),
                   _mean(own) if cells is grid.cells else None)  # fmt: skip


def _layer_rows(grid: Grid) -> Iterator[tuple[Any, ...]]:
    ranks = _ranks(grid.cells)
    best = [max(own, key=lambda layer: grid.cells[name, layer].top1) for name in grid.networks
            if (own := [layer for layer in grid.layers if (name, layer) in grid.cells])]  # fmt: skip
    for layer in grid.layers:
        used = [cell for cell in grid.cells if cell[1] == layer]
        if used:
            yield (layer, len(used), _mean(grid.cells[cell].top1 for cell in used), _mean(ranks[cell] for cell in used),
                   best.count(layer))  # fmt: skip


def _scores(grid: Grid) -> NDArray[np.float64] | None:
    """Scores (A, B, S) of the complete networks: of the seeds that all cells have, else the cells' means."""
    names = grid.complete
    if len(names) < 2 or len(grid.layers) < 2:
        return None
    cells = [[grid.cells[name, layer] for layer in grid.layers] for name in names]
    shared = set.intersection(*(set(entry.results) for row in cells for entry in row))
    if not shared:
        return np.array([[[entry.top1] for entry in row] for row in cells])
    seeds = sorted(shared, key=lambda seed: seed or 0)
    return np.array(
        [[[entry.results[seed].content["ensemble"]["top1"] for seed in seeds] for entry in row] for row in cells]
    )


def _variance_rows(grid: Grid) -> Iterator[tuple[Any, ...]]:
    value_ABS = _scores(grid)
    if value_ABS is None:
        return
    num_networks, num_layers, _ = value_ABS.shape
    shares = variance_shares(value_ABS)
    for name, words, levels in (
        ("rows", "network", num_networks),
        ("columns", "layer", num_layers),
        ("rest", "rest", None),
    ):
        share = shares[name]
        omega = None if share.omega is None else Estimate(share.omega, share.omega_interval)
        yield words, levels, Estimate(share.eta, share.interval), omega


def _norm_rows(grid: Grid) -> Iterator[tuple[Any, ...]]:
    pairs = [(layer, grid.cells[WITH_NORM, layer], grid.cells[WITHOUT_NORM, layer]) for layer in grid.layers
             if (WITH_NORM, layer) in grid.cells and (WITHOUT_NORM, layer) in grid.cells]  # fmt: skip
    if not pairs:
        return
    differences = [image_differences(a, b) for _, a, b in pairs]
    for (layer, a, b), difference_N in zip(pairs, differences, strict=True):
        yield layer, b.top1, a.top1, _estimate(difference_N), None
    if len(pairs) > 1:
        ids = {tuple(sorted(next(iter(a.results.values())).ids)) for _, a, _ in pairs}
        assert len(ids) == 1, "one evaluation has one set of test images"
        mean_N = np.mean(differences, axis=0)
        over_layers = seed_interval([float(difference_N.mean()) for difference_N in differences])
        yield ("mean", _mean(b.top1 for *_, b in pairs), _mean(a.top1 for _, a, _ in pairs), _estimate(mean_N),
               Estimate(float(mean_N.mean()), over_layers))  # fmt: skip


def image_differences(a: Entry, b: Entry) -> NDArray[np.float64]:
    """By how much more often a is right than b on each test image, mean over seeds; images in order of their ids."""
    seeds = shared_seeds(a, b)
    ids = sorted(next(iter(a.results.values())).ids)
    found = [aligned_correct(a.results[s], ids).astype(float) - aligned_correct(b.results[t], ids) for s, t in seeds]
    mean_N: NDArray[np.float64] = np.mean(found, axis=0)
    return mean_N


def _estimate(difference_N: NDArray[np.float64]) -> Estimate:
    return Estimate(float(difference_N.mean()), bootstrap_interval(difference_N))


def _correlation_rows(grid: Grid) -> Iterator[tuple[Any, ...]]:
    full = [name for name in grid.complete if name in imagenet.TOP1]
    of = {name: [grid.cells[name, layer].top1 for layer in grid.layers] for name in full}
    scores = {"mean of its layers": {name: float(np.mean(own)) for name, own in of.items()},
              "best of its layers": {name: max(own) for name, own in of.items()}}  # fmt: skip
    for layer in grid.layers:
        scores[f"layer {layer}"] = {name: entry.top1 for (name, own), entry in grid.cells.items()
                                    if own == layer and name in imagenet.TOP1}  # fmt: skip
    for words, by_name in scores.items():
        found = rank_correlation([imagenet.TOP1[name] for name in by_name], list(by_name.values()))
        if found:
            yield words, len(by_name), Estimate(*found)


def _other_rows(grid: Grid) -> Iterator[tuple[Any, ...]]:
    for entry in grid.others:
        ahead = sum(cell.top1 > entry.top1 for cell in grid.cells.values())
        yield entry.method.label, Estimate(entry.top1, entry.image_interval), ahead, len(grid.cells)


def predictors_table(evaluations: Sequence[Evaluation], *, name_evaluation: bool = True) -> Table:
    """Of probes that fit several predictors: the accuracy of each, mean over seeds, and the mean of all."""
    title = "Accuracy of each predictor, %"
    found = [(evaluation, entry, _predictors(entry)) for evaluation in evaluations for entry in evaluation.entries]
    names = list(dict.fromkeys(name for *_, scores in found for name in scores))
    columns = [EVALUATION, Column("method", "Method"), *(Column(f"hidden_{name}", name, "percent") for name in names),
               Column("mean", "mean", "percent")]  # fmt: skip
    rows = [(evaluation.label, entry.method.label, *(scores.get(name) for name in names), float(np.mean([*scores.values()])))
            for evaluation, entry, scores in found if scores]  # fmt: skip
    note = "Named by the widths of their hidden layers. Means over folds and seeds; no predictor is chosen here."
    if not name_evaluation:
        columns, rows = columns[1:], [row[1:] for row in rows]
    return Table("predictors", title, columns, rows, note)


def _predictors(entry: Entry) -> dict[str, float]:
    """Mean accuracy over seeds by the widths of the hidden layers."""
    scores: dict[str, list[float]] = {}
    for result in entry.results.values():
        for row in result.content.get("predictors") or []:
            scores.setdefault("-".join(map(str, row["hidden"])) or "linear", []).append(float(row["top1"]))
    return {name: float(np.mean(values)) for name, values in scores.items()}
