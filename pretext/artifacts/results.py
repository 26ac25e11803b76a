"""Scores and per-image predictions: one schema for every probe and fine-tune protocol.

`probe-KIND.json`, `probe-KIND-LAYER.json` and `fine-tune-PROTOCOL.json` hold, with scores as fractions in 0..1:

    schema            1
    kind              "probe-linear", "fine-tune-frozen", ...; the same whatever the layer
    protocol          {name: "kfold" | "official", k, fold_seed, test: "test split" | "held-out folds", ...options};
                      `stratified` where there are few-label sets, `layer` under the head of a fine-tuning
    data              {name, fingerprint, class_names, num_train, num_test}
    encoder           {name, parameters, num_features, layer, pool, ...options}; name "pixels" for the raw-pixel
                      control; what was read of it (num_features, layer, pool, max_features) for probes only
    objective         {name, loss, ...options}; {name: "none"} for raw pixels
    pretraining       {data, split, num_images, images_seen}, or null for controls without it
    seed              the pretraining seed
    folds             list of {fold, top1, top2, top4, top5, loss, n, chosen}
    mean, sd          over folds, {top1, top2, top4, top5, loss}
    ensemble          mean softmax of the fold models on the test images; for held-out folds the one model that has
                      not seen the image
    ci95              {ensemble_top1: [low, high]}: bootstrap over test images
    selected_on       where hyper-parameters were chosen; never the test images
    labels_per_class  null, or list of {labels_per_class, draw, num_labels, top1, top2, top4, top5, loss, n, chosen}
    predictors        only of "probe-mlp-seven": list of {hidden: widths of hidden layers, top1, heldout_top1}, means over
                      folds of every predictor's accuracy, of which each fold's answer is the best on held-out images
    parents           list of {kind, path, fingerprint}
    notes             sentences a reader must know, such as a protocol's defect
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pretext.artifacts.atomic import atomic_path, read_json, write_json
from pretext.artifacts.shards import DataSet
from pretext.artifacts.tables import check_no_nulls, check_types, read_table
from pretext.errors import ArtifactError

SCHEMA = 1
REQUIRED = ("kind", "protocol", "data", "encoder", "objective", "seed", "folds", "mean", "sd", "ensemble", "ci95",
            "selected_on", "labels_per_class", "parents")  # fmt: skip


def describe_run(manifest: Mapping[str, Any] | None, data: DataSet) -> dict[str, Any]:
    """The sections of a result that say what was evaluated on what.

    Args:
        manifest: The run's manifest of pretraining; None for raw pixels, which have no run.
        data: The data set it is evaluated on.
    """
    facts: dict[str, Any] = {
        "data": {"name": data.name, "fingerprint": data.fingerprint, "class_names": data.class_names,
                 "image_size": data.image_size, "num_train": data.num_images.get("train", 0),
                 "num_test": data.num_images.get("test", 0)},
        "encoder": {"name": "pixels"}, "objective": {"name": "none"}, "pretraining": None, "seed": None,
    }  # fmt: skip
    if manifest is None:
        return facts
    summary = manifest["summary"]
    seen = {"data": summary["data"]["name"], "split": summary["split"], "num_images": summary["num_images"],
            "images_seen": summary["images_seen"]}  # fmt: skip
    return facts | {"encoder": {**manifest["config"]["encoder"], "parameters": summary["parameters"]["encoder"]},
                    "objective": manifest["config"]["objective"], "seed": manifest["seed"],
                    "pretraining": seen if summary["images_seen"] else None}  # fmt: skip


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write one result; a missing section is our own bug."""
    assert not (missing := [name for name in REQUIRED if name not in content]), f"result lacks {missing}"
    write_json(path, {"schema": SCHEMA, **content})


def read_result(path: Path) -> dict[str, Any]:
    """Read one result.

    Raises:
        ArtifactError: If it is missing, not JSON, or lacks a section.
    """
    content = read_json(path)
    missing = [name for name in REQUIRED if name not in content] if isinstance(content, dict) else list(REQUIRED)
    if missing or content.get("schema") != SCHEMA:
        raise ArtifactError(f"{path} is not a result of schema {SCHEMA}" + (f": it lacks {missing}" if missing else ""))
    return content


@dataclass(frozen=True, slots=True)
class Predictions:
    """Per test image: its id, its class, the ensemble's probabilities, and the rank of the truth in every fold model.

    Args:
        ids: Image ids, in the order of the test split.
        label_N: True classes.
        prob_NK: The ensemble's probabilities, float32, rows summing to 1.
        rank_NF: How many classes each fold's model puts before the true one (0 is right); -1 where the fold's model
            does not judge the image (held-out folds).
    """

    ids: Sequence[str]
    label_N: np.ndarray
    prob_NK: np.ndarray
    rank_NF: np.ndarray


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write per-image predictions to Parquet, atomically."""
    num_classes, num_folds = predictions.prob_NK.shape[1], predictions.rank_NF.shape[1]
    prob = pa.array(np.ascontiguousarray(predictions.prob_NK, np.float32).reshape(-1))
    rank = pa.array(np.ascontiguousarray(predictions.rank_NF, np.int16).reshape(-1))
    table = pa.table({
        "id": pa.array(predictions.ids, pa.string()), "label": pa.array(predictions.label_N, pa.int32()),
        "prob": pa.FixedSizeListArray.from_arrays(prob, num_classes),
        "rank": pa.FixedSizeListArray.from_arrays(rank, num_folds),
    })  # fmt: skip
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read per-image predictions.

    Raises:
        ArtifactError: If the file is missing, broken or has other columns.
    """
    table = read_table(path)
    found = dict(zip(table.schema.names, table.schema.types, strict=True))
    sizes = [max(kind.list_size, 1) if kind is not None and pa.types.is_fixed_size_list(kind) else 1
             for kind in (found.get("prob"), found.get("rank"))]  # fmt: skip
    types = {"id": pa.string(), "label": pa.int32(), "prob": pa.list_(pa.float32(), sizes[0]),
             "rank": pa.list_(pa.int16(), sizes[1])}  # fmt: skip
    check_types(path, table.schema, types, "a predictions file")
    check_no_nulls(path, table, tuple(types))
    prob_NK, rank_NF = (table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, size)
                        for name, size in zip(("prob", "rank"), sizes, strict=True))  # fmt: skip
    return Predictions(table["id"].to_pylist(), table["label"].to_numpy(), prob_NK, rank_NF)


def write_few_label_sets(path: Path, rows: Sequence[tuple[int, int, str]]) -> None:
    """Write the ids of every few-label set: rows of (labels per class, draw, id)."""
    sizes, draws, ids = zip(*rows, strict=True)
    table = pa.table({"labels_per_class": pa.array(sizes, pa.int32()), "draw": pa.array(draws, pa.int32()),
                      "id": pa.array(ids, pa.string())})  # fmt: skip
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
