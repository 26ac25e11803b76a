"""`extract-features`: a frozen encoder or network, or the pixels themselves, over every split, one Parquet file a layer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pretext import world
from pretext.artifacts.features import assemble_features
from pretext.artifacts.layout import LATENT, RunLayout, features_stem, find_data, find_run
from pretext.artifacts.manifest import UNREAD, Parent, Record, require_done
from pretext.artifacts.results import describe_run
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet, open_data
from pretext.catalog import NETWORKS
from pretext.config import identity
from pretext.datasets.download import show_download
from pretext.encoders.base import Encoder
from pretext.encoders.restore import load_encoder
from pretext.errors import ConfigError, UsageError
from pretext.perceptual.networks import FeatureNetwork, build_network, is_run
from pretext.perceptual.weights import unless_absent
from pretext.progress import Progress, Silent
from pretext.stage_configs import ExtractFeaturesConfig
from pretext.tasks.extraction import Part, Reader, SplitReader
from pretext.tasks.pooling import pool_map
from pretext.training.device import Compute, resolve_compute
from pretext.training.views import own_input, rows_for


@dataclass(frozen=True, slots=True)
class Work:
    """What every piece of the features shares.

    Args:
        config: The options.
        data: The data set.
        rows: The stored images of each split.
        space: What they are in, "rgb" or "lab".
        extract: From those images (B, 3, H, W) in 0..1 to features (B, D) float32.
        compute: Where it happens.
        map_shape: (C, H, W) of the map that is stored flattened; None where no map is, or its mean, or a resized one.
        num_features: D.
        network: The network whose features they are, if they are no run's.
    """

    config: ExtractFeaturesConfig
    data: DataSet
    rows: dict[str, Rows]
    space: str
    extract: Reader
    compute: Compute
    map_shape: tuple[int, ...] | None
    num_features: int
    network: FeatureNetwork | None


def run(config: ExtractFeaturesConfig, *, explicit: Collection[str] = (),
        progress: Progress | None = None) -> dict[str, Any]:  # fmt: skip
    """Extract the features of one run; see `ExtractFeaturesConfig` for the options.

    Args:
        config: The options.
        explicit: Which of them the user gave; one that is not read is then an error.
        progress: Where progress goes.

    Returns:
        The feature file, status, and facts for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the run, the data or the disk.
    """
    progress = progress or Silent()
    _check_options(config, explicit)
    layout, manifest = _find(config)
    data = open_data(find_data(config.data_dir, _data_name(config, manifest)))
    splits = _splits(config, data)
    stem, output = features_stem(config.layer), layout.features_of(config.layer)
    compute = resolve_compute(config.device, config.precision)
    build = partial(_network, config, data, progress)
    network = unless_absent(build)
    record = Record(layout.record(stem), "extract-features", _request(config, splits),
                    _parents(config, layout, manifest, data, network))  # fmt: skip
    parts_folder = layout.stage_resume(stem)
    if config.dry_run:
        return _dry_run(_work(config, layout, data, splits, compute, network), output)
    if record.is_done(overwrite=config.overwrite, stale=[parts_folder]):
        _remove(parts_folder)  # left by a kill after the work was done
        return _outcome(output, record.content, "already done")

    if config.network is not None and network is None:  # its weights are not here yet: the first rank alone downloads
        network = world.first_then_others(partial(build, config.offline))
        record.parents = _parents(config, layout, manifest, data, network)
    work = _work(config, layout, data, splits, compute, network)
    record.begin(_request(config, splits) | {"precision": compute.precision, "reads": work.space},
                 seed=_seed(config, manifest), device=compute.name)  # fmt: skip
    header, parts = _header(work, manifest), _parts(work, parts_folder)
    own = world.share(parts)
    with progress.task("extracting", sum(map(len, own)), "images") as task:
        for part in own:
            part.write(header, task.advance)
    world.wait()
    files = [part.path for part in parts]
    rows = world.from_first(lambda: assemble_features(output, files, header, work.num_features))
    content = record.finish([output], summary={"rows": rows, "num_features": work.num_features, **header})
    _remove(parts_folder)
    return _outcome(output, content, "done")


def _remove(parts_folder: Path) -> None:
    if world.is_first():
        shutil.rmtree(parts_folder, ignore_errors=True)


def _check_options(config: ExtractFeaturesConfig, explicit: Collection[str]) -> None:
    given = [word for word, value in (("a run", config.run), ("--network", config.network),
                                      ("--raw-pixels", config.raw_pixels or None)) if value is not None]  # fmt: skip
    if not given:
        raise UsageError("give the run whose encoder is used, or --network, or --raw-pixels",
                         hint="pretext extract-features runs/NAME")  # fmt: skip
    if len(given) > 1:
        raise UsageError(f"features are of one thing: give either {' or '.join(given)}",
                         hint="pretext extract-features runs/NAME")  # fmt: skip
    if config.run is not None and "runs_dir" in explicit:
        raise ConfigError("--runs-dir is read only without a run; its features go to the run's own folder")
    if config.raw_pixels and "layer" in explicit:
        raise ConfigError("--layer is read only without --raw-pixels")
    if config.network is None:
        return
    if is_run(config.network):
        raise ConfigError(f"--network {config.network} is the folder of a run; that is given without --network",
                          hint=f"pretext extract-features {config.network} --layer ...")  # fmt: skip
    if "seed" in explicit and config.network_weights != "random":
        raise ConfigError("--seed is that of random weights; it is read only with --network-weights random")
    if config.layer == LATENT:
        raise UsageError("--network needs --layer: 1 to 4, or a node of torchvision's graph",
                         hint=f"pretext extract-features --network {config.network} --layer 2")  # fmt: skip
    if config.precision == "bf16":
        raise ConfigError("--precision bf16 is for the encoders of runs; a --network computes in fp32")


def _find(config: ExtractFeaturesConfig) -> tuple[RunLayout, dict[str, Any] | None]:
    """The run's folder and its manifest; pixels and networks have a folder of their own and no manifest of training."""
    if config.run is not None:
        layout = find_run(config.run)
        return layout, require_done(layout.manifest, hint=f"run `pretext pretrain` again to finish {config.run}")
    data = open_data(find_data(config.data_dir, config.data))
    words = [data.name, "pixels" if config.network is None else NETWORKS[config.network].name]
    if config.network is not None:
        words += ["random", *([f"s{config.seed}"] if config.seed else [])] if config.network_weights == "random" else []
        words += ["unnormalized"] if config.normalize == "none" else []
    return RunLayout(config.runs_dir / "-".join(words)), None


def _seed(config: ExtractFeaturesConfig, manifest: dict[str, Any] | None) -> int | None:
    """The seed of the weights; published ones and pixels have none."""
    own = config.seed if config.network is not None and config.network_weights == "random" else None
    return own if manifest is None else manifest["seed"]


def _network(config: ExtractFeaturesConfig, data: DataSet, progress: Progress, offline: bool) -> FeatureNetwork | None:
    """The network asked for, cut behind the layer; a dry run has it with random weights, so that it downloads nothing."""
    if (name := config.network) is None:
        return None
    with show_download(progress) as tell:
        return build_network(name, layers=[config.layer], weights_dir=config.weights_dir, progress=tell, offline=offline,
                             weights="random" if config.dry_run else config.network_weights,
                             normalize=config.normalize, seed=config.seed)  # fmt: skip


def _data_name(config: ExtractFeaturesConfig, manifest: dict[str, Any] | None) -> str | None:
    return config.data if config.data is not None or manifest is None else str(manifest["summary"]["data"]["name"])


def _splits(config: ExtractFeaturesConfig, data: DataSet) -> list[str]:
    if config.splits == ("all",):
        return list(data.num_images)
    if absent := [name for name in config.splits if name not in data.num_images]:
        raise ConfigError(f"--splits names '{absent[0]}', but data set {data.name} has {', '.join(data.num_images)}")
    return list(dict.fromkeys(config.splits))


def _request(config: ExtractFeaturesConfig, splits: list[str]) -> dict[str, Any]:
    unread = {"run", "data"} | ({"max_features"} if config.pool != "resize" else set())
    network_only = {"network", "network_weights", "normalize"}
    unread |= network_only if config.network is None else {"raw_pixels", "pixel_size", "precision"}
    unread |= {"seed"} if _seed(config, None) is None else set()
    return {name: value for name, value in identity(config).items() if name not in unread} | {"splits": splits}


def _parents(config: ExtractFeaturesConfig, layout: RunLayout, manifest: dict[str, Any] | None, data: DataSet,
             network: FeatureNetwork | None) -> list[Parent]:  # fmt: skip
    parents = [Parent("data", str(data.layout.folder), data.fingerprint)]
    if manifest is not None:
        parents.append(
            Parent("checkpoint", str(layout.checkpoint), manifest["outputs"]["checkpoint.safetensors"]["sha256"])
        )
    if config.network is not None:
        fingerprint = UNREAD if network is None else network.facts["fingerprint"]
        parents.append(Parent("weights", NETWORKS[config.network].name, fingerprint))
    return parents


@torch.inference_mode()
def _work(config: ExtractFeaturesConfig, layout: RunLayout, data: DataSet, splits: list[str], compute: Compute,
          network: FeatureNetwork | None) -> Work:  # fmt: skip
    """Bring images and encoder together.

    Raises:
        ConfigError: If the encoder has no such layer, or sees images of another size.
    """
    encoder = None if config.run is None else _encoder(config, layout, data)
    wanted = "rgb" if encoder is None else encoder.input_space
    rows = {name: rows_for(data, name, wanted, colour_changes=False) for name in splits}
    _, space = rows[splits[0]]
    if encoder is not None:
        read = _read_encoder(config, encoder, space, compute)
    else:
        read = _read_pixels(config, data) if network is None else _read_network(network, compute)

    def extract(image01_BCHW: Tensor) -> Tensor:
        return pool_map(read(image01_BCHW), config.pool, max_features=config.max_features)

    try:
        one = read(torch.zeros(1, 3, data.image_size, data.image_size, device=compute.device))
    except ValueError as error:
        raise ConfigError(f"data set {data.name}: {error}", hint="a larger --image-size of prepare-data") from error
    return Work(config, data, {name: images for name, (images, _) in rows.items()}, space, extract, compute,
                map_shape=tuple(one.shape[1:]) if one.ndim == 4 and config.pool == "flatten" else None,
                num_features=pool_map(one, config.pool, max_features=config.max_features).shape[1], network=network)  # fmt: skip


def _encoder(config: ExtractFeaturesConfig, layout: RunLayout, data: DataSet) -> Encoder:
    encoder = load_encoder(layout.folder)
    if config.layer not in encoder.layers:
        raise ConfigError(f"--layer '{config.layer}' is no layer of {encoder.name}; it has {', '.join(encoder.layers)}")
    if encoder.image_size != data.image_size:
        raise ConfigError(f"the encoder was trained on {encoder.image_size} px, data set {data.name} has {data.image_size} px",
                          hint=f"pretext prepare-data ... --image-size {encoder.image_size}")  # fmt: skip
    return encoder


def _read_encoder(config: ExtractFeaturesConfig, encoder: Encoder, space: str, compute: Compute) -> Reader:
    encoder = encoder.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def read(image01_BCHW: Tensor) -> Tensor:
        with compute.autocast():
            return encoder.encode(own_input(encoder, image01_BCHW, space), config.layer)

    return read


def _read_network(network: FeatureNetwork, compute: Compute) -> Reader:
    network = network.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda image01_BCHW: network(image01_BCHW)[0]


def _read_pixels(config: ExtractFeaturesConfig, data: DataSet) -> Reader:
    side = min(config.pixel_size or data.image_size, data.image_size)
    return lambda image01_BCHW: F.adaptive_avg_pool2d(image01_BCHW, side)


def _header(work: Work, manifest: dict[str, Any] | None) -> dict[str, Any]:
    """What the features are of; a probe needs nothing else to describe its result."""
    facts, config = describe_run(manifest, work.data), work.config
    encoder: dict[str, Any] = {"layer": "pixels", "pixel_size": config.pixel_size}
    if not config.raw_pixels:
        encoder = {"layer": config.layer, "pool": config.pool}
        encoder |= {"max_features": config.max_features} if config.pool == "resize" else {}
    if work.network is not None:
        random = config.network_weights == "random"
        encoder |= {"name": work.network.name, "weights": config.network_weights, "normalize": config.normalize}
        facts |= {
            "objective": {"name": "random" if random else "supervised ImageNet-1K"},
            "network": work.network.facts,
        }
    return facts | {
        "encoder": {**facts["encoder"], **encoder, "num_features": work.num_features},
        "seed": _seed(config, manifest),
        "checkpoint": manifest["outputs"]["checkpoint.safetensors"]["sha256"] if manifest else None,
        "map_shape": work.map_shape and list(work.map_shape),
    }


def _parts(work: Work, folder: Path) -> list[Part]:
    readers = [SplitReader(name, work.data.split(name), rows, work.extract, work.num_features, work.config.batch_size,
                           work.compute.device) for name, rows in work.rows.items()]  # fmt: skip
    return [part for reader in readers for part in reader.parts(folder)]


def _outcome(output: Path, content: dict[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    return {"output": str(output), "status": status, "rows": summary["rows"], "features": summary["num_features"],
            "layer": summary["encoder"]["layer"], "data": summary["data"]["name"], "seconds": content["wall_seconds"]}  # fmt: skip


@torch.inference_mode()
def _dry_run(work: Work, output: Path) -> dict[str, Any]:
    total = sum(len(rows) for rows in work.rows.values())
    size = work.data.image_size
    batch = torch.rand(min(work.config.batch_size, total), 3, size, size, device=work.compute.device)
    for _ in range(2):
        started = time.perf_counter()
        work.extract(batch).cpu()
        seconds = time.perf_counter() - started
    return {"output": str(output), "status": "dry run", "reads": str(work.data.layout.folder), "images": total,
            "features": work.num_features, "expected seconds": seconds * total / len(batch),
            "disk": f"{total * work.num_features * 4 / 1e9:.3f} GB"}  # fmt: skip
