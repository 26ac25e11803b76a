"""`extract-features`: a frozen encoder, or the pixels themselves, over every split into one Parquet file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretext.artifacts.features import assemble_features, write_features
from pretext.artifacts.layout import RunLayout, find_data, find_run
from pretext.artifacts.manifest import Parent, Record, require_done
from pretext.artifacts.results import describe_run
from pretext.artifacts.shards import DataSet, Split, open_data
from pretext.augment import augment_batch
from pretext.config import identity
from pretext.encoders.restore import load_encoder
from pretext.errors import ConfigError, UsageError
from pretext.progress import Progress, Silent, Task
from pretext.stage_configs import ExtractFeaturesConfig
from pretext.training.device import Compute, resolve_compute
from pretext.training.pool import ImagePool, chunk_indices

PART_ROWS = 16_384  # images between two points from which a stopped extraction goes on

Extractor = Callable[[Tensor], Tensor]


def run(config: ExtractFeaturesConfig, *, explicit: Collection[str] = (),
        progress: Progress | None = None) -> dict[str, Any]:  # fmt: skip
    """Extract the features of one run; see `ExtractFeaturesConfig` for the options.

    Args:
        config: The options.
        explicit: Not needed: what is not read was refused when the options were.
        progress: Where progress goes.

    Returns:
        The feature file, status, and facts for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the run, the data or the disk.
    """
    progress = progress or Silent()
    _check_options(config)
    layout, manifest = _find(config)
    data = open_data(find_data(config.data_dir, _data_name(config, manifest)))
    splits = _splits(config, data)
    record = Record(
        layout.record("features"), "extract-features", _request(config, splits), _parents(layout, manifest, data)
    )
    compute = resolve_compute(config.device, config.precision)
    parts_folder = layout.stage_resume("features")
    if config.dry_run:
        return _dry_run(config, layout, data, splits, compute)
    if record.is_done(overwrite=config.overwrite, stale=[parts_folder]):
        return _outcome(layout, record.content, "already done")

    extract = _extractor(config, layout, data, compute)
    num_features = _width(extract, data, compute)
    record.begin(_request(config, splits) | {"precision": compute.precision}, seed=manifest["seed"] if manifest else None,
                 device=compute.name)  # fmt: skip
    header = _header(config, manifest, data, num_features)
    with progress.task("extracting", sum(data.num_images[name] for name in splits), "images") as task:
        parts = [_write_part(parts_folder, number, name, start, data, header, num_features, extract, config, compute, task)
                 for number, (name, start) in enumerate(_part_starts(data, splits))]  # fmt: skip
    rows = assemble_features(layout.features, parts, header, num_features)
    content = record.finish([layout.features], summary={"rows": rows, "num_features": num_features, **header})
    shutil.rmtree(parts_folder, ignore_errors=True)
    return _outcome(layout, content, "done")


def _check_options(config: ExtractFeaturesConfig) -> None:
    if config.run is None and not config.raw_pixels:
        raise UsageError(
            "give the run whose encoder is used, or --raw-pixels", hint="pretext extract-features runs/NAME"
        )
    if config.run is not None and config.raw_pixels:
        raise UsageError(
            "--raw-pixels uses no encoder: give no run with it", hint="pretext extract-features --raw-pixels"
        )


def _find(config: ExtractFeaturesConfig) -> tuple[RunLayout, dict[str, Any] | None]:
    """The run's folder and its manifest; raw pixels have a folder of their own and no manifest of training."""
    if config.run is not None:
        layout = find_run(config.run)
        return layout, require_done(layout.manifest, hint=f"run `pretext pretrain` again to finish {config.run}")
    data = open_data(find_data(config.data_dir, config.data))
    return RunLayout(config.runs_dir / f"{data.name}-pixels"), None


def _data_name(config: ExtractFeaturesConfig, manifest: dict[str, Any] | None) -> str | None:
    return config.data if config.data is not None or manifest is None else str(manifest["summary"]["data"]["name"])


def _splits(config: ExtractFeaturesConfig, data: DataSet) -> list[str]:
    if config.splits == ("all",):
        return list(data.num_images)
    if absent := [name for name in config.splits if name not in data.num_images]:
        raise ConfigError(f"--splits names '{absent[0]}', but data set {data.name} has {', '.join(data.num_images)}")
    return list(dict.fromkeys(config.splits))


def _request(config: ExtractFeaturesConfig, splits: list[str]) -> dict[str, Any]:
    request = {name: value for name, value in identity(config).items() if name not in ("run", "data")}
    return request | {"splits": splits}


def _parents(layout: RunLayout, manifest: dict[str, Any] | None, data: DataSet) -> list[Parent]:
    parents = [Parent("data", str(data.layout.folder), data.fingerprint)]
    if manifest is not None:
        parents.append(
            Parent("checkpoint", str(layout.checkpoint), manifest["outputs"]["checkpoint.safetensors"]["sha256"])
        )
    return parents


def _extractor(config: ExtractFeaturesConfig, layout: RunLayout, data: DataSet,
               compute: Compute) -> Extractor:  # fmt: skip
    """A function from images (B, 3, H, W) in 0..1 to features (B, D) float32."""
    if config.raw_pixels:
        side = min(config.pixel_size or data.image_size, data.image_size)
        return lambda image: F.adaptive_avg_pool2d(image, side).flatten(1)
    encoder = load_encoder(layout.folder).to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.layer not in encoder.layers:
        raise ConfigError(f"--layer '{config.layer}' is no layer of {encoder.name}; it has {', '.join(encoder.layers)}")
    if encoder.image_size != data.image_size:
        raise ConfigError(f"the encoder was trained on {encoder.image_size} px, data set {data.name} has {data.image_size} px",
                          hint=f"pretext prepare-data ... --image-size {encoder.image_size}")  # fmt: skip

    def extract(image01_BCHW: Tensor) -> Tensor:
        with compute.autocast():
            output = encoder.forward_layer(image01_BCHW, config.layer)
        if config.pool == "avg" and output.ndim == 4:
            output = output.mean((2, 3), dtype=torch.float32)
        return output.float().flatten(1)

    return extract


@torch.inference_mode()
def _width(extract: Extractor, data: DataSet, compute: Compute) -> int:
    return int(extract(torch.zeros(1, 3, data.image_size, data.image_size, device=compute.device)).shape[1])


def _header(config: ExtractFeaturesConfig, manifest: dict[str, Any] | None, data: DataSet,
            num_features: int) -> dict[str, Any]:  # fmt: skip
    """What the features are of; a probe needs nothing else to describe its result."""
    facts = describe_run(manifest, data)
    layer = (
        {"layer": config.layer, "pool": config.pool}
        if manifest
        else {"layer": "pixels", "pixel_size": config.pixel_size}
    )
    return facts | {
        "encoder": {**facts["encoder"], **layer, "num_features": num_features},
        "checkpoint": manifest["outputs"]["checkpoint.safetensors"]["sha256"] if manifest else None,
    }


def _part_starts(data: DataSet, splits: list[str]) -> list[tuple[str, int]]:
    return [(name, start) for name in splits for start in range(0, data.num_images[name], PART_ROWS)]


def _write_part(folder: Path, number: int, split: str, start: int, data: DataSet, header: dict[str, Any],
                num_features: int, extract: Extractor, config: ExtractFeaturesConfig, compute: Compute,
                task: Task) -> Path:  # fmt: skip
    """One piece of a split in a file of its own; a piece that is there is whole, and kept."""
    path = folder / f"part-{number:06d}.parquet"
    stop = min(start + PART_ROWS, data.num_images[split])
    if path.exists():
        task.advance(stop - start)
        return path
    images = data.split(split)
    write_features(path, header, num_features, _rows(split, images, start, stop, extract, config, compute, task))
    return path


@torch.inference_mode()
def _rows(split: str, images: Split, start: int, stop: int, extract: Extractor, config: ExtractFeaturesConfig,
          compute: Compute, task: Task) -> Iterator[tuple[str, list[str], np.ndarray, list[list[int]], np.ndarray]]:  # fmt: skip
    ids, labels, folds = images.ids()[start:stop], images.labels()[start:stop], images.folds()[start:stop]
    pool = ImagePool(images, np.arange(start, stop), device=compute.device)
    for index_B, image_BHWC in pool.batches(chunk_indices(stop - start, config.batch_size)):
        feature_BD = extract(augment_batch(image_BHWC, "none", None)).cpu().numpy()
        rows = slice(int(index_B[0]), int(index_B[-1]) + 1)
        task.advance(len(index_B))
        yield split, ids[rows], labels[rows], folds[rows], feature_BD


def _outcome(layout: RunLayout, content: dict[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    return {"output": str(layout.features), "status": status, "rows": summary["rows"], "features": summary["num_features"],
            "layer": summary["encoder"]["layer"], "data": summary["data"]["name"], "seconds": content["wall_seconds"]}  # fmt: skip


@torch.inference_mode()
def _dry_run(config: ExtractFeaturesConfig, layout: RunLayout, data: DataSet, splits: list[str],
             compute: Compute) -> dict[str, Any]:  # fmt: skip
    extract = _extractor(config, layout, data, compute)
    total = sum(data.num_images[name] for name in splits)
    batch = torch.rand(min(config.batch_size, total), 3, data.image_size, data.image_size, device=compute.device)
    for _ in range(2):
        started = time.perf_counter()
        num_features = extract(batch).cpu().shape[1]
        seconds = time.perf_counter() - started
    return {"output": str(layout.features), "status": "dry run", "reads": str(data.layout.folder), "images": total,
            "features": num_features, "expected seconds": seconds * total / len(batch),
            "disk": f"{total * num_features * 4 / 1e9:.3f} GB"}  # fmt: skip
