"""What people said of images: which of two is nearer to a third, how good a copy is, whether two are the same.

Five layouts of folders are read; `read_judgments` lists them. N counts judgments.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pretext.artifacts.atomic import content_sha256, file_sha256
from pretext.datasets.images import _to_rgb, _upright_turn, decode_rgb, open_image
from pretext.datasets.judgment_layouts import (
    RATING_LAYOUTS,
    TRIPLET_LAYOUTS,
    PairRow,
    TripletRow,
    check_layout,
    find_layout,
    read_jnd,
)
from pretext.datasets.listing import escape_name
from pretext.errors import DataError
from pretext.stage_configs import LAYOUTS


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Triplets:
    """Which of two images, a or b, people found nearer to a reference.

    Args:
        image_paths: Every image once.
        reference_N: Index of the reference in `image_paths`, int64.
        a_N: Index of the first candidate.
        b_N: Index of the second candidate.
        votes_a_N: Judges who found a nearer, float64, >= 0; a share where the data set tells no counts.
        votes_b_N: The same for b; the two together are above 0.
        group_N: What the bootstrap draws as one, int64: the reference.
    """

    kind: ClassVar[str] = "triplets"
    image_paths: list[Path]
    reference_N: np.ndarray
    a_N: np.ndarray
    b_N: np.ndarray
    votes_a_N: np.ndarray
    votes_b_N: np.ndarray
    group_N: np.ndarray

    def __len__(self) -> int:
        return len(self.reference_N)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ratings:
    """How good people found a distorted image beside its reference.

    Args:
        image_paths: Every image once.
        reference_N: Index of the reference in `image_paths`, int64.
        distorted_N: Index of the distorted image.
        score_N: Mean opinion, float64, finite; higher is better, on the data set's own scale.
        group_N: What the bootstrap draws as one, int64: the reference.
    """

    kind: ClassVar[str] = "ratings"
    image_paths: list[Path]
    reference_N: np.ndarray
    distorted_N: np.ndarray
    score_N: np.ndarray
    group_N: np.ndarray

    def __len__(self) -> int:
        return len(self.reference_N)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pairs:
    """Whether people took two images for the same.

    Args:
        image_paths: Every image once.
        first_N: Index of one image in `image_paths`, int64.
        second_N: Index of the other.
        same_share_N: Share of judges who said "same", float64, 0..1.
        group_N: What the bootstrap draws as one, int64: the first image.
    """

    kind: ClassVar[str] = "pairs"
    image_paths: list[Path]
    first_N: np.ndarray
    second_N: np.ndarray
    same_share_N: np.ndarray
    group_N: np.ndarray

    def __len__(self) -> int:
        return len(self.first_N)


Judgments = Triplets | Ratings | Pairs


def read_judgments(folder: Path, *, layout: str = "auto", split: str) -> Judgments:
    """Read what people said of a folder's images; no image is decoded.

    - `2afc`: SPLIT/SUBSET/{ref,p0,p1}/*.png and judge/*.npy, the share of judges who found p1 nearer (BAPPS). The
      number of judges is not stored, so each triplet has votes that sum to 1.
    - `jnd`: SPLIT/SUBSET/{p0,p1}/*.png and same/*.npy, the share of judges who said "same" (BAPPS).
    - `triplets`: images/ and SPLIT.csv with the columns reference, a, b, votes_a, votes_b.
    - `tid2013`: reference_images/, distorted_images/, mos_with_names.txt; names without regard to case.
    - `kadid`: images/ and dmos.csv with the columns dist_img, ref_img, dmos, var. Its dmos grows with quality.

    Args:
        folder: The folder that holds the above.
        layout: One of them, or "auto" (`find_layout`).
        split: A split's name; of `2afc` and `jnd` also SPLIT/SUBSET. `tid2013` and `kadid` have no splits: "test" is
            the fifth of the references whose names hash lowest, "train" the others, "all" both.

    Raises:
        DataError: If the folder fits no layout, has no such split, or a row, vote or image file is wrong or missing.
        ValueError: If `layout` is none of the above.

    Cost: one listing of the folders; `2afc` and `jnd` open one small file per judgment.
    Sources: Zhang et al. 2018, arXiv 1801.03924 (BAPPS); Ponomarenko et al. 2015, Signal Processing: Image
    Communication 30 (TID2013); Lin et al. 2019, QoMEX (KADID-10k).
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if layout != "auto" and layout not in LAYOUTS:
        raise ValueError(f"layout must be auto or one of {', '.join(LAYOUTS)}, got {layout!r}")
    judgments: Judgments
    try:
        layout = find_layout(folder) if layout == "auto" else layout
        check_layout(folder, layout)
        if layout in TRIPLET_LAYOUTS:
            judgments = _triplets(list(TRIPLET_LAYOUTS[layout](folder, split)))
        elif layout in RATING_LAYOUTS:
            judgments = _ratings(list(RATING_LAYOUTS[layout](folder, split)))
        else:
            judgments = _pairs(list(read_jnd(folder, split)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{folder} can't be read: {error}") from error
    if not len(judgments):
        raise DataError(f"{folder} holds no judgment in the split {split}")
    return judgments


def fingerprint(judgments: Judgments) -> str:
    """Return a sum over all images' bytes and ids and all that was said; it is the same wherever the folder lies.

    Cost: every image file is read.

    Raises:
        DataError: If an image file can't be read.
    """
    columns = [field.name for field in fields(judgments) if field.name != "image_paths"]
    try:
        sums = [file_sha256(path) for path in judgments.image_paths]
    except OSError as error:
        raise DataError(f"an image can't be read: {error}") from error
    said: dict[str, Any] = {name: getattr(judgments, name).tolist() for name in columns}
    return content_sha256({"kind": judgments.kind, "ids": image_ids(judgments), "images": sums, **said})


def image_ids(judgments: Judgments) -> list[str]:
    """Return each image's path below the folder that holds all of them, escaped, "/" between parts."""
    common = os.path.commonpath([path.parent for path in judgments.image_paths])
    return [escape_name(path.relative_to(common).as_posix()) for path in judgments.image_paths]


def load_images(paths: Sequence[Path], *, image_size: int | None) -> np.ndarray:
    """Decode images of one size.

    Args:
        paths: One or more image files.
        image_size: Side in pixels of the squares they become (short side resized, centre kept); None leaves them
            as they are, squares or not.

    Returns:
        image_NHWC: (N, H, W, 3) uint8.

    Raises:
        DataError: If one can't be decoded, or, without `image_size`, their sizes differ.
        ValueError: If `paths` is empty.
    """
    if not paths:
        raise ValueError("paths must hold at least one image, got none")
    first_HWC = _decode(paths[0], image_size)
    image_NHWC = np.empty((len(paths), *first_HWC.shape), np.uint8)
    image_NHWC[0] = first_HWC
    for number, path in enumerate(paths[1:], 1):
        image_HWC = _decode(path, image_size)
        if image_HWC.shape != first_HWC.shape:
            (height, width, _), (first_height, first_width, _) = image_HWC.shape, first_HWC.shape
            raise DataError(
                f"{path} has {width} x {height} pixels, {paths[0]} {first_width} x {first_height}",
                hint="--image-size brings all to one size",
            )
        image_NHWC[number] = image_HWC
    return image_NHWC


def _decode(path: Path, image_size: int | None) -> np.ndarray:
    try:
        return _decode_whole(path) if image_size is None else decode_rgb(path, image_size=image_size)
    except DataError as error:
        raise DataError(f"{path}: {error.message}") from error


def _decode_whole(path: Path) -> np.ndarray:
    """Read an image as `decode_rgb` does, but at its own size and uncropped."""
    with open_image(path) as image:
        image.load()
        turn, upright = _upright_turn(image), _to_rgb(image)
        return np.array(upright if turn is None else upright.transpose(turn))


def _triplets(rows: list[TripletRow]) -> Triplets:
    paths, index_N3 = _number_images((row[:3] for row in rows), 3)
    votes_N2 = np.array([row[3:] for row in rows], np.float64).reshape(-1, 2)
    return Triplets(
        image_paths=paths, reference_N=index_N3[:, 0], a_N=index_N3[:, 1], b_N=index_N3[:, 2],
        votes_a_N=votes_N2[:, 0], votes_b_N=votes_N2[:, 1], group_N=index_N3[:, 0],
    )  # fmt: skip


def _ratings(rows: list[PairRow]) -> Ratings:
    paths, index_N2 = _number_images((row[:2] for row in rows), 2)
    return Ratings(
        image_paths=paths, reference_N=index_N2[:, 0], distorted_N=index_N2[:, 1],
        score_N=np.array([row[2] for row in rows], np.float64), group_N=index_N2[:, 0],
    )  # fmt: skip


def _pairs(rows: list[PairRow]) -> Pairs:
    paths, index_N2 = _number_images((row[:2] for row in rows), 2)
    return Pairs(
        image_paths=paths, first_N=index_N2[:, 0], second_N=index_N2[:, 1],
        same_share_N=np.array([row[2] for row in rows], np.float64), group_N=index_N2[:, 0],
    )  # fmt: skip


def _number_images(rows: Iterable[tuple[Path, ...]], width: int) -> tuple[list[Path], np.ndarray]:
    """Return every image once, in the order in which they are met, and the rows as indices, (N, width) int64."""
    numbers: dict[Path, int] = {}
    found = [[numbers.setdefault(path, len(numbers)) for path in row] for row in rows]
    return list(numbers), np.array(found, np.int64).reshape(-1, width)
