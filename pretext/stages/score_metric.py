"""`score-metric`: how well a distance between images agrees with what people said of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pretext.artifacts.atomic import read_json, write_json
from pretext.artifacts.layout import SCORE, RunLayout
from pretext.artifacts.manifest import Record
from pretext.artifacts.scores import JUDGMENTS_FILE, KIND, SCHEMA
from pretext.datasets.download import show_download
from pretext.perceptual.metrics import Metric
from pretext.perceptual.networks import check_given
from pretext.perceptual.pairs import compare_pairs, index_pairs
from pretext.perceptual.scoring import (
    Opened,
    ceilings,
    made_from,
    metric_word,
    open_judgments,
    request_of,
    score_distances,
    told_as_options,
    write_judged,
)
from pretext.perceptual.weights import is_published_file, unless_absent
from pretext.progress import Progress, Silent, Task
from pretext.stage_configs import ScoreMetricConfig
from pretext.training.device import resolve_compute
from pretext.variants import choose_row


def run(config: ScoreMetricConfig, *, explicit: Collection[str] = (),
        progress: Progress | None = None) -> dict[str, Any]:  # fmt: skip
    """Score a metric against human judgments; see `ScoreMetricConfig` for the options.

    `pretext.artifacts.scores` tells what its two files hold.

    Args:
        config: The options.
        explicit: Which of them the user gave; one that the metric does not read is then an error.
        progress: Where progress goes.

    Returns:
        The result file, status, and scores for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the judgments, the networks or the disk.
    """
    progress = progress or Silent()
    row, options = choose_row(config, "metric", explicit)
    if "network" in options:
        check_given(options["network"], explicit)
    word = metric_word(row.name, options, config.seed)
    opened = open_judgments(config, config.split)
    other = "" if config.split == "test" else f"-{config.split.replace('/', '+')}"
    folder = config.out or config.runs_dir / f"{opened.facts['name']}-{word}{other}"
    layout = RunLayout(folder)
    output, table = layout.result(SCORE), folder / JUDGMENTS_FILE
    request = request_of(config, options)
    pair_P2, rows = index_pairs(opened.judgments)
    if config.dry_run:
        return {"output": str(output), "status": "dry run", "reads": str(config.judgments), "options": options,
                "images": opened.facts["num_images"], "pairs": len(pair_P2)}  # fmt: skip
    compute = resolve_compute(config.device)

    def build(offline: bool) -> Metric:
        with told_as_options(), show_download(progress) as tell:
            metric: Metric = row.load()(
                **options, weights_dir=config.weights_dir, offline=offline, seed=config.seed, progress=tell
            )
        return metric

    found = unless_absent(build)
    record = Record(
        layout.record(SCORE), KIND, request, [opened.parent, *made_from(options, found.facts if found else {})]
    )
    if record.is_done(overwrite=config.overwrite):
        return _outcome(output, "already done")

    metric = (found or build(config.offline)).to(compute.device)
    record.parents = parents = [opened.parent, *made_from(options, metric.facts)]
    with told_as_options():  # what the metric does not take is found with one pair, before anything is written
        _compare(config, opened, metric, pair_P2[:1], compute.device, Silent())
    record.begin(request | {"metric_facts": metric.facts}, seed=config.seed, device=compute.name)
    with progress.task(f"comparing {opened.facts['name']}", len(pair_P2), "pairs") as task:
        distance_P = _compare(config, opened, metric, pair_P2, compute.device, task).astype(np.float64)
    distances = [distance_P[row_N] for row_N in rows]
    content: dict[str, Any] = {
        "schema": SCHEMA, "kind": KIND, "judgments": opened.facts,
        "metric": {**metric.facts, "name": row.name, "word": word},
        "scores": score_distances(opened.judgments, distances, seed=config.seed), "human": ceilings(opened.judgments),
        "saw": metric.facts.get("saw"), "seed": config.seed, "parents": [parent.as_json() for parent in parents],
        "notes": _notes(options, metric.facts),
    }  # fmt: skip
    write_judged(table, opened.judgments, distances)
    write_json(output, content)
    record.finish([output, table], summary={name: score["value"] for name, score in content["scores"].items()})
    return _outcome(output, "done")


def _notes(options: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What a reader of the score must know."""
    if options.get("channel_weights") != "published" or is_published_file(facts["network"], facts["fingerprint"]):
        return []
    return [f"The published channel weights belong to torchvision's own weights of {facts['network']}; the file that was used "
            f"is another one ({facts['fingerprint'][:15]}), whose numbers may be rounded or others."]  # fmt: skip


def _compare(config: ScoreMetricConfig, opened: Opened, metric: Metric, pair_P2: np.ndarray, device: Any,
             task: Task) -> np.ndarray:  # fmt: skip
    return compare_pairs(opened.judgments.image_paths, pair_P2, embed=metric.embed, compare=metric.distance,
                         image_size=config.image_size, batch_size=config.batch_size, device=device, task=task)  # fmt: skip


def _outcome(output: Path, status: str) -> dict[str, Any]:
    content = read_json(output)
    outcome = {"output": str(output), "status": status, "metric": content["metric"]["word"],
               "judgments": content["judgments"]["num"]}  # fmt: skip
    for name, score in content["scores"].items():
        outcome |= {name: score["value"], f"{name} 95 % interval": score["ci95"]}
    return outcome | {"human": content["human"], "the network saw": content["saw"]}
