"""Read runs into plain values: what is broken, unfinished or does not fit becomes an issue with a reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pretext.artifacts.layout import SCORE, RunLayout, features_stems, result_stems
from pretext.artifacts.manifest import missing_outputs, read_manifest
from pretext.artifacts.metrics import read_metrics
from pretext.artifacts.results import Predictions, read_predictions, read_result
from pretext.artifacts.scores import Score, read_score
from pretext.errors import PretextError, is_system_failure

DONE, UNFINISHED, BROKEN, MISMATCHED = "done", "unfinished", "broken", "mismatched"
TOP_KS = (1, 2, 4, 5)
SCRATCH_KIND = "fine-tune-scratch"
# Probabilities are stored in float32: a handful of images may rank otherwise than they did in float64.
RANK_TOLERANCE = 0.002
PROB_TOLERANCE = 0.001
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that keeps a run, or a part of it, out of the comparison."""

    run: str
    part: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finished probe or fine-tuning: the file's content and what its predictions say of each test image.

    Attributes:
        run: Name of the run it belongs to.
        stem: File name without suffix, such as probe-linear.
        stage_seed: The seed of the probe or fine-tuning itself.
        is_stratified: Whether its few-label sets have as many images of every class; None where it does not say.
        content: The result file.
        ids: Test images.
        label_N: True classes.
        predicted_N: The ensemble's classes.
        confidence_N: The ensemble's probability of the class it chose, 0..1.
        rank_N: Classes that the ensemble puts at or above the true one, less the true one itself; 0 is right.
    """

    run: str
    stem: str
    stage_seed: int | None
    is_stratified: bool | None
    content: Mapping[str, Any]
    ids: Sequence[str]
    label_N: NDArray[np.int64]
    predicted_N: NDArray[np.int64]
    confidence_N: NDArray[np.float32]
    rank_N: NDArray[np.int64]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def seed(self) -> int | None:
        """The seed that made the encoder what it is: the pretraining's, or the stage's own for one from scratch."""
        return self.stage_seed if self.kind == SCRATCH_KIND else self.content["seed"]

    @property
    def correct_N(self) -> NDArray[np.bool_]:  # noqa: N802 - named as the array it is
        correct_N: NDArray[np.bool_] = self.rank_N == 0
        return correct_N

    def top(self, k: int) -> float:
        """Share of test images whose class is among the ensemble's k best, from the predictions."""
        return float((self.rank_N < k).mean())


@dataclass(slots=True, kw_only=True)
class Run:
    """One run's folder, as far as it can be used.

    Attributes:
        name: What people see: the folder's name, or its path where two have one name.
        manifest: The pretraining's manifest; None for a control without pretraining, or if it can't be used.
        features: The manifests of its finished feature extractions, by the name of their file: one a layer.
        curve: Rows of metrics.parquet.
        score: What score-metric wrote in this folder.
        stage_seconds: Wall time of each finished stage.
    """

    name: str
    layout: RunLayout
    state: str = DONE
    manifest: dict[str, Any] | None = None
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    score: Score | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    finished: str = ""

    def note(self, part: str, state: str, reason: str) -> None:
        """Write down an issue; the run itself is in that state if `part` is pretrain."""
        self.issues.append(Issue(self.name, part, state, reason))
        if part == "pretrain":
            self.state = state


def gather(layouts: Sequence[RunLayout]) -> list[Run]:
    """Read every run."""
    names = Counter(layout.folder.resolve().name for layout in layouts)
    return [read_run(layout, name=_unique_name(layout, names)) for layout in layouts]


def read_run(layout: RunLayout, *, name: str) -> Run:
    """Read one run; whatever is wrong with it is in its `issues`."""
    run = Run(name=name, layout=layout)
    if layout.manifest.exists():
        run.manifest = _stage_manifest(run, "pretrain", layout.manifest)
        if run.manifest is None:
            for stem in result_stems(layout.folder):
                run.note(stem, run.state, f"not used: its pretraining is {run.state}")
            return run
        if layout.metrics.exists():
            run.curve = _try(run, "metrics", lambda: read_metrics(layout.metrics)) or []
    for stem in features_stems(layout.folder):
        if made := _stage_manifest(run, stem, layout.record(stem)):
            run.features[f"{stem}.parquet"] = made
    for stem in result_stems(layout.folder):
        manifest = _stage_manifest(run, stem, layout.record(stem))
        result = _try(run, stem, partial(read_one, run, stem, manifest)) if manifest else None
        if result:
            run.results.append(result)
    if layout.record(SCORE).exists() and _stage_manifest(run, SCORE, layout.record(SCORE)):
        run.score = _try(run, SCORE, lambda: read_score(layout.folder))
    return run


def read_one(run: Run, stem: str, manifest: Mapping[str, Any]) -> Result:
    """Read one result with its predictions; `manifest` is its own stage's.

    Raises:
        PretextError: If a file can't be read.
        MismatchError: If the files contradict each other.
    """
    content = read_result(run.layout.result(stem))
    check_content(content)
    predictions = read_predictions(run.layout.predictions(stem))
    prob_NK, label_N = predictions.prob_NK, predictions.label_N.astype(np.int64)
    if len(label_N) == 0 or not np.isfinite(prob_NK).all() or label_N.min() < 0 or label_N.max() >= prob_NK.shape[1]:
        raise MismatchError("its predictions are empty, not finite, or of classes that do not exist")
    check_predictions(content, predictions)
    rank_N = (prob_NK >= np.take_along_axis(prob_NK, label_N[:, None], axis=1)).sum(axis=1) - 1
    result = Result(
        run=run.name, stem=stem, stage_seed=manifest.get("seed"), is_stratified=_is_stratified(content, manifest),
        content=content, ids=predictions.ids, label_N=label_N, predicted_N=prob_NK.argmax(axis=1),
        confidence_N=prob_NK.max(axis=1), rank_N=rank_N,
    )  # fmt: skip
    stated, found = content["ensemble"]["top1"], result.top(1)
    if abs(stated - found) > max(RANK_TOLERANCE, 2 / len(label_N)):
        raise MismatchError(f"it states {stated:.2%} top-1, but its predictions give {found:.2%}")
    _check_parents(run, content["parents"])
    return result


def check_predictions(content: Mapping[str, Any], predictions: Predictions) -> None:
    """Check that predictions are probabilities and ranks, one row an image, and those of the result's own folds.

    Raises:
        MismatchError: Saying what they are instead.
    """
    prob_NK, rank_NF, folds = predictions.prob_NK, predictions.rank_NF, content["folds"]
    if prob_NK.min() < 0 or prob_NK.max() > 1 + PROB_TOLERANCE or (abs(prob_NK.sum(axis=1) - 1) > PROB_TOLERANCE).any():
        raise MismatchError("its probabilities are not in 0..1, or do not add up to 1")
    if rank_NF.min() < -1 or rank_NF.max() >= prob_NK.shape[1]:
        raise MismatchError(f"its ranks are {rank_NF.min()} to {rank_NF.max()}, of {prob_NK.shape[1]} classes")
    if len(set(predictions.ids)) != len(predictions.ids):
        raise MismatchError("its predictions hold an image twice")
    if rank_NF.shape[1] != len(folds):
        raise MismatchError(f"it has {len(folds)} folds, but its predictions are of {rank_NF.shape[1]}")
    for number, (fold, rank_N) in enumerate(zip(folds, rank_NF.T, strict=True)):
        found = float((rank_N[rank_N >= 0] == 0).mean()) if (rank_N >= 0).any() else fold["top1"]
        if abs(fold["top1"] - found) > max(RANK_TOLERANCE, 2 / len(rank_N)):
            raise MismatchError(
                f"its fold {number} states {fold['top1']:.2%} top-1, but its predictions give {found:.2%}"
            )
    stated, found = content["mean"]["top1"], float(np.mean([fold["top1"] for fold in folds])) if folds else math.nan
    if not abs(stated - found) <= RANK_TOLERANCE:
        raise MismatchError(f"it states a mean of {stated:.2%} top-1, but its folds give {found:.2%}")


def _is_stratified(content: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool | None:
    """As the result says; what is older leaves it to the options of its stage."""
    said, unstratified = content["protocol"].get("stratified"), look(manifest, "config", "unstratified")
    if isinstance(said, bool):
        return said
    return not unstratified if isinstance(unstratified, bool) else None


class MismatchError(Exception):
    """Two files of one run do not belong together."""


def check_content(content: Mapping[str, Any]) -> None:
    """Check the parts of a result that the report reads.

    Raises:
        MismatchError: Naming the first part that is of the wrong kind.
    """
    for name in ("protocol", "data", "encoder", "objective", "mean", "ensemble"):
        _expect(content, name, isinstance(content[name], dict))
    for name, key in (("encoder", "name"), ("objective", "name"), ("data", "name"), ("data", "fingerprint")):
        _expect(content, f"{name}.{key}", isinstance(content[name].get(key), str))
    for name in ("mean", "ensemble"):
        _expect(content, name, all(_fraction(content[name].get(f"top{k}")) for k in TOP_KS))
    _expect(content, "sd", content["sd"] is None or isinstance(content["sd"], dict))
    _expect(content, "kind", isinstance(content["kind"], str))
    _expect(content, "seed", content["seed"] is None or type(content["seed"]) is int)
    _expect(content, "folds", _rows_with_top1(content["folds"]))
    _expect(content, "parents", isinstance(content["parents"], list))
    curve = content["labels_per_class"]
    _expect(content, "labels_per_class", curve is None or (_rows_with_top1(curve) and all(
        type(row.get("labels_per_class")) is int and row["labels_per_class"] > 0 for row in curve)))  # fmt: skip


def look(content: Any, *keys: str, default: Any = None) -> Any:
    """The value under nested keys, the default where any of them is missing or of another type."""
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return default
        content = content[key]
    return content


def _stage_manifest(run: Run, part: str, path: Path) -> dict[str, Any] | None:
    """The manifest of one finished, whole stage; otherwise an issue is noted."""
    manifest = _try(run, part, lambda: read_manifest(path))
    if manifest is None:
        return None
    if part == "pretrain" and manifest["stage"] != "pretrain":
        run.note(part, BROKEN, f"{path.parent} is the output of {manifest['stage']}, not a run")
        return None
    if manifest["status"] != "done":
        progress = ", ".join(f"{key} {value}" for key, value in (look(manifest, "progress", default={}) or {}).items()
                             if isinstance(value, (int, float, str)))  # fmt: skip
        run.note(part, UNFINISHED, "begun and not finished" + (f" ({progress})" if progress else ""))
        return None
    broken = _try(run, part, lambda: missing_outputs(path, manifest))
    if broken is None:
        return None
    if broken:
        run.note(part, BROKEN, f"{broken[0]} is missing or not of the size that {path.name} states")
        return None
    run.stage_seconds[part] = float(manifest["wall_seconds"]) if _number(manifest.get("wall_seconds")) else 0.0
    run.finished = max(run.finished, str(manifest.get("finished", "")))
    return manifest


def _check_parents(run: Run, parents: Sequence[Any]) -> None:
    """What was made from an earlier checkpoint or earlier features of this folder is not a result of this run."""
    for parent in parents:
        kind, manifest, name = look(parent, "kind"), None, ""
        if kind == "checkpoint":
            manifest, name = run.manifest, "checkpoint.safetensors"
        elif kind == "features":
            name = PurePath(str(look(parent, "path", default=""))).name
            manifest = run.features.get(name)
        known = look(manifest, "outputs", name, "sha256")
        if known is not None and parent.get("fingerprint") != known:
            raise MismatchError(f"it was made from another {name} than the one that is here")
        if kind == "features" and manifest is not None:
            _check_parents(run, manifest["parents"])


def _try(run: Run, part: str, read: Callable[[], Value]) -> Value | None:
    try:
        return read()
    except MismatchError as error:
        run.note(part, MISMATCHED, str(error))
    except (PretextError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if is_system_failure(error):  # no report says for good what was so for a moment
            raise
        # Whatever a damaged file can hold, one run must not take the report of all others with it.
        told = f"it can't be read ({type(error).__name__}: {error})"
        run.note(part, BROKEN, error.message if isinstance(error, PretextError) else told)
    return None


def _unique_name(layout: RunLayout, names: Mapping[str, int]) -> str:
    name = layout.folder.resolve().name
    return name if names[name] == 1 else str(layout.folder)


def _expect(content: Mapping[str, Any], name: str, fits: bool) -> None:
    if not fits:
        raise MismatchError(f"its part '{name}' is not what the schema says")


def _rows_with_top1(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) and _fraction(row.get("top1")) for row in rows)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fraction(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1
