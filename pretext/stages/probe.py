"""`probe`: how much of the classes stands in frozen features, by a simple classifier."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pretext.artifacts.features import FeatureSplit, read_feature_header, read_split
from pretext.artifacts.layout import LATENT, RunLayout, features_stem, find_run, probe_stem
from pretext.artifacts.manifest import Parent, Record, require_done
from pretext.artifacts.results import write_few_label_sets, write_predictions, write_result
from pretext.artifacts.verify import check_bytes
from pretext.config import identity
from pretext.errors import ArtifactError, DataError
from pretext.progress import Progress, Silent
from pretext.registry import Variant
from pretext.stage_configs import ProbeConfig
from pretext.tasks.evaluation import Judged, few_label_rows, headline, score_folds, tell_headline
from pretext.tasks.plans import FoldPlan, few_label_ids, few_label_plans, label_facts, plan_folds
from pretext.tasks.probes import predictor_rows
from pretext.training.device import resolve_compute
from pretext.variants import choose_row

PIECE_IMAGES = 512  # of a model's, that a dry run times


def run(config: ProbeConfig, *, explicit: Collection[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Probe the features of one run; see `ProbeConfig` for the options.

    Args:
        config: The options.
        explicit: Which of them the user gave; one that the classifier does not read is then an error.
        progress: Where progress goes.

    Returns:
        The result file, status, and scores for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the features or the disk.
    """
    progress = progress or Silent()
    row, options = choose_row(config, "kind", explicit)
    layout = find_run(config.run)
    header, parents = _check_chain(layout, config.layer)
    stem, features = probe_stem(config.kind, config.layer), layout.features_of(config.layer)
    record = Record(layout.record(stem), stem, _request(config, options), parents)
    resume = layout.stage_resume(stem)
    if not config.dry_run and record.is_done(overwrite=config.overwrite, stale=[resume]):
        shutil.rmtree(resume, ignore_errors=True)  # left by a kill after the work was done
        return tell_headline(layout.result(stem), record.content, "already done")

    train, test = _load(features)
    plans, selected_on = plan_folds(train.label_N, train.folds, folds=config.folds, k=config.k, seed=config.fold_seed,
                                    has_test=test is not None)  # fmt: skip
    few_plans = few_label_plans(train.label_N, config.labels_per_class or (), draws=config.draws, seed=config.seed,
                                stratified=not config.unstratified, has_test=test is not None)  # fmt: skip
    if config.dry_run:
        seconds = _expected_seconds(row, options, config, header, train, test, plans, [few.plan for few in few_plans])
        return {"output": str(layout.result(stem)), "status": "dry run", "reads": str(features), "options": options,
                "models": len(plans) + len(few_plans), "expected seconds": seconds}  # fmt: skip
    record.begin(_request(config, options), seed=config.seed)
    with progress.task(f"{layout.folder.name} {stem}", len(plans) + len(few_plans), "models") as task:
        judged = _judge(row, options, config, header, train, test, plans, resume / "folds")
        task.advance(len(plans))
        few = _judge(row, options, config, header, train, test, [few_plan.plan for few_plan in few_plans],
                     resume / "few")  # fmt: skip
        task.advance(len(few_plans))
    shown = train if test is None else test
    sections, predictions = score_folds(judged, shown.label_N, shown.ids)
    if predictors := predictor_rows(judged, shown.label_N):
        sections["predictors"] = predictors
    content = {
        "kind": probe_stem(config.kind), "protocol": _protocol(config, options, test is not None),
        **_described(header), **sections, "selected_on": selected_on,
        "labels_per_class": few_label_rows(few_plans, few, shown.label_N) or None,
        "parents": [parent.as_json() for parent in parents], "notes": [],
    }  # fmt: skip
    write_result(layout.result(stem), content)
    write_predictions(layout.predictions(stem), predictions)
    outputs = [layout.result(stem), layout.predictions(stem)]
    if few_plans:
        write_few_label_sets(layout.few_label_sets(stem), few_label_ids(few_plans, train.ids))
        outputs.append(layout.few_label_sets(stem))
    content = record.finish(outputs, summary=headline(content))
    shutil.rmtree(resume, ignore_errors=True)
    return tell_headline(layout.result(stem), content, "done")


def _check_chain(layout: RunLayout, layer: str) -> tuple[dict[str, Any], list[Parent]]:
    """The features' header and the chain they end, refused where a link is broken.

    Raises:
        ArtifactError: If the features are missing, unfinished, of another layer, or of a checkpoint that the run no
            longer holds.
    """
    is_pixels = not layout.manifest.exists()
    make = f"pretext extract-features {layout.folder}" + (f" --layer {layer}" if layer != LATENT else "")
    hint = "raw pixels have no layers: leave --layer out" if is_pixels and layer != LATENT else make
    features = layout.features_of(layer)
    made = require_done(layout.record(features_stem(layer)), hint=hint)
    check_bytes(features, made)
    header = read_feature_header(features)
    if not is_pixels:
        pretrained = require_done(layout.manifest, hint="run `pretext pretrain` again to finish it")
        now = pretrained["outputs"]["checkpoint.safetensors"]["sha256"]
        if header.get("checkpoint") != now:
            raise ArtifactError(f"{features} was made from checkpoint {header.get('checkpoint')}, "
                                f"but the run now holds {now}", hint=f"{make} --overwrite")  # fmt: skip
        if (found := header.get("encoder", {}).get("layer")) != layer:
            raise ArtifactError(f"{features} holds layer {found}, not {layer}", hint=f"{make} --overwrite")
    return header, [Parent("features", str(features), made["outputs"][features.name]["sha256"])]


def _request(config: ProbeConfig, options: dict[str, Any]) -> dict[str, Any]:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    # The layer is in the file's name, and in the features that are the parent.
    return {name: value for name, value in identity(config).items() if name not in ("run", "layer")} | plain


def _load(features: Path) -> tuple[FeatureSplit, FeatureSplit | None]:
    """The labelled features: train, and test where there are any.

    Raises:
        DataError: If there are no labels to learn from.
    """
    train, test = read_split(features, "train"), read_split(features, "test")
    if train is None:
        raise DataError(f"{features} holds no `train` split: there are no labels to learn from",
                        hint="pretext extract-features RUN --data NAME, with a data set that has labels")  # fmt: skip
    for name, split in (("train", train), ("test", test)):
        if split is not None and (split.label_N < 0).any():
            raise DataError(f"{int((split.label_N < 0).sum())} images of split `{name}` have no label")
    return train, test


def _judge(row: Variant, options: dict[str, Any], config: ProbeConfig, header: dict[str, Any], train: FeatureSplit,
           test: FeatureSplit | None, plans: list[FoldPlan], folder: Path) -> list[Judged]:  # fmt: skip
    """The answers of one model a plan, all of them fitted together."""
    if not plans:
        return []
    num_classes = max(len(header["data"]["class_names"]), int(np.max(train.label_N)) + 1)
    return row.load()(train.feature_ND, train.label_N, None if test is None else test.feature_ND, plans,
                      num_classes=num_classes, seed=config.seed, device=resolve_compute(config.device).device, folder=folder, **options)  # fmt: skip


def _expected_seconds(row: Variant, options: dict[str, Any], config: ProbeConfig, header: dict[str, Any], train: FeatureSplit,
                      test: FeatureSplit | None, plans: list[FoldPlan], few_plans: list[FoldPlan]) -> float:  # fmt: skip
    """Time two models on a few of their images (after one time to warm up), and multiply.

    What has epochs takes time in proportion to its images, and is timed for one, of which no more than all are made;
    everything else compares images with each other.
    """
    power, epochs = (1, options["epochs"]) if "epochs" in options else (2, 1)
    options = options | ({"epochs": 1} if "epochs" in options else {})
    step = max(1, len(plans[0].train) // PIECE_IMAGES)
    piece = [FoldPlan(plan.fit[::step], plan.select[::step], None if plan.judge is None else plan.judge[::step])
             for plan in plans[:2]]  # fmt: skip
    few = None if test is None else replace(test, feature_ND=test.feature_ND[::step])
    for _ in range(2):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            _judge(row, options, config, header, train, few, piece, Path(folder))
        seconds = time.perf_counter() - started
    work, timed = (sum(len(plan.train) ** power for plan in part) for part in ([*plans, *few_plans], piece))
    return seconds * epochs * work / timed


def _protocol(config: ProbeConfig, options: dict[str, Any], has_test: bool) -> dict[str, Any]:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return label_facts(config, has_test=has_test) | plain


def _described(header: dict[str, Any]) -> dict[str, Any]:
    return {name: header[name] for name in ("data", "encoder", "objective", "pretraining", "seed")}
