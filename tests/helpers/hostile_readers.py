"""Every reader of artifacts as a function of bytes: it returns, or raises PretextError, and does nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pretext.artifacts.checkpoint import read_tensors, write_tensors
from pretext.artifacts.features import _read_in_order, read_feature_header, read_split, write_features
from pretext.artifacts.layout import RunLayout
from pretext.artifacts.manifest import missing_outputs, read_manifest, require_done
from pretext.artifacts.metrics import read_metrics, write_metrics
from pretext.artifacts.results import Predictions, write_predictions
from pretext.artifacts.rows import describe_rows, open_rows, write_rows
from pretext.artifacts.shards import Shard, Split, write_shard
from pretext.artifacts.verify import verify
from pretext.cli.app import SECTIONS, STAGES
from pretext.cli.listing import describe
from pretext.config import read_study, resolve
from pretext.encoders.conv4 import build_conv4
from pretext.encoders.restore import load_encoder
from pretext.errors import PretextError
from pretext.reports.gather import MismatchError, Run, read_one

SIZE, CLASSES, ROWS = 16, 3, 4
ENCODER = {"image_size": SIZE, "width": 0.01}
SCORES = {"top1": 0.75, "top2": 1.0, "top4": 1.0, "top5": 1.0, "loss": 0.5}
PROB_NK = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.1, 0.2, 0.7]], np.float32)
RESULT = {
    "schema": 1, "kind": "probe-linear", "protocol": {"name": "kfold", "k": 1}, "seed": 0, "sd": SCORES,
    "data": {"name": "shapes", "fingerprint": "sha256:d", "class_names": ["a", "b", "c"], "num_test": ROWS},
    "encoder": {"name": "conv4", **ENCODER}, "objective": {"name": "autoencode", "loss": "mse"}, "pretraining": None,
    "folds": [{"fold": 0, "n": ROWS, "chosen": {}, **SCORES}], "mean": SCORES, "ensemble": SCORES,
    "ci95": {"ensemble_top1": [0.5, 1.0]}, "selected_on": "held-out", "labels_per_class": None, "parents": [],
}  # fmt: skip
MANIFEST = {
    "schema": 1, "stage": "pretrain", "status": "done", "request": {"k": 5}, "config": {}, "seed": 0,
    "parents": [{"kind": "data", "path": "data/shapes", "fingerprint": "sha256:d"}], "wall_seconds": 1.5,
    "summary": {"name": "shapes"}, "outputs": {"a.bin": {"sha256": "sha256:x", "bytes": 5, "crc32": "00000000"}},
}  # fmt: skip
STUDY = """[pretrain]
data = "shapes"
loss = "pse"
sigma = 4.0
epochs = 20
val-fraction = 0.1
[probe]
kind = "linear"
labels_per_class = [1, 4]
"""


def whole_files(folder: Path) -> dict[str, Path]:
    """One whole file for each reader, by the reader's name."""
    files = {name: folder / file for name, file in FILES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    files["manifest"].write_text(json.dumps(MANIFEST))
    files["study"].write_text(STUDY)
    files["result"].write_text(json.dumps(RESULT))
    write_tensors(files["checkpoint"], {f"encoder.{name}": tensor for name, tensor in build_conv4(**ENCODER).state_dict().items()},
                  {"kind": "encoder", "encoder": {"name": "conv4", **ENCODER}})  # fmt: skip
    image_NHWC = np.random.default_rng(0).integers(0, 256, (ROWS, SIZE, SIZE, 3), dtype=np.uint8)
    write_shard(
        files["shard"], [(f"train/{i}", image_NHWC[i], i % CLASSES, (0, 1)) for i in range(ROWS)], image_size=SIZE
    )
    with write_rows(files["rows"], "target", (2, 3, 3), np.dtype(np.int16), dims=("group", "row", "column"),
                    meaning="bins", metadata={"space": "lab"}) as writer:  # fmt: skip
        writer.write(np.arange(ROWS * 18, dtype=np.int16).reshape(ROWS, 2, 3, 3))
    header = {"data": {"name": "shapes", "fingerprint": "sha256:d"}, "encoder": {"name": "conv4"}, "layer": "latent"}
    write_features(files["features"], header, 5, [("train", [f"train/{i}" for i in range(ROWS)], np.arange(ROWS) % CLASSES,
                   [()] * ROWS, np.ones((ROWS, 5), np.float32))])  # fmt: skip
    label_N = np.array([0, 1, 2, 0])
    write_predictions(files["predictions"], Predictions([f"test/{i}" for i in range(ROWS)], label_N, PROB_NK,
                      np.array([[0], [0], [0], [2]])))  # fmt: skip
    write_metrics(files["metrics"], [{"kind": "epoch", "step": 10, "epoch": 1.0, "train/loss": 0.5}])
    return files


FILES = {
    "manifest": "manifest.json", "study": "study.toml", "result": "probe-linear.json", "checkpoint": "checkpoint.safetensors",
    "shard": "train-00000-of-00001.arrow", "rows": "train-00000-of-00001.targets-lab-3.arrow",
    "features": "features.parquet", "predictions": "probe-linear-predictions.parquet", "metrics": "metrics.parquet",
}  # fmt: skip


def read_as(name: str, path: Path) -> None:
    """Do with a file all that a stage, the report and `inspect` do with one of its sort; the first error ends it.

    Raises:
        PretextError: Naming the file.
    """
    for reader in (READERS[name], *([] if name == "study" else [_inspect])):
        try:
            reader(path)
        except PretextError as error:
            text = f"{error.message} {error.hint or ''}"
            # options of a study are told without the file: the command's own line names it
            assert path.name in text or path.stem.split("-")[0] in text or name == "study", f"{text!r} names no file"
            assert len(text) < 4000, f"an error of {len(text)} characters"
            first = error
            break
    else:
        return
    raise first


def _inspect(path: Path) -> None:
    for as_json in (False, True):
        assert describe(path, as_json=as_json).replace("\n", "").isprintable()


def _manifest(path: Path) -> None:
    content = read_manifest(path)
    missing_outputs(path, content)
    verify(path.parent)
    require_done(path, hint="make it")


def _study(path: Path) -> None:
    for section, config_class, _, _ in STAGES:
        resolve(config_class, {}, read_study(path, section, SECTIONS))


def _checkpoint(path: Path) -> None:
    read_tensors(path)
    load_encoder(path)


def _shard(path: Path) -> None:
    split = Split([Shard(path)], SIZE)
    split.ids(), split.labels(), split.folds(), split.facts(0, len(split))
    split.images.read(np.arange(len(split)))


def _rows(path: Path) -> None:
    describe_rows(path)
    open_rows([(path, ROWS)], "target", (2, 3, 3), np.dtype(np.int16)).read(np.arange(ROWS))


def _features(path: Path) -> None:
    header = read_feature_header(path)
    assert isinstance(header, dict)
    found = read_split(path, "train")
    assert found is None or np.isfinite(found.feature_ND).all()
    _read_in_order(path, "train", [f"train/{i}" for i in range(ROWS)])


def _result(path: Path) -> None:
    layout = RunLayout(path.parent)
    try:
        read_one(Run(name="a", layout=layout), "probe-linear", {"seed": 0})
    except MismatchError:
        return  # the report tells it as such


def _metrics(path: Path) -> None:
    read_metrics(path)


READERS: dict[str, Callable[[Path], None]] = {
    "manifest": _manifest, "study": _study, "checkpoint": _checkpoint, "shard": _shard, "rows": _rows,
    "features": _features, "result": _result, "predictions": _result, "metrics": _metrics,
}  # fmt: skip
