"""Folders of images: the three layouts, what is refused, and what one bad file does."""

import io
import os

import numpy as np
import pytest
from failing_file import FailingFile
from PIL import Image

from pretext.datasets.base import Rejected, Sample, SplitInfo
from pretext.datasets.folder import build_folder
from pretext.errors import DataError, UnreadableError


def put(folder, *names, shade=100):
    """Write small images, each with its own shade."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (shade + number, 0, 0)).save(path)


def read_all(source, split):
    num_images = next(info.num_images for info in source.splits if info.name == split)
    return list(source.read(split, np.arange(num_images)))


def test_a_heap_has_no_labels(tmp_path):
    put(tmp_path, "b.png", "a.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    source = build_folder(path=tmp_path)
    assert source.splits == (SplitInfo("unlabeled", 2, False),)
    assert (source.name, source.image_size, source.class_names, source.missing) == ("folder", 96, (), ())
    assert source.num_ignored == 2
    samples = read_all(source, "unlabeled")
    assert [(sample.id, sample.label) for sample in samples] == [("a.png", None), ("b.png", None)]
    assert [int(sample.image_HWC[0, 0, 0]) for sample in samples] == [101, 100]
    assert samples[0].image_HWC.shape == (96, 96, 3)


def test_class_folders_are_the_training_split(tmp_path):
    put(tmp_path, "dog/a.png", "cat/deep/er/b.png", "cat/a.png", "Zebra/x.png")
    source = build_folder(path=tmp_path, image_size=8)
    assert source.splits == (SplitInfo("train", 4, True),)
    assert source.class_names == ("Zebra", "cat", "dog")
    assert [(sample.id, sample.label) for sample in read_all(source, "train")] == [
        ("Zebra/x.png", 0), ("cat/a.png", 1), ("cat/deep/er/b.png", 1), ("dog/a.png", 2)
    ]  # fmt: skip


def test_split_folders(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/dog/2.png", "test/dog/9.png", "unlabeled/x/y.png")
    put(tmp_path, "unlabeled/a.png", "val/cat/1.png", "cover.png")
    source = build_folder(path=tmp_path, image_size=8)
    assert source.splits == (
        SplitInfo("unlabeled", 2, False), SplitInfo("train", 3, True), SplitInfo("test", 1, True)
    )  # fmt: skip
    assert source.class_names == ("cat", "dog")
    assert [(sample.id, sample.label) for sample in read_all(source, "test")] == [("test/dog/9.png", 1)]
    assert [sample.label for sample in read_all(source, "train")] == [0, 1, 1]
    assert [sample.id for sample in read_all(source, "unlabeled")] == ["unlabeled/a.png", "unlabeled/x/y.png"]
    assert source.num_ignored == 2  # val/ and cover.png


def test_a_split_without_images_is_none(tmp_path):
    put(tmp_path, "unlabeled/a.png")
    (tmp_path / "train").mkdir()
    assert [info.name for info in build_folder(path=tmp_path).splits] == ["unlabeled"]


def test_the_order_asked_for_is_the_order_given(tmp_path):
    put(tmp_path, *(f"{number}.png" for number in range(5)))
    source = build_folder(path=tmp_path, image_size=2)
    assert [sample.id for sample in source.read("unlabeled", np.array([4, 1, 1]))] == ["4.png", "1.png", "1.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a.png", "train/b.png"], r"train holds 2 images \(a\.png\) outside any class folder"),
        (["train/cat/a.png", "train/b.png"], r"train holds 1 images \(b\.png\) outside any class folder"),
        (["train/cat/a.png", "test/b.png"], r"test holds 1 images \(b\.png\) outside any class folder"),
        (["train/cat/a.png", "test/dog/b.png"], r"test/dog is a class that train/ does not have"),
        (["test/dog/b.png"], r"has test/ without train/"),
        (["a.png", "cat/b.png"], r"holds 1 images beside the folder cat/"),
        (["cat/b.png", "dog/notes.txt"], r"dog is a class folder without an image"),
        (["train/cat/b.png", "train/dog/notes.txt"], r"train/dog is a class folder without an image"),
        (["train/cat/b.png", "test/cat/notes.txt"], r"test/cat is a class folder without an image"),
        (["notes.txt"], r"holds no image \(of 1 other files\)"),
        (["unlabeled/notes.txt"], r"holds no image \(of 1 other files\)"),
        ([], r"holds no image \(of 0 other files\)"),
    ],
)
def test_other_layouts_are_refused(tmp_path, names, message):
    for name in names:
        if name.endswith(".png"):
            put(tmp_path, name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=message):
        build_folder(path=tmp_path)


def test_an_absent_folder_and_a_file_are_told(tmp_path):
    put(tmp_path, "a.png")
    for name in ("nowhere", "a.png"):
        with pytest.raises(DataError, match=f"{name} is not a folder"):
            build_folder(path=tmp_path / name)


def test_a_folder_that_may_not_be_listed_is_told(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"can't be listed: .*Permission denied"):
        build_folder(path=tmp_path)


def test_bad_files_are_rejected_and_the_rest_goes_on(tmp_path):
    put(tmp_path, "a.png", "e.png")
    (tmp_path / "b.png").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(9, 9, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:150])
    (tmp_path / "d.jpg").write_bytes(b"no image at all")
    first, empty, cut, text, last = read_all(build_folder(path=tmp_path), "unlabeled")
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert empty == Rejected("b.png", "the file is empty (0 bytes)")
    assert (cut.id, cut.reason[:14]) == ("c.png", "can't be read:")
    assert text == Rejected("d.jpg", "not a JPEG, PNG, WebP, BMP, TIFF or GIF image, or its head is broken")


def test_a_file_that_goes_away_is_rejected(tmp_path):
    put(tmp_path, "a.png", "b.png")
    source = build_folder(path=tmp_path)
    (tmp_path / "a.png").unlink()
    assert read_all(source, "unlabeled")[0] == Rejected("a.png", "can't be read: No such file or directory")


def test_a_disk_that_fails_rejects_no_image(tmp_path, monkeypatch):
    """The next start may read it: it must not be missing from the data set for good."""
    put(tmp_path, "a.png", "b.png")
    source = build_folder(path=tmp_path)
    monkeypatch.setattr(os, "fdopen", lambda number, mode: io.BufferedReader(FailingFile(number, mode)))
    with pytest.raises(UnreadableError, match=r"/a\.png can't be read: Input/output error"):
        read_all(source, "unlabeled")


def test_links(tmp_path):
    inside, outside = tmp_path / "set", tmp_path / "outside"
    put(inside, "unlabeled/a.png")
    put(outside, "x.png", "sub/y.png")
    links = {
        "b.png": inside / "unlabeled" / "a.png",
        "c.png": outside / "x.png",
        "d.png": inside / "nowhere.png",
        "e": outside / "sub",
        "f": inside / "unlabeled",
        "g.png": "../../outside/x.png",
    }
    for name, target in links.items():
        (inside / "unlabeled" / name).symlink_to(target)
    answers = {answer.id: answer for answer in read_all(build_folder(path=inside), "unlabeled")}
    assert isinstance(answers.pop("unlabeled/a.png"), Sample)
    assert isinstance(answers.pop("unlabeled/b.png"), Sample)
    leaves = "a symbolic link that leaves the folder"
    assert {id.removeprefix("unlabeled/"): answer.reason for id, answer in answers.items()} == {
        "c.png": leaves,
        "d.png": "can't be read: No such file or directory",
        "e": leaves,
        "f": "a symbolic link to a folder; these are not followed",
        "g.png": leaves,
    }


def test_linked_split_and_class_folders_are_refused(tmp_path):
    put(tmp_path, "outside/cat/x.png", "set/train/dog/a.png")
    (tmp_path / "set" / "train" / "cat").symlink_to(tmp_path / "outside" / "cat")
    with pytest.raises(DataError, match="train/cat is a link"):
        build_folder(path=tmp_path / "set")
    (tmp_path / "set" / "train" / "cat").unlink()
    (tmp_path / "set" / "unlabeled").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="unlabeled is a link"):
        build_folder(path=tmp_path / "set")


def test_the_folder_itself_may_be_a_link(tmp_path):
    put(tmp_path, "set/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert isinstance(read_all(build_folder(path=tmp_path / "link"), "unlabeled")[0], Sample)


def test_strange_names_are_read_under_safe_ids(tmp_path):
    names = ["new\nline.png", "back\\slash.png", os.fsdecode(b"latin\xe9.png"), "\u00e9t\u00e9.png"]
    folder = tmp_path / os.fsdecode(b"cl\xe0ss")
    put(folder, *names)
    source = build_folder(path=tmp_path)
    assert source.class_names == (r"cl\udce0ss",)
    samples = read_all(source, "train")
    assert all(isinstance(sample, Sample) for sample in samples)
    assert {sample.id for sample in samples} == {
        rf"cl\udce0ss/{name}"
        for name in (r"new\x0aline.png", r"back\\slash.png", r"latin\udce9.png", "\u00e9t\u00e9.png")
    }
    source.fingerprint().encode("ascii")
    put(tmp_path, "stray.png")
    with pytest.raises(DataError, match=r"beside the folder cl\\udce0ss/"):
        build_folder(path=tmp_path)


def test_fingerprint_follows_files_and_options(tmp_path):
    put(tmp_path, "a.png", "b.png")
    first = build_folder(path=tmp_path).fingerprint()
    assert build_folder(path=tmp_path).fingerprint() == first
    (tmp_path / "notes.txt").write_text("not read, so not counted")
    assert build_folder(path=tmp_path).fingerprint() == first
    assert build_folder(path=tmp_path, image_size=95).fingerprint() != first
    os.utime(tmp_path / "a.png", ns=(1, 1))
    changed = build_folder(path=tmp_path).fingerprint()
    assert changed != first
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    assert build_folder(path=tmp_path).fingerprint() not in (first, changed)
