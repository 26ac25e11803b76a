"""The files in which people's judgments come: each layout's rows, as image paths and numbers.

Every reader yields the rows of one split and raises DataError with the file and line of what is wrong; a file that
can't be opened or decoded as text is left to the caller (OSError, UnicodeDecodeError, csv.Error).
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pretext.datasets.listing import escape_name, list_level, list_tree
from pretext.errors import DataError
from pretext.stage_configs import LAYOUTS

RATING_SPLITS = ("train", "test", "all")
TRIPLET_COLUMNS = ("reference", "a", "b", "votes_a", "votes_b")

# What a folder of each layout must hold; of BAPPS, a folder of answers in every SPLIT/SUBSET.
NEEDED = {
    "triplets": ("images",), "kadid": ("images", "dmos.csv"),
    "tid2013": ("reference_images", "distorted_images", "mos_with_names.txt"),
}  # fmt: skip
ANSWERS = {"2afc": "judge", "jnd": "same"}

# images, then votes or a score
TripletRow = tuple[Path, Path, Path, float, float]
PairRow = tuple[Path, Path, float]


def find_layout(folder: Path) -> str:
    """Return the layout that a folder has, by the names in it.

    Raises:
        DataError: If it has none.
    """
    names = {entry.name.lower() for entry in folder.iterdir()}
    if "mos_with_names.txt" in names:
        return "tid2013"
    if "dmos.csv" in names:
        return "kadid"
    if "images" in names and any(name.endswith(".csv") for name in names):
        return "triplets"
    for layout, answers in ANSWERS.items():
        if any(folder.glob(f"*/*/{answers}")):
            return layout
    raise DataError(
        f"{folder} has none of the layouts {', '.join(LAYOUTS)}",
        hint="of BAPPS, give its folder 2afc or jnd; own triplets are images/ beside train.csv and test.csv",
    )


def check_layout(folder: Path, layout: str) -> None:
    """See that a folder holds what its layout needs.

    Raises:
        DataError: If it does not.
    """
    names = {entry.name.lower() if layout == "tid2013" else entry.name for entry in folder.iterdir()}
    absent = [name for name in NEEDED.get(layout, ()) if name not in names]
    if layout in ANSWERS and not any(folder.glob(f"*/*/{ANSWERS[layout]}")):
        absent = [f"SPLIT/SUBSET/{ANSWERS[layout]}"]
    if absent:
        raise DataError(f"{folder} has no {absent[0]}: it is not laid out as {layout}")


def read_triplets(folder: Path, split: str) -> Iterator[TripletRow]:
    """Yield (reference, a, b, votes for a, votes for b) of images/ and SPLIT.csv."""
    _check_split(folder, split, sorted(path.stem for path in folder.glob("*.csv")))
    find = _finder(folder / "images")
    for where, row in _csv_rows(folder / f"{split}.csv", TRIPLET_COLUMNS):
        reference, a, b = (find(name, where) for name in row[:3])
        votes_a, votes_b = _number(row[3], where, "votes_a", low=0.0), _number(row[4], where, "votes_b", low=0.0)
        if not votes_a + votes_b:
            raise DataError(f"{where}: votes_a and votes_b are both 0, so nobody said anything")
        yield reference, a, b, votes_a, votes_b


def read_2afc(folder: Path, split: str) -> Iterator[TripletRow]:
    """Yield (reference, p0, p1, share for p0, share for p1) of BAPPS's forced choices."""
    for (reference, a, b), share_b in _bapps_rows(folder, split, ("ref", "p0", "p1"), "judge"):
        yield reference, a, b, 1 - share_b, share_b


def read_jnd(folder: Path, split: str) -> Iterator[PairRow]:
    """Yield (p0, p1, share of "same") of BAPPS's just noticeable differences."""
    for (first, second), share in _bapps_rows(folder, split, ("p0", "p1"), "same"):
        yield first, second, share


def read_tid2013(folder: Path, split: str) -> Iterator[PairRow]:
    """Yield (reference, distorted, mean opinion) of TID2013, whose archive mixes I01.BMP, i01.bmp and I01_01_1.bmp."""
    inside = {entry.name.lower(): entry for entry in folder.iterdir()}
    find_reference = _finder(inside["reference_images"], any_case=True)
    find_distorted = _finder(inside["distorted_images"], any_case=True)
    path, rows = inside["mos_with_names.txt"], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where, words = f"{path}, line {number}", line.split()
        if not words:
            continue
        if len(words) != 2 or "_" not in words[1]:
            raise DataError(f"{where}: expected a score and a name such as I01_01_1.bmp, got {escape_name(line)!r}")
        reference = find_reference(words[1].split("_")[0] + Path(words[1]).suffix, where)
        rows.append((reference, find_distorted(words[1], where), _number(words[0], where, "the score")))
    return _divide(folder, split, rows)


def read_kadid(folder: Path, split: str) -> Iterator[PairRow]:
    """Yield (reference, distorted, mean opinion) of KADID-10k; what it calls dmos is 1 for bad to 5 for good."""
    find, rows = _finder(folder / "images"), []
    for where, (distorted, reference, score) in _csv_rows(folder / "dmos.csv", ("dist_img", "ref_img", "dmos")):
        rows.append((find(reference, where), find(distorted, where), _number(score, where, "dmos")))
    return _divide(folder, split, rows)


TRIPLET_LAYOUTS: dict[str, Callable[[Path, str], Iterator[TripletRow]]] = {
    "2afc": read_2afc, "triplets": read_triplets
}  # fmt: skip
RATING_LAYOUTS: dict[str, Callable[[Path, str], Iterator[PairRow]]] = {"tid2013": read_tid2013, "kadid": read_kadid}


def _divide(folder: Path, split: str, rows: list[PairRow]) -> Iterator[PairRow]:
    """Yield the rows whose reference is in the split; no reference is in both train and test."""
    _check_split(folder, split, RATING_SPLITS)
    # ranked by hash, not drawn one by one: 25 references give 20 and 5 exactly, and small sets get a test split too
    references = sorted({row[0] for row in rows}, key=lambda path: hashlib.sha256(path.stem.lower().encode()).digest())
    test = set(references[: math.ceil(len(references) / 5)])
    return (row for row in rows if split == "all" or (row[0] in test) == (split == "test"))


def _bapps_rows(folder: Path, split: str, parts: tuple[str, ...], answers: str) -> Iterator[tuple[list[Path], float]]:
    subsets = {
        path.parent.relative_to(folder).as_posix(): path.parent for path in sorted(folder.glob(f"*/*/{answers}"))
    }
    _check_split(folder, split, sorted({name.split("/")[0] for name in subsets} | set(subsets)))
    for name, subset in subsets.items():
        if split not in (name, name.split("/")[0]):
            continue
        found = {part: {Path(image).stem: image for image in list_level(str(subset / part)).images} for part in parts}
        stems = sorted(path.stem for path in (subset / answers).glob("*.npy"))
        for part in parts:
            odd = sorted(set(stems) ^ set(found[part]))
            if odd:
                raise DataError(f"{subset}: {odd[0]} is not in both {part}/ and {answers}/, as every judgment must")
        for stem in stems:
            yield [subset / part / found[part][stem] for part in parts], _read_share(subset / answers / f"{stem}.npy")


def _read_share(path: Path) -> float:
    try:
        values = np.load(path, allow_pickle=False).astype(np.float64).ravel()
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not an array of numbers: {error}") from error
    if len(values) != 1 or not 0 <= values[0] <= 1:
        raise DataError(f"{path} must hold one share in 0..1, got {values[:4].tolist()}")
    return float(values[0])


def _check_split(folder: Path, split: str, splits: Sequence[str]) -> None:
    if split not in splits:
        raise DataError(f"{folder} has no split {split}; there are {', '.join(splits) or 'none'}")


def _csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield where each row stands, for messages, and the fields of `columns`."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, skipinitialspace=True)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path}, line 1: no column {missing[0]}; needed are {', '.join(columns)}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: expected {len(reader.fieldnames or ())} fields, as in line 1")
            yield where, [row[name] for name in columns]


def _number(text: str, where: str, name: str, low: float = -math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= low):
        raise DataError(f"{where}: {name} must be a number{' >= 0' if low == 0 else ''}, got {escape_name(text)!r}")
    return value


def _finder(folder: Path, *, any_case: bool = False) -> Callable[[str, str], Path]:
    """Return a look-up among a folder's images; a name that leads out of the folder is simply not there."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    found = {name.lower() if any_case else name: folder / name for name in list_tree(str(folder)).images}

    def find(name: str, where: str) -> Path:
        path = found.get(name.lower() if any_case else name)
        if path is None:
            raise DataError(f"{where}: there is no image {escape_name(name)} in {folder}")
        return path

    return find
