"""Preparation with Lab and all colour spaces' targets, beside the loop over images that research code writes for it.

The stage is the real one, into a fresh folder each time; what it wrote is compared with what the loop found.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree
from skimage.color import rgb2lab
from skimage.transform import resize
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from pretext import world
from pretext.artifacts.layout import DataLayout, targets_stem
from pretext.artifacts.shards import DataSet, open_data
from pretext.bench.measure import Contender, Row, race
from pretext.catalog import COLOR_SPACES
from pretext.color import LAB_LOW, LAB_SPAN
from pretext.color.bins import Points
from pretext.datasets.base import Sample
from pretext.datasets.shapes import build_shapes
from pretext.stage_configs import PrepareDataConfig
from pretext.training.device import Compute

SIZE, JPEG_SIZE, TARGET = 96, 256, 12
DRAWN = 400
BINARY_IMAGES, JPEG_IMAGES = 14_400, 3600  # so many that starting processes is a small part
LOOP_IMAGES, LOADER_IMAGES = 200, 400
AGREEMENT = 0.999  # the rest lies on the edge of a bin, where float32 and float64 may differ
SPACES = tuple(COLOR_SPACES)

Colors = dict[str, np.ndarray]
"""What is found of one image, or of all: "image", "lab" and the bins of each space under its name."""


def measure(compute: Compute) -> Iterator[Row]:
    """Rows of the part `data`, all on the processor's cores: STL-10's binary files, and a folder of JPEGs of 256 px."""
    with tempfile.TemporaryDirectory(prefix="pretext-bench-") as name:
        root = Path(name)
        image_NHWC = draw_images(DRAWN)
        binary = write_binary(root / "stl10_binary", image_NHWC, BINARY_IMAGES)
        write_jpegs(root / "pictures", image_NHWC, JPEG_IMAGES)
        stl10 = Stage(root / "data", BINARY_IMAGES, {"source": "stl10", "root": root, "offline": True})
        folder = Stage(root / "data", JPEG_IMAGES, {"source": "folder", "path": root / "pictures"})
        yield from _rows("STL-10's files", stl10, ColoredImages(BinaryImages(binary)), compute)
        yield from _rows(f"JPEGs of {JPEG_SIZE} px", folder, ColoredImages(JpegImages(root / "pictures")), compute)


def _rows(what: str, stage: Stage, dataset: ColoredImages, compute: Compute) -> Iterator[Row]:
    cores = world.cores()
    colors = Contender(f"{what}, Lab and {len(SPACES)} spaces", partial(stage, SPACES), stage.count)
    loop = Contender("plain loop in one process", partial(run_loop, dataset, LOOP_IMAGES), LOOP_IMAGES, 8)
    loader = Contender(f"the same in a DataLoader, {cores} workers", partial(run_loader, dataset, LOADER_IMAGES, cores),
                       LOADER_IMAGES)  # fmt: skip
    alone = Contender("images alone", partial(stage, ("none",)), stage.count, 0.5)
    yield from race(colors, loop, loader, alone, part="data", unit="images", device=compute.device, seconds=0,
               note=f"the loop is Pillow or numpy, then scikit-image and scipy, over {LOOP_IMAGES} images; this has {cores} cores")  # fmt: skip
    stage(SPACES)
    check_agreement(stage.data, run_loop(dataset, LOOP_IMAGES))


def draw_images(count: int) -> np.ndarray:
    """Shapes with noise on them, as photographs have it; (N, H, W, 3) uint8."""
    source = build_shapes(image_size=SIZE, num_unlabeled=count, num_train=0, num_test=0, seed=0)
    noise_HWC = np.random.default_rng(0).integers(-12, 13, (SIZE, SIZE, 3))
    drawn = (sample for sample in source.read("unlabeled", np.arange(count)) if isinstance(sample, Sample))
    return np.stack([(sample.image_HWC + np.roll(noise_HWC, number, (0, 1))).clip(0, 255).astype(np.uint8)
                     for number, sample in enumerate(drawn)])  # fmt: skip


def write_binary(folder: Path, image_NHWC: np.ndarray, count: int) -> Path:
    """Images in STL-10's format: channels, then columns, then rows; the same ones again and again."""
    folder.mkdir()
    block = np.ascontiguousarray(image_NHWC.transpose(0, 3, 2, 1))
    path = folder / "unlabeled_X.bin"
    with path.open("wb") as file:
        for start in range(0, count, len(block)):
            file.write(block[: count - start].tobytes())
    return path


def write_jpegs(folder: Path, image_NHWC: np.ndarray, count: int) -> None:
    """Images as JPEGs in a folder of one class; the same ones again and again."""
    (folder / "all").mkdir(parents=True)
    names = [folder / "all" / f"{number:06d}.jpg" for number in range(count)]
    for name, image_HWC in zip(names, image_NHWC, strict=False):
        Image.fromarray(image_HWC).resize((JPEG_SIZE, JPEG_SIZE)).save(name, quality=92)
    for number in range(len(image_NHWC), count):
        shutil.copyfile(names[number % len(image_NHWC)], names[number])


class Stage:
    """The package's way: the stage itself, each time into a folder that was not there.

    Args:
        folder: That folder.
        count: How many images the source has.
        options: What names the source.
    """

    def __init__(self, folder: Path, count: int, options: dict[str, Any]) -> None:
        self.count, self._folder = count, folder
        shard_mb = count * SIZE**2 * 3 / (2 * world.cores()) / 1e6  # every core has as many shards to do
        self._options: dict[str, Any] = {"image_size": SIZE, "target_size": TARGET, "shard_mb": shard_mb,
                                         "data_dir": folder, "name": "data"} | options  # fmt: skip
        self._run = importlib.import_module("pretext.stages.prepare_data").run  # one floor up

    def __call__(self, spaces: tuple[str, ...]) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.sync()  # or this run would wait until the disk has what the last one wrote
        self._run(PrepareDataConfig(**self._options, color_space=spaces))

    @property
    def data(self) -> DataSet:
        return open_data(DataLayout(self._folder / "data"))


def run_loop(dataset: ColoredImages, count: int) -> Colors:
    """The plain way: image by image, in one process."""
    return _save(dataset[number] for number in range(count))


def run_loader(dataset: ColoredImages, count: int, workers: int) -> Colors:
    """The plain way in worker processes."""
    loader: DataLoader[Colors] = DataLoader(Subset(dataset, range(count)), batch_size=32, num_workers=workers)
    return _save({name: value[row].numpy() for name, value in batch.items()}
                 for batch in loader for row in range(len(batch["image"])))  # fmt: skip


def _save(images: Iterable[Colors]) -> Colors:
    """Append to lists what is found image by image, and save it as arrays."""
    found: dict[str, list[np.ndarray]] = {}
    for colors in images:
        for name, value in colors.items():
            found.setdefault(name, []).append(value)
    arrays = {name: np.stack(values) for name, values in found.items()}
    with tempfile.TemporaryDirectory(prefix="pretext-bench-") as folder:
        for name, array in arrays.items():
            np.save(Path(folder, f"{name}.npy"), array)
    return arrays


class BinaryImages:
    """STL-10's images, one by one from its file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, number: int) -> np.ndarray:
        with self._path.open("rb") as file:
            file.seek(number * SIZE**2 * 3)
            return np.fromfile(file, np.uint8, SIZE**2 * 3).reshape(3, SIZE, SIZE).transpose(2, 1, 0)


class JpegImages:
    """Pictures of class folders, decoded and made small by Pillow through torchvision."""

    def __init__(self, folder: Path) -> None:
        bicubic = transforms.InterpolationMode.BICUBIC
        self._dataset = ImageFolder(
            folder, transforms.Compose([transforms.Resize(SIZE, bicubic), transforms.CenterCrop(SIZE)])
        )

    def __getitem__(self, number: int) -> np.ndarray:
        return np.array(self._dataset[number][0])


class ColoredImages(Dataset[Colors]):
    """Images with their colours in Lab and their bins in every colour space, by scikit-image, numpy and scipy."""

    def __init__(self, images: Any) -> None:
        self._images = images
        self._spaces = {name: COLOR_SPACES[name].load()() for name in SPACES}
        self._binners = {name: [_binner(code) for code in space.codes] for name, space in self._spaces.items()}

    def __getitem__(self, number: int) -> Colors:
        image_HWC = self._images[number]
        lab_HWC = rgb2lab(image_HWC)
        code_HWC = np.round((lab_HWC - LAB_LOW) / LAB_SPAN * 255).clip(0, 255).astype(np.uint8)
        small = {space: resize(value_HWC, (TARGET, TARGET), order=1, anti_aliasing=True, preserve_range=True)
                 for space, value_HWC in (("rgb", image_HWC / 255), ("lab", lab_HWC))}  # fmt: skip
        found = {"image": np.ascontiguousarray(image_HWC), "lab": code_HWC}
        for name, space in self._spaces.items():
            small_SSC = small[space.image_space]
            bins = [binner(small_SSC[..., space.channels(group)]) for group, binner in enumerate(self._binners[name])]
            found[f"bins of {name}"] = np.stack(bins).astype(np.int16)
        return found


def _binner(code: Any) -> Callable[[np.ndarray], np.ndarray]:
    """How a group of channels (S, S, C) becomes bins (S, S), in plain numpy and scipy."""
    if isinstance(code, Points):
        tree = cKDTree(code.centres)
        return lambda value_SSC: tree.query(value_SSC)[1]

    def digitize(value_SSC: np.ndarray) -> np.ndarray:
        spans = code.spans or [(value_SS.min(), value_SS.max() + 1) for value_SS in np.moveaxis(value_SSC, -1, 0)]
        index_SS = np.zeros(value_SSC.shape[:2], np.int64)
        for value_SS, count, (low, high) in zip(np.moveaxis(value_SSC, -1, 0), code.counts, spans, strict=True):
            step_SS = np.digitize(value_SS, np.linspace(low, high, count + 1)) - 1
            index_SS = index_SS * count + step_SS.clip(0, count - 1)
        return index_SS

    return digitize


def check_agreement(data: DataSet, plain: Colors) -> None:
    """What the stage wrote is what the plain way found, but for rounding.

    Raises:
        AssertionError: If a pixel differs, or more than 0.1 % of Lab's codes or of some space's bins.
    """
    (split,) = data.num_images
    index_N = np.arange(len(plain["image"]))
    assert np.array_equal(data.split(split).images.read(index_N), plain["image"])
    rows = {"lab": data.lab(split)} | {
        f"bins of {name}": data.targets(split, targets_stem(name, TARGET)) for name in SPACES
    }
    for name, of in rows.items():
        assert of is not None
        share = float((of.read(index_N) == plain[name]).mean())
        assert share >= AGREEMENT, f"{name}: only {share:.4%} are the same"
