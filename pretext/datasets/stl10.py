"""STL-10 from its official binary files, upright, with its ten official folds.

Reference: Coates, Lee and Ng 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pretext.datasets.base import Rejected, Sample, SplitInfo, check_image_size, check_request, fingerprint_files
from pretext.datasets.download import Archive, Progress, ensure_folder
from pretext.datasets.images import resize_rgb
from pretext.datasets.records import RecordFile, interleave, read_lines
from pretext.errors import DataError, UnreadableError

ARCHIVE = Archive(
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    checksum="md5:91f7769df0f17e558f3565bffb0c7dfb",
    folder="stl10_binary",
    max_total_bytes=4 * 1024**3,
)
NATIVE_SIZE = 96
RECORD_BYTES = 3 * NATIVE_SIZE * NATIVE_SIZE
SPLITS = ("unlabeled", "train", "test")
CLASS_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
NUM_FOLDS, FOLD_SIZE, FOLD_SIZE_PER_CLASS = 10, 1000, 100


def build_stl10(
    *, root: Path, offline: bool, image_size: int | None = None, progress: Progress | None = None
) -> Stl10Source:
    """Open STL-10 under `root`, fetching it first where that is needed and allowed.

    Args:
        root: The folder that holds `stl10_binary/`.
        offline: Whether fetching is forbidden.
        image_size: Side in pixels; None is the native 96.
        progress: Called with (bytes so far, bytes in all or None) during a download.

    Raises:
        DataError: If the files are absent, or not what their names say.
    """
    folder = ensure_folder(ARCHIVE, root=root, offline=offline, progress=progress)
    return Stl10Source(folder, image_size=check_image_size(image_size, native=NATIVE_SIZE))


class Stl10Source:
    """STL-10: 100,000 unlabelled, 5,000 training and 8,000 test images; a fold trains on 1,000 of the 5,000.

    Without `fold_indices.txt` no sample has folds, and `num_folds` is 0.

    Args:
        folder: `stl10_binary/`, with at least one of the three image files.
        image_size: Side of the squares that `read` yields, in pixels.

    Raises:
        DataError: If no split is there, labels are absent or wrong, or a size does not fit.
    """

    name = "stl10"

    def __init__(self, folder: Path, *, image_size: int) -> None:
        self.folder = folder
        self.image_size = image_size
        self._images = {
            split: RecordFile(folder / f"{split}_X.bin", record_bytes=RECORD_BYTES)
            for split in SPLITS
            if (folder / f"{split}_X.bin").exists()
        }
        if not self._images:
            raise DataError(f"{folder} holds none of " + ", ".join(f"{split}_X.bin" for split in SPLITS))
        self.missing = tuple(split for split in SPLITS if split not in self._images)
        self.class_names = self._read_class_names()
        self._labels = {split: self._read_labels(split) for split in self._images if split != "unlabeled"}
        self.splits = tuple(
            SplitInfo(name=split, num_images=images.num_records, labelled=split in self._labels)
            for split, images in self._images.items()
        )
        self._folds = self._read_folds()
        self.num_folds = NUM_FOLDS if self._folds else 0

    def read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        """Yield one sample per index, in order. Image bytes are read as they are needed."""
        return self._read(split, check_request(self, split, indices))

    def fingerprint(self) -> str:
        """Return a sum over name, size and time of every file that is read, and the image size."""
        names = [f"{split}_{part}.bin" for split in SPLITS for part in "Xy"] + ["class_names.txt", "fold_indices.txt"]
        files = [(name, self.folder / name) for name in names if (self.folder / name).exists()]
        return fingerprint_files(files, options={"source": self.name, "image_size": self.image_size})

    def _read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        images, labels = self._images[split], self._labels.get(split)
        with images.path.open("rb", buffering=0) as handle:
            for index in indices.tolist():
                # on disk: channels, then columns, then rows
                image_CWH = images.read(handle, index).reshape(3, NATIVE_SIZE, NATIVE_SIZE)
                yield Sample(
                    id=f"{split}/{index:05d}",
                    image_HWC=resize_rgb(interleave(image_CWH.transpose(0, 2, 1)), image_size=self.image_size),
                    label=None if labels is None else int(labels[index]),
                    folds=self._folds.get(index, ()) if split == "train" else (),
                )

    def _read_class_names(self) -> tuple[str, ...]:
        path = self.folder / "class_names.txt"
        if not path.exists():
            return CLASS_NAMES
        names = read_lines(path)
        if len(names) != len(CLASS_NAMES):
            raise DataError(f"{path} has {len(names)} names, STL-10 has {len(CLASS_NAMES)} classes")
        return names

    def _read_labels(self, split: str) -> np.ndarray:
        path = self.folder / f"{split}_y.bin"
        if not path.exists():
            raise DataError(f"{path} is missing: {split}_X.bin is there, its labels are not")
        num_labels, num_images = path.stat().st_size, self._images[split].num_records
        if num_labels != num_images:
            raise DataError(f"{path} has {num_labels} labels for the {num_images} images of {split}_X.bin")
        try:  # np.fromfile would pass over an error of the disk, and return fewer
            label_N = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        except OSError as error:
            raise UnreadableError(f"{path} can't be read: {error.strerror}") from error
        wrong = np.flatnonzero((label_N < 1) | (label_N > len(CLASS_NAMES)))
        if len(wrong) > 0:
            raise DataError(f"{path} has label {label_N[wrong[0]]} at {wrong[0]}; labels on disk are 1..10")
        return label_N - 1

    def _read_folds(self) -> dict[int, tuple[int, ...]]:
        """Return the folds of each training image that has any."""
        path = self.folder / "fold_indices.txt"
        if "train" not in self._images or not path.exists():
            return {}
        lines = read_lines(path)
        if len(lines) != NUM_FOLDS:
            raise DataError(f"{path} has {len(lines)} lines, expected {NUM_FOLDS} folds")
        folds: dict[int, tuple[int, ...]] = {}
        for fold, line in enumerate(lines):
            for index in self._check_fold(path, fold, line):
                folds[index] = (*folds.get(index, ()), fold)
        return folds

    def _check_fold(self, path: Path, fold: int, line: str) -> list[int]:
        label_N = self._labels["train"]
        where = f"{path} line {fold + 1}"
        try:
            indices = [int(word) for word in line.split()]
        except ValueError as error:
            raise DataError(f"{where} is not a list of whole numbers: {error}") from error
        if len(indices) != FOLD_SIZE or len(set(indices)) != FOLD_SIZE:
            raise DataError(f"{where} has {len(set(indices))} different indices of {len(indices)}, not {FOLD_SIZE}")
        if min(indices) < 0 or max(indices) >= len(label_N):
            raise DataError(
                f"{where} has indices {min(indices)}..{max(indices)}, the training split has 0..{len(label_N) - 1}"
            )
        counts = np.bincount(label_N[indices], minlength=len(CLASS_NAMES))
        if (counts != FOLD_SIZE_PER_CLASS).any():
            raise DataError(f"{where} has {counts.tolist()} images per class, expected {FOLD_SIZE_PER_CLASS} of each")
        return indices
