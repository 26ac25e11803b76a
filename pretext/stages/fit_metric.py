"""`fit-metric`: non-negative weights of a network's channels, fitted to what people said of images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretext.artifacts.atomic import read_json, write_json
from pretext.artifacts.layout import RunLayout
from pretext.artifacts.manifest import Record
from pretext.datasets.download import Progress as Download
from pretext.datasets.download import show_download
from pretext.datasets.judgments import Judgments, Ratings, Triplets
from pretext.errors import ConfigError, DataError
from pretext.perceptual.distances import lpips_terms
from pretext.perceptual.fitted import FILE, FIT_STEM, Fitted, write_fitted
from pretext.perceptual.fitting import Fit, Opinions, Preferences, choose_strength, fit_weights, fold_groups
from pretext.perceptual.networks import FeatureNetwork, build_network, check_given, default_taps
from pretext.perceptual.pairs import compare_pairs, index_pairs
from pretext.perceptual.scoring import (
    ceilings,
    made_from,
    network_words,
    open_judgments,
    request_of,
    score_values,
    told_as_options,
)
from pretext.perceptual.weights import unless_absent
from pretext.progress import Progress, Silent, Task
from pretext.stage_configs import FitMetricConfig
from pretext.training.device import resolve_compute

SCHEMA = 1
DEFAULTS = {"network": "vgg16", "network_weights": "imagenet", "normalize": "imagenet"}
RATING_NOTE = (
    "arXiv:1808.00447 fitted weights of VGG-16 to ratings without publishing the formula; this one is this toolkit's."
)


def run(config: FitMetricConfig, *, explicit: Collection[str] = (),
        progress: Progress | None = None) -> dict[str, Any]:  # fmt: skip
    """Fit a metric to human judgments; see `FitMetricConfig` for the options.

    `metric.safetensors` holds the weights; `score-metric --channel-weights FOLDER` reads them. `fit.json` holds:

        schema      1
        kind        "fit-metric"
        judgments   {name, layout, kind, split, num, num_images, fingerprint, image_size}
        network     facts of the network
        inner       {k, strengths, heldout_loss}: of each strength, on references that the fit had not seen; the loss
                    is null where there was one strength only
        chosen      the strength
        fit         {loss, link}: on the fitted judgments
        weights     {num, num_nonzero, layers: list of {layer, num, num_nonzero, share}}: share of the mean distance
        scores      {fitted, unit}: {name: value}; both on the judgments of the fit, so `fitted` is too high
        human, saw, seed, parents, notes   as in `score.json`

    Args:
        config: The options.
        explicit: Which of them the user gave; one that a run as network does not read is then an error.
        progress: Where progress goes.

    Returns:
        The file of weights, status, and facts for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the judgments, the network or the disk.
    """
    progress = progress or Silent()
    options = _options(config)
    check_given(options["network"], explicit)
    opened = open_judgments(config, config.split)
    judgments = opened.judgments
    _check(config, judgments)
    words = [opened.facts["name"], "fit", *network_words(options, config.seed)]
    folder = config.out or config.runs_dir / "-".join(words + (["+".join(config.layer)] if config.layer else []))
    layout = RunLayout(folder)
    output, told = folder / FILE, layout.result("fit")
    request = request_of(config, options)
    pair_P2, rows = index_pairs(judgments)
    if config.dry_run:
        return {"output": str(output), "status": "dry run", "reads": str(config.judgments), "options": options,
                "images": opened.facts["num_images"], "pairs": len(pair_P2)}  # fmt: skip
    compute = resolve_compute(config.device)

    def build(offline: bool) -> FeatureNetwork:
        with told_as_options(), show_download(progress) as tell:
            return _network(config, options, tell, offline=offline)

    found = unless_absent(build)
    record = Record(
        layout.record(FIT_STEM), FIT_STEM, request, [opened.parent, *made_from(options, found.facts if found else {})]
    )
    if record.is_done(overwrite=config.overwrite):
        return _outcome(output, told, "already done")

    network = (found or build(config.offline)).to(compute.device)
    record.parents = parents = [opened.parent, *made_from(options, network.facts)]

    def terms(pairs: np.ndarray, task: Task) -> np.ndarray:
        return compare_pairs(judgments.image_paths, pairs, embed=network,
                             compare=lambda x, y: torch.cat(lpips_terms(x, y), dim=1), image_size=config.image_size,
                             batch_size=config.batch_size, device=compute.device, task=task)  # fmt: skip

    with told_as_options():
        terms(pair_P2[:1], Silent())  # what the network does not take is found before anything is written
    record.begin(request | {"network_facts": network.facts}, seed=config.seed, device=compute.name)
    with progress.task(f"comparing {opened.facts['name']}", len(pair_P2), "pairs") as task:
        term_PK = terms(pair_P2, task)
    data = _data(judgments, term_PK, rows)
    with progress.task("fitting", config.k * len(config.strengths), "fits") as task:
        choice = choose_strength(data, judgments.group_N, config.strengths, k=config.k, seed=config.seed,
                                 advance=task.advance)  # fmt: skip
        fit = fit_weights(data, strength=choice.strength)
    if not fit.weight_K.any():
        record.discard()
        raise DataError(f"every weight became 0: {config.judgments} says nothing of these features, or the penalty is too "
                        "strong", hint="smaller --strengths, or another --layer")  # fmt: skip
    content: dict[str, Any] = {
        "schema": SCHEMA, "kind": "fit-metric", "judgments": opened.facts, "network": network.facts,
        "inner": {"k": config.k, "strengths": list(config.strengths),
                  "heldout_loss": choice.loss_S.tolist() if len(config.strengths) > 1 else None},
        "chosen": choice.strength, "fit": {"loss": fit.loss, "link": list(fit.link) if fit.link else None},
        "weights": _described(network, fit, term_PK), "scores": _scores(judgments, term_PK, rows, fit),
        "human": ceilings(judgments), "saw": network.facts["saw"], "seed": config.seed,
        "parents": [parent.as_json() for parent in parents],
        "notes": [RATING_NOTE] if isinstance(judgments, Ratings) else [],
    }  # fmt: skip
    weights = [torch.from_numpy(weight_C).float() for weight_C in _split(network, fit.weight_K)]
    write_fitted(output, Fitted(network.facts, network.layers, weights),
                 {"judgments": opened.facts, "strength": choice.strength})  # fmt: skip
    write_json(told, content)
    record.finish([output, told], summary={"chosen": choice.strength, **content["weights"]})
    return _outcome(output, told, "done")


def _options(config: FitMetricConfig) -> dict[str, Any]:
    options = {name: getattr(config, name) or default for name, default in DEFAULTS.items()}
    return options | {"layer": config.layer}


def _check(config: FitMetricConfig, judgments: Judgments) -> None:
    """Refuse what no fit can be made of, before images are compared.

    Raises:
        ConfigError: If the judgments are of another kind, or have too few references for the folds.
        DataError: If all ratings that a fit would see are equal.
    """
    if not isinstance(judgments, Triplets | Ratings):
        raise ConfigError(f"{config.judgments} says which images look the same; weights are fitted to preferences or "
                          "ratings", hint="pretext score-metric scores a metric on it")  # fmt: skip
    num_groups = len(np.unique(judgments.group_N))
    if len(config.strengths) > 1 and num_groups < config.k:
        raise ConfigError(f"--k {config.k} needs as many reference images; split {config.split} has {num_groups}",
                          hint="a smaller --k, or one value of --strengths")  # fmt: skip
    if not isinstance(judgments, Ratings):
        return
    if np.ptp(judgments.score_N) == 0:
        raise DataError(f"all ratings of {config.judgments} in the split {config.split} are equal, so that nothing can be "
                        "fitted to them")  # fmt: skip
    if len(config.strengths) > 1:
        fold_N = fold_groups(judgments.group_N, config.k, config.seed)
        if any(np.ptp(judgments.score_N[fold_N != fold]) == 0 for fold in range(config.k)):
            raise DataError(f"all ratings of {config.judgments} outside of one of the {config.k} inner folds are equal",
                            hint="one value of --strengths, which needs no folds")  # fmt: skip


def _network(config: FitMetricConfig, options: dict[str, Any], progress: Download, *, offline: bool) -> FeatureNetwork:
    return build_network(options["network"], layers=config.layer or default_taps(options["network"]),
                         weights=options["network_weights"], weights_dir=config.weights_dir, offline=offline,
                         normalize=options["normalize"], seed=config.seed, progress=progress)  # fmt: skip


def _data(judgments: Judgments, term_PK: np.ndarray, rows: list[np.ndarray]) -> Preferences | Opinions:
    if isinstance(judgments, Triplets):
        return Preferences(term_PK, rows[0], rows[1], judgments.votes_a_N, judgments.votes_b_N)
    assert isinstance(judgments, Ratings)
    return Opinions(term_PK, rows[0], judgments.score_N)


def _split(network: FeatureNetwork, value_K: np.ndarray) -> list[np.ndarray]:
    """One vector a layer of what stands in a row."""
    return np.split(value_K, np.cumsum(network.channels)[:-1])


def _described(network: FeatureNetwork, fit: Fit, term_PK: np.ndarray) -> dict[str, Any]:
    mean_K = fit.weight_K * term_PK.mean(axis=0, dtype=np.float64)
    layers = [
        {"layer": layer, "num": len(weight_C), "num_nonzero": int((weight_C > 0).sum()),
         "share": float(mean_C.sum() / mean_K.sum())}
        for layer, weight_C, mean_C in zip(network.layers, _split(network, fit.weight_K), _split(network, mean_K))
    ]  # fmt: skip
    return {"num": len(fit.weight_K), "num_nonzero": int((fit.weight_K > 0).sum()), "layers": layers}


def _scores(judgments: Judgments, term_PK: np.ndarray, rows: list[np.ndarray], fit: Fit) -> dict[str, dict[str, float]]:
    distances = {"fitted": term_PK @ fit.weight_K, "unit": term_PK.sum(axis=1, dtype=np.float64)}
    return {name: score_values(judgments, [distance_P[row_N] for row_N in rows])
            for name, distance_P in distances.items()}  # fmt: skip


def _outcome(output: Path, told: Path, status: str) -> dict[str, Any]:
    content = read_json(told)
    facts = {f"{name} ({weights} weights)": value
             for weights, scores in content["scores"].items() for name, value in scores.items()}  # fmt: skip
    return {"output": str(output), "status": status, "strength": content["chosen"],
            "weights": content["weights"]["num"], "above 0": content["weights"]["num_nonzero"],
            "judgments": content["judgments"]["num"], **facts, "human": content["human"],
            "the network saw": content["saw"]}  # fmt: skip
