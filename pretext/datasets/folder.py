"""Any folder of images: split folders, class folders, or a flat heap without labels."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretext.datasets.base import Rejected, Sample, SplitInfo, check_image_size, check_request, fingerprint_files
from pretext.datasets.images import decode_rgb
from pretext.datasets.listing import Entries, escape_name, list_level, list_tree
from pretext.errors import DataError, UnreadableError

NATIVE_SIZE = 96
SPLITS = ("unlabeled", "train", "test")


def build_folder(*, path: Path, image_size: int | None = None) -> FolderSource:
    """Open a folder of JPEG, PNG, WebP, BMP, TIFF or GIF files as a source.

    One of three layouts, tried in this order:

    - `unlabeled/`, `train/`, `test/`, one or more: the last two hold class folders, the first is a heap of any depth;
    - class folders: they are the split "train";
    - images: they are the split "unlabeled".

    Args:
        path: The folder.
        image_size: Side in pixels; None is 96.

    Raises:
        DataError: If the folder is missing, empty, or fits none of the layouts.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder")
    try:
        return FolderSource(path, image_size=check_image_size(image_size, native=NATIVE_SIZE))
    except OSError as error:
        raise DataError(f"{path} can't be listed: {error}") from error


@dataclass(slots=True)
class _Split:
    """Names below the source's folder, class after class, and where each class begins (empty without labels)."""

    names: list[str]
    classes: list[int]
    starts: list[int]


class FolderSource:
    """Images of a folder, decoded one by one as they are read.

    Files by other extensions, hidden entries and folders beside the splits are not read; `num_ignored` counts them.
    Class folders are read at any depth. An image's id is its path below the folder, escaped.

    Args:
        path: The folder.
        image_size: Side of the squares that `read` yields, in pixels.

    Raises:
        DataError: If the folder is empty or fits none of the layouts.
        OSError: If a folder can't be listed.
    """

    name = "folder"
    missing: tuple[str, ...] = ()

    def __init__(self, path: Path, *, image_size: int) -> None:
        self.path = path
        self.image_size = image_size
        self.num_ignored = 0
        self._root = os.path.realpath(path)
        self._class_folders: list[str] = []
        self._splits = {split: found for split, found in self._find_splits().items() if found.names}
        if not self._splits:
            raise DataError(f"{path} holds no image (of {self.num_ignored} other files)")
        self.class_names = tuple(escape_name(name) for name in self._class_folders)
        self.splits = tuple(
            SplitInfo(name=split, num_images=len(found.names), labelled=bool(found.classes))
            for split, found in self._splits.items()
        )

    def read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        """Yield a sample, or why there is none, for each index, in order. One image is in memory at a time.

        Raises:
            UnreadableError: While iterating, if the system fails to read a file.
        """
        return self._read(split, check_request(self, split, indices))

    def fingerprint(self) -> str:
        """Return a sum over name, size and time of every image file, and the image size."""
        files = ((name, os.path.join(self._root, name)) for found in self._splits.values() for name in found.names)
        return fingerprint_files(files, options={"source": self.name, "image_size": self.image_size})

    def _read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        found = self._splits[split]
        for index in indices.tolist():
            name = found.names[index]
            label = found.classes[bisect.bisect_right(found.starts, index) - 1] if found.classes else None
            try:
                path = self._check_link(name)
                image_HWC = decode_rgb(path, image_size=self.image_size)
            except UnreadableError as error:
                raise UnreadableError(f"{self.path / escape_name(name)} {error.message}") from error
            except DataError as error:
                yield Rejected(id=escape_name(name), reason=error.message)
            else:
                yield Sample(id=escape_name(name), image_HWC=image_HWC, label=label)

    def _check_link(self, name: str) -> Path:
        """Return the file's path, once it is no link or a link to a file of this folder."""
        path = os.path.join(self._root, name)
        if os.path.islink(path):
            target = os.path.realpath(path)
            if not Path(target).is_relative_to(self._root):
                raise DataError("a symbolic link that leaves the folder")
            if os.path.isdir(target):
                raise DataError("a symbolic link to a folder; these are not followed")
        return Path(path)

    def _find_splits(self) -> dict[str, _Split]:
        top = list_level(self._root)
        self.num_ignored += top.num_ignored
        linked = [name for name in top.linked_folders if name in SPLITS]
        if linked:
            raise DataError(f"{self.path / linked[0]} is a link; links to folders are not followed")
        named = [name for name in SPLITS if name in top.folders]
        if not named:
            return self._find_plain_split(top)
        others = set(top.folders) - set(named)
        self.num_ignored += len(others) + len(top.images) + len(top.linked_folders)
        if "test" in named and "train" not in named:
            raise DataError(
                f"{self.path} has test/ without train/, so no classes are known",
                hint="without labels, put the images under unlabeled/",
            )
        found: dict[str, _Split] = {}
        for split in named:
            if split == "unlabeled":
                found[split] = self._list_heap("unlabeled/")
            else:
                level = list_level(os.path.join(self._root, split))
                self.num_ignored += level.num_ignored
                found[split] = self._list_classes(f"{split}/", level)
        return found

    def _find_plain_split(self, top: Entries) -> dict[str, _Split]:
        if not top.images:
            return {"train": self._list_classes("", top)}
        filled = (name for name in top.folders if list_tree(os.path.join(self._root, name)).images)
        folder = next(filled, next(iter(top.linked_folders), None))
        if folder is not None:
            raise DataError(
                f"{self.path} holds {len(top.images)} images beside the folder {escape_name(folder)}/, "
                "so it is neither a heap nor a set of classes",
                hint="put images without labels under unlabeled/, class folders under train/",
            )
        self.num_ignored += len(top.folders)
        return {"unlabeled": _Split(top.images, [], [])}

    def _list_heap(self, prefix: str) -> _Split:
        listing = list_tree(os.path.join(self._root, prefix))
        self.num_ignored += listing.num_ignored
        return _Split([prefix + name for name in listing.images], [], [])

    def _list_classes(self, prefix: str, level: Entries) -> _Split:
        """List a folder of class folders; the first one listed says what classes there are."""
        folder = self.path / prefix
        if level.linked_folders:
            raise DataError(f"{_tell(folder / level.linked_folders[0])} is a link; links to folders are not followed")
        if level.images:
            raise DataError(
                f"{folder} holds {len(level.images)} images ({escape_name(level.images[0])}) outside any class folder, "
                "so they have no label",
                hint="put them into one folder per class, or under unlabeled/ if they have none",
            )
        if prefix in ("", "train/"):
            self._class_folders = level.folders
        found = _Split([], [], [])
        for name in level.folders:
            if name not in self._class_folders:
                raise DataError(f"{_tell(folder / name)} is a class that train/ does not have")
            listing = list_tree(os.path.join(folder, name))
            self.num_ignored += listing.num_ignored
            if not listing.images:
                raise DataError(f"{_tell(folder / name)} is a class folder without an image")
            found.classes.append(self._class_folders.index(name))
            found.starts.append(len(found.names))
            found.names.extend(f"{prefix}{name}/{image}" for image in listing.images)
        return found


def _tell(path: Path) -> str:
    """Return a path as text that any terminal and any file takes."""
    return escape_name(str(path))
