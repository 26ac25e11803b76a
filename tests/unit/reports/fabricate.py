"""Run folders as the stages write them, with made-up numbers: small, seeded, and written by the real writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pretext.artifacts.atomic import write_json
from pretext.artifacts.layout import DataLayout, RunLayout, features_stem
from pretext.artifacts.manifest import Parent, Record, read_manifest
from pretext.artifacts.metrics import write_metrics
from pretext.artifacts.results import Predictions, write_predictions, write_result
from pretext.artifacts.shards import data_fingerprint, write_shard

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
NUM_TEST, NUM_FOLDS, IMAGE_SIZE = 400, 5, 32
# a slash can't be in a folder's name, so the closing tag has another character
HOSTILE_FOLDER = "<script>alert(1)<\N{DIVISION SLASH}script>"
CHECKPOINT = b"weights"


def make_data(folder: Path, *, num_test: int = NUM_TEST, seed: int = 0) -> dict[str, Any]:
    """A prepared data set of coloured blobs; returns what results say of their data, with its folder."""
    rng = np.random.default_rng(seed)
    layout = DataLayout(folder)
    files, hashes, splits = [], {}, {}
    for split, count in (("train", 50), ("test", num_test)):
        label_N = np.arange(count) % len(CLASSES)
        rows = [(f"{split}/{i:05d}", _blob(rng, label), int(label), ()) for i, label in enumerate(label_N)]
        path = layout.shard(split, 0, 1)
        write_shard(path, rows, image_size=IMAGE_SIZE)
        files.append(path)
        hashes[split] = [f"{split}-{seed}-{num_test}"]
        splits[split] = {"num_images": count, "labelled": True, "shards": [{"file": path.name, "num_images": count}]}
    fingerprint = data_fingerprint(IMAGE_SIZE, hashes)
    record = Record(layout.manifest, "prepare-data", {})
    record.begin({}, seed=seed)
    record.finish(files, summary={"name": folder.name, "image_size": IMAGE_SIZE, "class_names": list(CLASSES),
                                  "splits": splits, "fingerprint": fingerprint})  # fmt: skip
    return {"name": folder.name, "fingerprint": fingerprint, "class_names": list(CLASSES), "num_train": 2000,
            "num_test": num_test, "folder": str(folder)}  # fmt: skip


def _blob(rng: np.random.Generator, label: int) -> np.ndarray:
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    cy, cx = rng.uniform(10, 22, 2)
    inside = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (3 + label) ** 2))[..., None]
    color = np.array([(40 * label) % 256, (255 - 25 * label) % 256, (90 * label) % 256])
    ground = rng.normal(60, 12, (IMAGE_SIZE, IMAGE_SIZE, 3))
    return np.clip(ground * (1 - inside) + color * inside, 0, 255).astype(np.uint8)


def make_run(
    folder: Path, data: dict[str, Any], *, loss: str | None = "mse", sigma: float | None = None, seed: int = 0,
    encoder: str = "cnn", status: str = "done", network: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None, **settings: Any,
) -> RunLayout:  # fmt: skip
    """What pretrain writes; `loss` None is the random control, `network` and `summary` are more facts of theirs."""
    layout = RunLayout(folder)
    folder.mkdir(parents=True)
    objective: dict[str, Any] = {"name": "random"}
    if loss is not None:
        objective = {"name": "autoencode", "loss": loss}
        if sigma is not None:
            objective |= {"sigma": sigma, "truncate": 4.0, "padding": "symmetric", "residual": "abs"}
    config = {
        "data": {"name": data["name"], "fingerprint": data["fingerprint"]}, "split": "unlabeled", "val_fraction": 0.15,
        "objective": objective,
        "encoder": {"name": encoder, "image_size": IMAGE_SIZE, "width": 0.25, **(network or {"latent_dim": 64})},
        "epochs": 20, "batch_size": 128, "optimizer": "adam", "lr": 0.001, "schedule": "cosine", "warmup_epochs": 1.0,
        "weight_decay": 0.0, "grad_clip": 1.0, "augment": "small", "keep": "best", "seed": seed, "log_every": 50,
        "device": "cpu", "precision": "fp32",
    } | settings  # fmt: skip
    record = Record(layout.manifest, "pretrain", {}, [Parent("data", data["folder"], data["fingerprint"])])
    record.begin(config, seed=seed)
    if status == "running":
        record.note({"epoch": 7, "of": 20})
        return layout
    layout.checkpoint.write_bytes(CHECKPOINT + folder.name.encode())
    outputs = [layout.checkpoint]
    if loss is not None:
        write_metrics(layout.metrics, _curve(loss, sigma, seed))
        picture = layout.picture("colorizations" if "color_space" in config["objective"] else "reconstructions")
        _picture(picture, seed)
        outputs += [layout.metrics, picture]
    parameters = {"encoder": 103_000, "decoder": 252_000} if loss is not None else {"encoder": 103_000}
    images_seen = 6800 * 20 if loss is not None else 0
    record.finish(outputs, summary={"parameters": parameters, "data": config["data"], "split": "unlabeled",
                                    "num_images": 6800, "images_seen": images_seen, "epochs_run": 20,
                                    "best_epoch": 19,
                                    "best_val_loss": None if loss is None else 0.01} | (summary or {}))  # fmt: skip
    record.content["wall_seconds"] = 1234.5 + seed if loss is not None else 2.0
    _rewrite(record)
    return layout


def _rewrite(record: Record) -> None:
    record.content["finished"] = "2026-01-02T03:04:05+00:00"
    write_json(record.path, record.content)


def _curve(loss: str, sigma: float | None, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    scale = 1.0 if sigma is None else 0.6 - 0.05 * sigma
    return [
        {"kind": "epoch", "step": 53 * epoch, "epoch": float(epoch), "images_seen": 6800 * epoch,
         "train/loss": scale * (0.008 + 0.09 * np.exp(-epoch / 4) + rng.normal(0, 0.0006)),
         "val/loss": scale * (0.009 + 0.09 * np.exp(-epoch / 4) + rng.normal(0, 0.0009)),
         "lr": 0.001, "images_per_s": 900.0 + seed}
        for epoch in range(1, 21)
    ]  # fmt: skip


def _picture(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = [_blob(rng, label) for label in range(8)]
    row = np.concatenate(tiles, axis=1)
    pixels = np.concatenate([row, (row * 0.8 + 20).astype(np.uint8)]).repeat(3, axis=0).repeat(3, axis=1)
    Image.fromarray(pixels).save(path, format="PNG")


def make_pixels(folder: Path, data: dict[str, Any]) -> RunLayout:
    """The raw-pixel control: features and nothing of a pretraining."""
    layout = RunLayout(folder)
    folder.mkdir(parents=True)
    make_features(layout, data)
    return layout


def make_features(layout: RunLayout, data: dict[str, Any], *, layer: str = "latent", pool: str = "flatten") -> None:
    """What extract-features writes; the vectors themselves are not needed."""
    file = layout.features_of(layer)
    file.write_bytes(b"features" + layout.folder.name.encode() + layer.encode())
    parents = [Parent("data", data["folder"], data["fingerprint"])]
    if layout.checkpoint.exists():
        parents.append(Parent("checkpoint", str(layout.checkpoint), _sha(layout.manifest, "checkpoint.safetensors")))
    record = Record(layout.record(features_stem(layer)), "extract-features", {}, parents)
    record.begin({"layer": layer, "pool": pool}, seed=None)
    record.finish([file], summary={})
    record.content["wall_seconds"] = 21.0
    _rewrite(record)


def _sha(manifest: Path, name: str) -> str:
    return str(read_manifest(manifest)["outputs"][name]["sha256"])


def make_result(
    layout: RunLayout, stem: str, data: dict[str, Any], *, quality: float, seed: int | None,
    protocol: dict[str, Any] | None = None, curve: tuple[int, ...] = (), status: str = "done",
    layer: str = "latent", pool: str = "resize", unstratified: bool = False,
) -> None:  # fmt: skip
    """What probe or fine-tune writes: `quality` moves the truth's logit, so that more of it is more accuracy."""
    kind, stem = stem, stem if layer == "latent" else f"{stem}-{layer}"
    record = Record(layout.record(stem), stem.split("-")[0], {}, [])
    record.begin({"unstratified": unstratified} if curve else {}, seed=seed)
    if status == "running":
        return
    label_N = np.arange(data["num_test"]) % len(CLASSES)
    logit_FNK = _logits(label_N, quality, [seed or 0, *stem.encode(), *layout.folder.name.encode()])
    prob_FNK = np.exp(logit_FNK) / np.exp(logit_FNK).sum(axis=2, keepdims=True)
    prob_NK = prob_FNK.mean(axis=0).astype(np.float32)
    folds = [_scores(prob_NK, label_N) | {"fold": fold, "chosen": {"C": 0.01}} for fold, prob_NK in enumerate(prob_FNK)]
    names = ("top1", "top2", "top4", "top5", "loss")
    value_FS = np.array([[fold[name] for name in names] for fold in folds])
    manifest = _manifest(layout)
    ensemble = _scores(prob_NK, label_N)
    ids = [f"test/{i:05d}" for i in range(len(label_N))]
    rank_NF = np.stack([(p >= p[np.arange(len(label_N)), label_N][:, None]).sum(1) - 1 for p in prob_FNK], axis=1)
    write_predictions(layout.predictions(stem), Predictions(ids, label_N, prob_NK, rank_NF))
    write_result(layout.result(stem), {
        "kind": kind,
        "protocol": {"name": "kfold", "k": NUM_FOLDS, "fold_seed": 12345, "test": "test split"} | (protocol or {}),
        "data": {name: value for name, value in data.items() if name != "folder"},
        "encoder": _encoder(manifest, kind, layer, pool),
        "objective": manifest["config"]["objective"] if manifest else {"name": "none"},
        "pretraining": None, "seed": seed, "folds": folds,
        "mean": dict(zip(names, value_FS.mean(0).tolist(), strict=True)),
        "sd": dict(zip(names, value_FS.std(0, ddof=1).tolist(), strict=True)),
        "ensemble": ensemble, "ci95": {"ensemble_top1": [0.0, 1.0]}, "selected_on": "inner folds of each training set",
        "labels_per_class": _few_labels(curve, quality, seed) or None, "parents": _parents(layout, kind, layer, data),
        "notes": ["the encoder's weights never move"] if "as-coded" in stem else [],
    })  # fmt: skip
    record.finish([layout.result(stem), layout.predictions(stem)], summary={})
    record.content["wall_seconds"] = 65.0
    _rewrite(record)


def _manifest(layout: RunLayout) -> dict[str, Any] | None:
    return read_manifest(layout.manifest) if layout.manifest.exists() else None


def _encoder(manifest: dict[str, Any] | None, kind: str, layer: str, pool: str) -> dict[str, Any]:
    if manifest is None:
        return {"name": "pixels", "pixel_size": 32, "parameters": 0, "num_features": 3072, "layer": "pixels"}
    facts = {**manifest["config"]["encoder"], "parameters": 103_000}
    if not kind.startswith("probe-"):
        return facts
    read = {"num_features": 64, "layer": layer, "pool": "flatten"}
    return facts | (read if layer == "latent" else read | {"num_features": 9216, "pool": pool})


def _parents(layout: RunLayout, kind: str, layer: str, data: dict[str, Any]) -> list[dict[str, str]]:
    found = [{"kind": "data", "path": data["folder"], "fingerprint": data["fingerprint"]}]
    if kind.startswith("probe-"):
        file = layout.features_of(layer)
        sha = _sha(layout.record(features_stem(layer)), file.name)
        found.append({"kind": "features", "path": str(file), "fingerprint": sha})
    elif layout.checkpoint.exists():
        sha = _sha(layout.manifest, "checkpoint.safetensors")
        found.append({"kind": "checkpoint", "path": str(layout.checkpoint), "fingerprint": sha})
    return found


def _logits(label_N: np.ndarray, quality: float, noise: list[int]) -> np.ndarray:
    """Five fold models: what is hard is hard for all of them, and neighbouring classes are easily confused."""
    shared = np.random.default_rng(7)
    own = np.random.default_rng(noise)
    hard_NK = shared.normal(0, 1.3, (len(label_N), len(CLASSES)))
    hard_NK[np.arange(len(label_N)), (label_N + 2) % len(CLASSES)] += 0.8
    method_NK = own.normal(0, 0.5, hard_NK.shape)
    fold_FNK = own.normal(0, 0.5, (NUM_FOLDS, *hard_NK.shape))
    logit_FNK = hard_NK + method_NK + fold_FNK
    logit_FNK[:, np.arange(len(label_N)), label_N] += quality + 0.05 * own.normal()
    return logit_FNK


def _scores(prob_NK: np.ndarray, label_N: np.ndarray) -> dict[str, float | int]:
    truth_N1 = prob_NK[np.arange(len(label_N)), label_N][:, None]
    rank_N = (prob_NK >= truth_N1).sum(axis=1) - 1
    scores = {f"top{k}": float((rank_N < k).mean()) for k in (1, 2, 4, 5)}
    return scores | {"loss": float(-np.log(truth_N1).mean()), "n": len(label_N)}


def _few_labels(counts: tuple[int, ...], quality: float, seed: int | None) -> list[dict[str, Any]]:
    rng = np.random.default_rng([seed or 0, abs(int(100 * quality))])
    return [
        {"labels_per_class": count, "draw": draw, "num_labels": 10 * count, "n": NUM_TEST, "chosen": {},
         "top1": float(np.clip(0.1 + 0.04 * (1 + quality) * np.log2(1 + count) + rng.normal(0, 0.015), 0, 1)),
         "top2": 0.5, "top4": 0.7, "top5": 0.8, "loss": 2.0}
        for count in counts for draw in range(3)
    ]  # fmt: skip


QUALITY = {"mse": 1.0, "pse3": 1.3, "pse4": 1.55, "pse5": 1.5, "pse6": 1.2}
FEW = (1, 2, 4, 8, 16, 32, 64)


def make_study(
    root: Path, *, names: tuple[str, ...] = tuple(QUALITY), seeds: tuple[int, ...] = (0, 1)
) -> dict[str, Any]:
    """A whole study: losses x seeds, every control, one half-finished run, one broken, one of hostile name."""
    data = make_data(root / "data" / "shapes")
    runs = root / "runs"
    for name in names:
        for seed in seeds:
            make_pretrained(runs, data, name=name, seed=seed)
    for seed in seeds:
        layout = make_run(runs / f"shapes-cnn-random-s{seed}", data, loss=None, seed=seed)
        make_features(layout, data)
        make_result(layout, "probe-linear", data, quality=0.5, seed=seed, curve=FEW)
        make_result(layout, "probe-knn", data, quality=0.4, seed=seed)
        make_result(layout, "fine-tune-frozen", data, quality=0.5, seed=seed)
        make_result(layout, "fine-tune-scratch", data, quality=2.5, seed=seed, protocol={"head": "linear"})
    pixels = make_pixels(runs / "shapes-pixels", data)
    make_result(pixels, "probe-linear", data, quality=0.3, seed=None, curve=FEW)
    make_result(pixels, "probe-knn", data, quality=0.35, seed=None)
    make_run(runs / "shapes-cnn-pse8-s0", data, loss="pse", sigma=8.0, seed=0, status="running")
    broken = make_run(runs / "shapes-cnn-bce-s0", data, loss="bce", seed=0)
    broken.manifest.write_bytes(broken.manifest.read_bytes()[:200])
    hostile = make_run(runs / HOSTILE_FOLDER, data, loss="l1", seed=0)
    make_features(hostile, data)
    make_result(hostile, "probe-linear", data, quality=0.9, seed=0)
    make_result(hostile, "probe-knn", data, quality=0.2, seed=0, status="running")
    return data


def make_pretrained(runs: Path, data: dict[str, Any], *, name: str, seed: int) -> RunLayout:
    """One run of a loss such as pse4, with every sort of result."""
    sigma = float(name[3:]) if name.startswith("pse") else None
    layout = make_run(runs / f"shapes-cnn-{name}-s{seed}", data, loss=name[:3], sigma=sigma, seed=seed)
    quality = QUALITY[name]
    make_features(layout, data)
    make_result(layout, "probe-linear", data, quality=quality, seed=seed, curve=FEW)
    make_result(layout, "probe-knn", data, quality=quality - 0.5, seed=seed)
    make_result(layout, "fine-tune-frozen", data, quality=quality + 0.2, seed=seed)
    make_result(layout, "fine-tune-as-coded-ft", data, quality=quality - 0.2, seed=seed, protocol={"head": "slides"})
    make_result(layout, "fine-tune-full", data, quality=2.4 + 0.2 * quality, seed=seed, protocol={"head": "linear"})
    return layout
