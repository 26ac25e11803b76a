"""What the two stages about people's judgments share: the judgments with their fingerprint, names, and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path, file_sha256
from pretext.artifacts.layout import RunLayout, find_run
from pretext.artifacts.manifest import UNREAD, Parent
from pretext.catalog import NETWORKS
from pretext.config import identity, plain
from pretext.datasets.judgment_layouts import find_layout
from pretext.datasets.judgments import Judgments, Ratings, Triplets, fingerprint, image_ids, read_judgments
from pretext.errors import ConfigError
from pretext.perceptual.fitted import FILE
from pretext.perceptual.networks import is_run
from pretext.stage_configs import JudgmentOptions
from pretext.statistics.agreement import (
    agreement,
    cluster_interval,
    cluster_mean_interval,
    human_ceiling,
    jnd_map,
    krcc,
    majority_ceiling,
    plcc,
    srcc,
)

WEIGHT_WORDS = ("unit", "published")  # of --channel-weights; all else is a run of fit-metric
RESAMPLES = 1000  # of scores that are not means


@dataclass(frozen=True, slots=True)
class Opened:
    """Judgments as a stage needs them.

    Args:
        judgments: What people said.
        facts: The section of a result that describes them.
        parent: The same for a manifest.
    """

    judgments: Judgments
    facts: dict[str, Any]
    parent: Parent


def open_judgments(config: JudgmentOptions, split: str) -> Opened:
    """Read a folder of judgments; every image is read once for the fingerprint, none is decoded.

    Raises:
        DataError: If the folder, the split, a row or an image file is not as it should be.
    """
    judgments = read_judgments(config.judgments, layout=config.layout, split=split)
    layout = find_layout(config.judgments) if config.layout == "auto" else config.layout
    total = fingerprint(judgments)
    facts = {"name": config.judgments.resolve().name, "layout": layout, "kind": judgments.kind, "split": split,
             "num": len(judgments), "num_images": len(judgments.image_paths), "fingerprint": total,
             "image_size": config.image_size}  # fmt: skip
    return Opened(judgments, facts, Parent("judgments", str(config.judgments), total))


def made_from(options: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Parent]:
    """What a metric of these options is made from: weights or a run's checkpoint, and the weights of a fit.

    Without `facts` of the metric its network is one that is not here to be read.
    """
    parents = []
    if "network" in options:
        network = options["network"]
        kind, path = (
            ("checkpoint", str(RunLayout(Path(network)).checkpoint)) if is_run(network) else ("weights", network)
        )
        parents.append(Parent(kind, path, facts.get("fingerprint", UNREAD)))
    if (weights := options.get("channel_weights", "unit")) not in WEIGHT_WORDS:
        file = Path(weights) / FILE if Path(weights).is_dir() else Path(weights)
        parents.append(Parent("fitted metric", str(file), file_sha256(file)))
    return parents


def request_of(config: JudgmentOptions, options: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for; folders by their names only, as their content is among the parents."""
    request = identity(config) | {name: plain(value) for name, value in options.items()}
    del request["judgments"]
    for name in ("network", "channel_weights"):
        if request.get(name) is not None:
            request[name] = _folder_name(request[name])
    return request


def metric_word(name: str, options: Mapping[str, Any], seed: int) -> str:
    """A metric in one word, such as `pse4` or `lpips-squeezenet1_1-unit`; it differs where settings do."""
    if "network" not in options:
        return name + (f"{options['sigma']:g}" if "sigma" in options else "")
    layers = ["+".join(options["layer"])] if options["layer"] else []
    words = [name, *network_words(options, seed)]
    if "channel_weights" in options:
        return "-".join([*words, _folder_name(options["channel_weights"]), *layers])
    weighted = ["by", *(f"{weight:g}" for weight in options["layer_weights"])] if options["layer_weights"] else []
    return "-".join([*words, *layers, *weighted])


def network_words(options: Mapping[str, Any], seed: int) -> list[str]:
    """A network, and what of its weights and its input is not the default.

    Raises:
        UnknownVariantError: If there is no such network, and no such folder.
        ArtifactError: If the folder is no run.
    """
    network = options["network"]
    words = [find_run(Path(network)).folder.resolve().name if is_run(network) else NETWORKS[network].name]
    words += [f"random-s{seed}"] if options["network_weights"] == "random" else []
    return words + (["unnormalized"] if options["normalize"] == "none" and not is_run(options["network"]) else [])


def _folder_name(text: str) -> str:
    path = Path(text)
    return path.resolve().name if path.is_dir() else path.parent.resolve().name if path.name == FILE else text


@contextmanager
def told_as_options() -> Iterator[None]:
    """What a network or metric refuses was asked for by options, so its ValueError is told as theirs."""
    try:
        yield
    except ValueError as error:
        hint = "--image-size brings images to another size" if str(error).startswith("image must be") else None
        raise ConfigError(str(error), hint=hint) from error


def score_distances(judgments: Judgments, distances: Sequence[np.ndarray], *, seed: int) -> dict[str, dict[str, Any]]:
    """How well distances agree with people, and how far that would move with other references.

    Args:
        judgments: What people said.
        distances: As in `score_values`.
        seed: Of the resamples.

    Returns:
        By the score's name its `value` and `ci95`, a bootstrap interval over references (None where there is one only).

    Cost: of ratings and pairs the scores of RESAMPLES resamples, some 10 ms each for 3,000 ratings.
    """
    values, statistics = score_values(judgments, distances), _statistics(judgments, distances)
    if isinstance(judgments, Triplets):
        agreed_N = _agreed(judgments, distances)
        intervals = {"two_afc": cluster_mean_interval(agreed_N, judgments.group_N, seed=seed)}
    else:
        intervals = {name: cluster_interval(statistic, judgments.group_N, draws=RESAMPLES, seed=seed)
                     for name, statistic in statistics.items()}  # fmt: skip
    return {name: {"value": value, "ci95": list(interval) if (interval := intervals[name]) else None}
            for name, value in values.items()}  # fmt: skip


def score_values(judgments: Judgments, distances: Sequence[np.ndarray]) -> dict[str, float]:
    """How well distances agree with people.

    Args:
        judgments: What people said.
        distances: Distance (N,) of every pair that a judgment is about: of triplets those of (reference, a) and of
            (reference, b), else one.

    Returns:
        two_afc of triplets; srcc, plcc and krcc of ratings; jnd_map of pairs.
    """
    everything_N = np.arange(len(judgments))
    return {name: statistic(everything_N) for name, statistic in _statistics(judgments, distances).items()}


def _statistics(judgments: Judgments, distances: Sequence[np.ndarray]) -> dict[str, Callable[[Any], float]]:
    """The scores, each of some of the judgments."""
    if isinstance(judgments, Triplets):
        agreed_N = _agreed(judgments, distances)
        return {"two_afc": lambda m: float(agreed_N[m].mean())}
    (distance_N,) = distances
    if isinstance(judgments, Ratings):
        score_N = judgments.score_N
        return {"srcc": lambda m: srcc(distance_N[m], score_N[m]), "plcc": lambda m: plcc(distance_N[m], score_N[m]),
                "krcc": lambda m: krcc(distance_N[m], score_N[m])}  # fmt: skip
    same_N = judgments.same_share_N
    # Where nobody found any pair the same, there is nothing that a small distance could be right about.
    return {"jnd_map": lambda m: jnd_map(distance_N[m], same_N[m]) if same_N[m].any() else 0.0}


def _agreed(judgments: Triplets, distances: Sequence[np.ndarray]) -> np.ndarray:
    return agreement(distances[0], distances[1], judgments.votes_a_N, judgments.votes_b_N)


def ceilings(judgments: Judgments) -> dict[str, float] | None:
    """How well a person, and the best of all metrics, would score on triplets; None for other judgments."""
    if not isinstance(judgments, Triplets):
        return None
    votes = judgments.votes_a_N, judgments.votes_b_N
    return {"ceiling": float(human_ceiling(*votes).mean()), "majority": float(majority_ceiling(*votes).mean())}


def write_judged(path: Path, judgments: Judgments, distances: Sequence[np.ndarray]) -> None:
    """One row a judgment, in their order, atomically: the images' ids, what was said, and the distances.

    The columns are `group` (the reference's number), and
    of triplets reference, a, b, votes_a, votes_b, distance_a, distance_b, agreement (share of judges, 0..1);
    of ratings reference, distorted, score, distance;
    of pairs first, second, same_share, distance.
    """
    ids = np.array(image_ids(judgments), dtype=object)
    if isinstance(judgments, Triplets):
        images = {"reference": judgments.reference_N, "a": judgments.a_N, "b": judgments.b_N}
        said = {"votes_a": judgments.votes_a_N, "votes_b": judgments.votes_b_N, "distance_a": distances[0], "distance_b": distances[1],
                "agreement": _agreed(judgments, distances)}  # fmt: skip
    elif isinstance(judgments, Ratings):
        images = {"reference": judgments.reference_N, "distorted": judgments.distorted_N}
        said = {"score": judgments.score_N, "distance": distances[0]}
    else:
        images = {"first": judgments.first_N, "second": judgments.second_N}
        said = {"same_share": judgments.same_share_N, "distance": distances[0]}
    columns = {name: pa.array(ids[index_N], pa.string()).dictionary_encode() for name, index_N in images.items()}
    columns |= {name: pa.array(value_N, pa.float64()) for name, value_N in said.items()}
    table = pa.table({**columns, "group": pa.array(judgments.group_N, pa.int64())})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
