"""What features cost: from the memory map to Parquet, beside the network alone, and beside the way that scripts do it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import to_tensor

from pretext import world
from pretext.artifacts.features import read_split
from pretext.artifacts.layout import LATENT
from pretext.artifacts.shards import Shard, Split, write_shard
from pretext.bench.measure import Contender, Row, race
from pretext.catalog import ENCODERS
from pretext.encoders.base import Encoder
from pretext.tasks.extraction import SplitReader, as_stored
from pretext.tasks.pooling import pool_map
from pretext.training.device import Compute

SIZE, SECONDS = 96, 6.0
BATCH, PLAIN_BATCH = 256, 64  # the defaults of the stage, and of scripts
WIDTHS = {"cpu": {"cnn": 1.0, "resnet18": 0.25}, "cuda": {"cnn": 1.0, "resnet18": 1.0}}
IMAGES = {"cpu": {"cnn": 4096, "resnet18": 1536}, "cuda": {"cnn": 65536, "resnet18": 32768}}
PLAIN_IMAGES = {"cpu": 256, "cuda": 8192}
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}  # of features' norm, where arithmetics differ


def measure(compute: Compute) -> Iterator[Row]:
    """Rows of the part `features`: encoders as a random control has them, over images of noise."""
    counts = IMAGES[compute.device.type]
    with tempfile.TemporaryDirectory(prefix="pretext-bench-") as name:
        split = draw_split(Path(name), max(counts.values()))
        for encoder, count in counts.items():
            work = Extraction(encoder, split, compute, Path(name))
            what = f"features of {_shown(encoder, compute)}, batches of {BATCH}, {compute.precision}"
            yield from _beside_network(what, work, count)
            if encoder == "cnn":
                yield from _beside_script(what, work, PLAIN_IMAGES[compute.device.type])


def _shown(encoder: str, compute: Compute) -> str:
    width = WIDTHS[compute.device.type][encoder]
    return f"{encoder} of {SIZE} px" + (f" and width {width:g}" if width != 1 else "")


def draw_split(folder: Path, count: int) -> Split:
    """Prepared images of noise in one shard."""
    generator = np.random.default_rng(0)
    rows = (
        (f"train/{number}", generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8), None, ()) for number in range(count)
    )
    write_shard(folder / "images.arrow", rows, image_size=SIZE)
    return Split([Shard(folder / "images.arrow")], SIZE)


class Extraction:
    """Ways to the same features, each called with the number of images.

    Args:
        name: The encoder's.
        split: The images.
        compute: Where, in which arithmetic.
        folder: Where files go.
    """

    def __init__(self, name: str, split: Split, compute: Compute, folder: Path) -> None:
        self.split, self.compute, self.folder = split, compute, folder
        self._encoder = build_encoder(name, compute).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._plain_encoder = build_encoder(name, compute)
        self._batch_BHWC = torch.from_numpy(split.images.read(np.arange(min(BATCH, len(split))))).to(compute.device)

    def extract(self, image01_BCHW: Tensor) -> Tensor:
        """As the stage does it."""
        with self.compute.autocast():
            feature_BD = self._encoder.encode(image01_BCHW, LATENT)
        return pool_map(feature_BD, "flatten")

    def to_parquet(self, count: int) -> Path:
        """The package's way: the stage's own, from the memory map to a file."""
        path, width = self.folder / "features.parquet", self._encoder.num_features
        reader = SplitReader("train", self.split, self.split.images, self.extract, width, BATCH, self.compute.device)
        reader.write(path, {}, 0, count, lambda done: None)
        return path

    @torch.inference_mode()
    def alone(self, count: int) -> Tensor:
        """The network on one batch of bytes that lies on the device, again and again; returns the last features."""
        for start in range(0, count, BATCH):
            feature_BD = self.extract(as_stored(self._batch_BHWC[: count - start]))
        return feature_BD

    @torch.no_grad()
    def by_script(self, count: int) -> Path:
        """The way of research code: Pillow in a DataLoader, float32, all features in a list, one file of numpy."""
        loader = DataLoader(PillowImages(self.split, count), batch_size=PLAIN_BATCH, num_workers=world.cores())
        found = [self._plain_encoder(image01_BCHW.to(self.compute.device)).cpu() for image01_BCHW in loader]
        path = self.folder / "features.npy"
        np.save(path, torch.cat(found).numpy())
        return path

    def flops(self) -> float:
        """Multiplications and additions for each image."""
        with FlopCounterMode(display=False) as counter:
            self.alone(1)
        return counter.get_total_flops()


def build_encoder(name: str, compute: Compute) -> Encoder:
    """An encoder with the same random weights in every call."""
    torch.manual_seed(0)
    row = ENCODERS[name]
    encoder: Encoder = row.load()(image_size=SIZE, **{**row.reads, "width": WIDTHS[compute.device.type][name]})
    return encoder.eval().to(compute.device)


class PillowImages(Dataset[Tensor]):
    """A data set as torchvision has them."""

    def __init__(self, split: Split, count: int) -> None:
        self._split, self._count = split, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Tensor:
        return to_tensor(Image.fromarray(self._split.images.read(np.array([number]))[0]))


def _beside_network(what: str, work: Extraction, count: int) -> list[Row]:
    few = min(BATCH, count)
    _check(_read(work.to_parquet(few)), work.alone(few).cpu().numpy(), 1e-6)
    return race(
        Contender(what, partial(work.to_parquet, count), count),
        Contender("the network alone, on one batch on the device", partial(work.alone, count), count, 0.97),
        part="features", unit="images", device=work.compute.device, seconds=SECONDS,
        flops_each=work.flops(), arithmetic=work.compute.precision,
        note=f"the first also reads shards and writes a Parquet file to disk, for {count} images",
    )  # fmt: skip


def _beside_script(what: str, work: Extraction, count: int) -> list[Row]:
    _check(_read(work.to_parquet(count)), np.load(work.by_script(count)), TOLERANCE[work.compute.precision])
    return race(
        Contender(f"{what}, {count} images", partial(work.to_parquet, count), count),
        Contender("Pillow in a DataLoader, float32, torch.cat, numpy.save", partial(work.by_script, count), count),
        part="features", unit="images", device=work.compute.device, seconds=0,
    )  # fmt: skip


def _read(path: Path) -> np.ndarray:
    split = read_split(path, "train")
    assert split is not None
    return split.feature_ND


def _check(found_ND: np.ndarray, expected_ND: np.ndarray, tolerance: float) -> None:
    difference = np.linalg.norm(found_ND - expected_ND) / np.linalg.norm(expected_ND)
    assert difference < tolerance, f"features differ by {difference:.2g} of their norm"
