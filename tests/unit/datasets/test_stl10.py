"""STL-10 from fabricated files in the official layout."""

import copy
import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
from failing_file import fail

from pretext.datasets import stl10
from pretext.datasets.base import SplitInfo
from pretext.datasets.download import Archive
from pretext.datasets.stl10 import CLASS_NAMES, RECORD_BYTES, build_stl10
from pretext.errors import DataError, UnreadableError

COUNTS = {"unlabeled": 4, "train": 3, "test": 2}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split, count in COUNTS.items():
        generator.integers(0, 256, size=(count, RECORD_BYTES), dtype=np.uint8).tofile(folder / f"{split}_X.bin")
        if split != "unlabeled":
            generator.integers(1, 11, size=count, dtype=np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    return tmp_path


def build(root, **changes):
    return build_stl10(**{"root": root, "offline": True, **changes})


def read_all(source, split):
    num_images = next(info.num_images for info in source.splits if info.name == split)
    return list(source.read(split, np.arange(num_images)))


def write_folds(folder, lines, label_N=None):
    """5,000 training images that take no room on disk (a file with a hole), and a fold file."""
    with (folder / "train_X.bin").open("wb") as handle:
        handle.truncate(5000 * RECORD_BYTES)
    label_N = np.arange(5000) % 10 + 1 if label_N is None else label_N
    label_N.astype(np.uint8).tofile(folder / "train_y.bin")
    (folder / "fold_indices.txt").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))


@pytest.mark.parametrize("split", COUNTS)
def test_images_and_labels_equal_torchvision(root, monkeypatch, split):
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    reference = torchvision.datasets.STL10(str(root), split=split)
    samples = read_all(build(root), split)
    assert len(samples) == len(reference) == COUNTS[split]
    for sample, (image, label) in zip(samples, reference, strict=True):
        np.testing.assert_array_equal(sample.image_HWC, np.asarray(image))
        assert sample.label == (None if split == "unlabeled" else label)
        assert sample.image_HWC.flags.c_contiguous
        assert sample.image_HWC.dtype == np.uint8


def test_a_known_pixel_is_upright(root):
    record_CWH = np.zeros((3, 96, 96), dtype=np.uint8)
    record_CWH[1, 5, 70] = 255  # green, column 5, row 70
    record_CWH.tofile(root / "stl10_binary" / "unlabeled_X.bin")
    [sample] = read_all(build(root), "unlabeled")
    assert np.argwhere(sample.image_HWC).tolist() == [[70, 5, 1]]


def test_facts_and_order(root):
    source = build(root)
    assert source.splits == (
        SplitInfo("unlabeled", 4, False), SplitInfo("train", 3, True), SplitInfo("test", 2, True)
    )  # fmt: skip
    assert (source.name, source.image_size, source.class_names, source.missing) == ("stl10", 96, CLASS_NAMES, ())
    samples = list(source.read("unlabeled", np.array([3, 0, 3])))
    assert [sample.id for sample in samples] == ["unlabeled/00003", "unlabeled/00000", "unlabeled/00003"]
    np.testing.assert_array_equal(samples[0].image_HWC, samples[2].image_HWC)
    assert samples[0].folds == ()
    assert source.num_folds == 0


def test_source_holds_nothing_tied_to_its_process(root):
    twin = copy.deepcopy(build(root))  # an open file or a lock would make this fail
    np.testing.assert_array_equal(read_all(twin, "train")[1].image_HWC, read_all(build(root), "train")[1].image_HWC)


def test_other_sizes_are_resized(root):
    constant = np.full((1, RECORD_BYTES), 77, dtype=np.uint8)
    constant.tofile(root / "stl10_binary" / "unlabeled_X.bin")
    [sample] = read_all(build(root, image_size=40), "unlabeled")
    assert sample.image_HWC.shape == (40, 40, 3)
    assert (sample.image_HWC == 77).all()


def test_absent_splits_are_named_and_labels_are_needed(root):
    folder = root / "stl10_binary"
    (folder / "unlabeled_X.bin").unlink()
    source = build(root)
    assert source.missing == ("unlabeled",)
    assert [info.name for info in source.splits] == ["train", "test"]
    (folder / "train_y.bin").unlink()
    with pytest.raises(DataError, match=r"train_y\.bin is missing"):
        build(root)
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").unlink()
    with pytest.raises(DataError, match=r"none of unlabeled_X\.bin, train_X\.bin, test_X\.bin"):
        build(root)


def test_class_names_are_known_without_their_file(root):
    path = root / "stl10_binary" / "class_names.txt"
    path.unlink()
    assert build(root).class_names == CLASS_NAMES
    path.write_text("cat\ndog\n")
    with pytest.raises(DataError, match="has 2 names, STL-10 has 10 classes"):
        build(root)


def test_broken_files_are_told_with_their_figures(root):
    folder = root / "stl10_binary"
    np.array([1, 2], dtype=np.uint8).tofile(folder / "train_y.bin")
    with pytest.raises(DataError, match="2 labels for the 3 images"):
        build(root)
    np.array([1, 11, 2], dtype=np.uint8).tofile(folder / "train_y.bin")
    with pytest.raises(DataError, match="label 11 at 1"):
        build(root)
    np.array([1, 0, 2], dtype=np.uint8).tofile(folder / "train_y.bin")
    with pytest.raises(DataError, match="label 0 at 1"):
        build(root)
    (folder / "train_X.bin").write_bytes(bytes(RECORD_BYTES + 1))
    with pytest.raises(DataError, match=f"{RECORD_BYTES + 1} bytes"):
        build(root)


def test_labels_that_the_disk_fails_to_give_are_told(root, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UnreadableError, match=r"train_y\.bin can't be read: Input/output error"):
        build(root)


def test_folds_tell_each_image_where_it_trains(root):
    # fold f: the 1,000 images from 400 f on, so that neighbouring folds overlap; 10 classes in turn are balanced
    write_folds(root / "stl10_binary", [range(400 * fold, 400 * fold + 1000) for fold in range(10)])
    source = build(root)
    assert source.num_folds == 10
    samples = list(source.read("train", np.array([0, 450, 900, 4599, 4600])))
    assert [sample.folds for sample in samples] == [(0,), (0, 1), (0, 1, 2), (9,), ()]
    assert [sample.folds for sample in source.read("test", np.array([0]))] == [()]


GOOD = [list(range(400 * fold, 400 * fold + 1000)) for fold in range(10)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD[:9], "has 9 lines, expected 10 folds"),
        ([*GOOD[:9], GOOD[9][:-1]], "line 10 has 999 different indices of 999, not 1000"),
        ([[*GOOD[0][:-1], 0], *GOOD[1:]], "line 1 has 999 different indices of 1000"),
        ([[*GOOD[0][:-1], 5009], *GOOD[1:]], r"line 1 has indices 0\.\.5009, the training split has 0\.\.4999"),
        ([[*GOOD[0][:-1], -1], *GOOD[1:]], r"line 1 has indices -1\.\.998"),
        ([[*GOOD[0][:-1], 1000], *GOOD[1:]], r"line 1 has \[101, 100, .*, 99\] images per class"),
        ([[*GOOD[0][:-1], "x"], *GOOD[1:]], "line 1 is not a list of whole numbers: .*'x'"),
    ],
)
def test_wrong_folds_are_refused(root, lines, message):
    write_folds(root / "stl10_binary", lines)
    with pytest.raises(DataError, match=message):
        build(root)


def test_fingerprint_follows_files_and_options(root):
    first = build(root).fingerprint()
    assert build(root).fingerprint() == first
    assert build(root, image_size=95).fingerprint() != first
    (root / "stl10_binary" / "class_names.txt").unlink()
    assert build(root).fingerprint() != first


def test_absent_files_are_told_with_place_address_and_checksum(tmp_path):
    with pytest.raises(DataError, match=r"stl10_binary is missing, and downloads are forbidden by --offline") as caught:
        build(tmp_path)
    for fact in ("stl10_binary.tar.gz", stl10.ARCHIVE.url, "md5:91f7769df0f17e558f3565bffb0c7dfb", str(tmp_path)):
        assert fact in caught.value.hint


def test_an_archive_laid_by_hand_is_extracted_offline(root, tmp_path, monkeypatch):
    for path in (root / "stl10_binary").iterdir():
        os.utime(path, ns=(0, 1_300_000_000 * 10**9))  # whole seconds, which an archive keeps exactly
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(root / "stl10_binary", "stl10_binary")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stl10_binary.tar.gz").write_bytes(buffer.getvalue())
    checksum = "md5:" + hashlib.md5(buffer.getvalue()).hexdigest()
    archive = Archive(url=stl10.ARCHIVE.url, checksum=checksum, folder="stl10_binary", max_total_bytes=10**9)
    monkeypatch.setattr(stl10, "ARCHIVE", archive)
    source = build(elsewhere)
    np.testing.assert_array_equal(read_all(source, "test")[1].image_HWC, read_all(build(root), "test")[1].image_HWC)
    assert source.fingerprint() == build(root).fingerprint()  # times travel in the archive, the place does not count
