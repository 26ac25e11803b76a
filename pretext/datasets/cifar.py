"""CIFAR-10 and CIFAR-100 from their binary archives; the pickled "python version" is never read.

Reference: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretext.datasets.base import Rejected, Sample, SplitInfo, check_image_size, check_request, fingerprint_files
from pretext.datasets.download import Archive, Progress, ensure_folder
from pretext.datasets.images import resize_rgb
from pretext.datasets.records import RecordFile, interleave, read_lines
from pretext.errors import DataError

NATIVE_SIZE = 32
PIXEL_BYTES = 3 * NATIVE_SIZE * NATIVE_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarLayout:
    """How one of the two sets lies on disk.

    Args:
        name: Name of the source.
        archive: Where its folder comes from.
        files: The files of each split, in order.
        names_file: Text file with one class name per line.
        num_classes: How many lines that file has.
        label_bytes: Bytes before the pixels of each record; the last of them is the label.
    """

    name: str
    archive: Archive
    files: dict[str, tuple[str, ...]]
    names_file: str
    num_classes: int
    label_bytes: int


CIFAR10 = CifarLayout(
    name="cifar10",
    archive=Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        max_total_bytes=1024**3,
    ),
    files={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    names_file="batches.meta.txt",
    num_classes=10,
    label_bytes=1,
)
CIFAR100 = CifarLayout(
    name="cifar100",
    archive=Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        checksum="md5:03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        max_total_bytes=1024**3,
    ),
    files={"train": ("train.bin",), "test": ("test.bin",)},
    names_file="fine_label_names.txt",
    num_classes=100,
    label_bytes=2,
)


def build_cifar10(
    *, root: Path, offline: bool, image_size: int | None = None, progress: Progress | None = None
) -> CifarSource:
    """Open CIFAR-10 under `root` (the folder that holds `cifar-10-batches-bin/`), fetching it where allowed.

    Args:
        root: The folder that holds the extracted folder, or the archive.
        offline: Whether fetching is forbidden.
        image_size: Side in pixels; None is the native 32.
        progress: Called with (bytes so far, bytes in all or None) during a download.

    Raises:
        DataError: If the files are absent, or not what their names say.
    """
    folder = ensure_folder(CIFAR10.archive, root=root, offline=offline, progress=progress)
    return CifarSource(folder, layout=CIFAR10, image_size=check_image_size(image_size, native=NATIVE_SIZE))


def build_cifar100(
    *, root: Path, offline: bool, image_size: int | None = None, progress: Progress | None = None
) -> CifarSource:
    """Open CIFAR-100 with its 100 fine labels; all else as `build_cifar10`, in `cifar-100-binary/`."""
    folder = ensure_folder(CIFAR100.archive, root=root, offline=offline, progress=progress)
    return CifarSource(folder, layout=CIFAR100, image_size=check_image_size(image_size, native=NATIVE_SIZE))


class CifarSource:
    """One of the two CIFAR sets: 50,000 training and 10,000 test images of 32 x 32 pixels.

    Args:
        folder: The extracted folder, with at least one whole split.
        layout: `CIFAR10` or `CIFAR100`.
        image_size: Side of the squares that `read` yields, in pixels.

    Raises:
        DataError: If no split is there, a split or the class names are incomplete, or a size does not fit.
    """

    def __init__(self, folder: Path, *, layout: CifarLayout, image_size: int) -> None:
        self.name = layout.name
        self.folder = folder
        self.image_size = image_size
        self._layout = layout
        self._batches = {split: batches for split in layout.files if (batches := self._open_split(split))}
        if not self._batches:
            wanted = ", ".join(name for names in layout.files.values() for name in names)
            raise DataError(f"{folder} holds none of {wanted}")
        self.missing = tuple(split for split in layout.files if split not in self._batches)
        self.splits = tuple(
            SplitInfo(name=split, num_images=sum(batch.num_records for batch in batches), labelled=True)
            for split, batches in self._batches.items()
        )
        self.class_names = read_lines(folder / layout.names_file)
        if len(self.class_names) != layout.num_classes:
            raise DataError(
                f"{folder / layout.names_file} has {len(self.class_names)} names, "
                f"{self.name} has {layout.num_classes} classes"
            )

    def read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        """Yield one sample per index, in order.

        Raises:
            DataError: While iterating, if a record's label is not one of the classes.
        """
        return self._read(split, check_request(self, split, indices))

    def fingerprint(self) -> str:
        """Return a sum over name, size and time of every file that is read, and the image size."""
        names = [name for split in self._batches for name in self._layout.files[split]] + [self._layout.names_file]
        files = [(name, self.folder / name) for name in names]
        return fingerprint_files(files, options={"source": self.name, "image_size": self.image_size})

    def _open_split(self, split: str) -> list[RecordFile]:
        paths = [self.folder / name for name in self._layout.files[split]]
        absent = [path.name for path in paths if not path.exists()]
        if len(absent) == len(paths):
            return []
        if absent:
            raise DataError(f"{self.folder} has only a part of the {split} split: {', '.join(absent)} missing")
        return [RecordFile(path, record_bytes=self._layout.label_bytes + PIXEL_BYTES) for path in paths]

    def _read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        batches = self._batches[split]
        end_N = np.cumsum([batch.num_records for batch in batches])
        handles = [batch.path.open("rb", buffering=0) for batch in batches]
        try:
            for index in indices.tolist():
                number = int(np.searchsorted(end_N, index, side="right"))
                batch = batches[number]
                record = batch.read(handles[number], index - int(end_N[number]) + batch.num_records)
                label = int(record[self._layout.label_bytes - 1])
                if label >= self._layout.num_classes:
                    raise DataError(
                        f"{batch.path} has label {label} for {split} image {index}; "
                        f"labels are 0..{self._layout.num_classes - 1}"
                    )
                image_CHW = record[self._layout.label_bytes :].reshape(3, NATIVE_SIZE, NATIVE_SIZE)
                yield Sample(
                    id=f"{split}/{index:05d}",
                    image_HWC=resize_rgb(interleave(image_CHW), image_size=self.image_size),
                    label=label,
                )
        finally:
            for handle in handles:
                handle.close()
