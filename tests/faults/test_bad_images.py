"""Odd, broken and hostile image files through the real stage: each is converted rightly or rejected with its reason."""

import functools
import io
import os
import random
import re
import subprocess
import sys

import bad_images
import fault_counts
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from image_targets import check_image
from PIL import Image, ImageOps

from pretext.artifacts.layout import DataLayout
from pretext.artifacts.shards import open_data
from pretext.datasets import images
from pretext.datasets.base import Rejected
from pretext.datasets.folder import build_folder
from pretext.datasets.images import decode_rgb
from pretext.errors import DataError
from pretext.stage_configs import PrepareDataConfig
from pretext.stages import prepare_data

SIDE = 24
BOUND_MIB = 300  # of the stage and of each of its workers; 104 with one small file
TAKEN = {"strip.tif", "count.tif"}  # what lies there is not needed to show the picture
NUM_MANY = 1500


@functools.cache
def corpus():
    return {"sound": bad_images.sound(), "broken": bad_images.broken(), "bombs": bad_images.bombs()}


def expected(content):
    """The upright middle square on white, by Pillow's own steps one after the other; nothing here need be resized."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if image.mode == "I;16":
            grey_HW = np.round(np.asarray(image) / 257)
            image = Image.fromarray(grey_HW.astype(np.uint8))
        elif image.mode == "F":
            image = Image.fromarray(np.round(np.asarray(image) * 255).astype(np.uint8))
        upright = ImageOps.exif_transpose(image).convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        white.alpha_composite(upright)
        rgb = white.convert("RGB")
    if min(rgb.size) == 1:  # one colour, of which the square then is
        return np.broadcast_to(np.asarray(rgb)[:1, :1], (SIDE, SIDE, 3))
    left, top = (rgb.width - SIDE) // 2, (rgb.height - SIDE) // 2
    return np.asarray(rgb)[top : top + SIDE, left : left + SIDE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All of the corpus under unlabeled/; returns the root, and the start of the reason of each file that has one."""
    root = tmp_path_factory.mktemp("bad") / "set"
    heap = root / "unlabeled"
    for part, files in corpus().items():
        (heap / part).mkdir(parents=True)
        for name, content in files.items():
            (heap / part / name).write_bytes(content)
    reasons = {f"unlabeled/broken/{name}": "" for name in corpus()["broken"]}
    reasons |= {f"unlabeled/bombs/{name}": "" for name in corpus()["bombs"].keys() - TAKEN}
    (heap / "sparse").mkdir()
    (heap / "sparse/a.webp").write_bytes(b"RIFF\xff\xff\xff\xffWEBPVP8X")
    os.truncate(heap / "sparse/a.webp", 1 << 40)
    reasons["unlabeled/sparse/a.webp"] = "too large, 1099511627776 bytes"
    picture = bad_images.encode(bad_images.photograph(), "PNG")
    for name in bad_images.odd_names():
        (heap / "names").mkdir(exist_ok=True)
        (heap / "names" / name).write_bytes(picture)
    deep = heap.joinpath(*["deep"] * 100)
    deep.mkdir(parents=True)
    (deep / "a.png").write_bytes(picture)
    (heap / "many").mkdir()
    for number in range(NUM_MANY):
        (heap / "many" / f"{number}.png").write_bytes(picture)
    (heap / "links").mkdir()
    outside = root.parent / "outside.png"
    outside.write_bytes(picture)
    links = bad_images.put_links(heap / "links", outside)
    return root, reasons | {f"unlabeled/links/{name}": reason for name, reason in links.items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_stage_takes_what_is_sound_and_tells_why_not_of_the_rest(folder, tmp_path, workers):
    root, reasons = folder
    num_files = sum(map(len, corpus().values())) + len(bad_images.odd_names()) + 9
    fault_counts.count("bad images", num_files, 0, inputs=num_files)
    options = {"--data-dir": tmp_path, "--image-size": SIDE, "--workers": workers, "--max-rejected": 1, "--shard-mb": 2}
    command = [
        sys.executable,
        "-m",
        "pretext",
        "prepare-data",
        "folder",
        root,
        *(x for pair in options.items() for x in pair),
    ]
    done = subprocess.run([sys.executable, "-c", LAUNCH, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < BOUND_MIB << 10
    (manifest,) = tmp_path.glob("*/manifest.json")
    rejected = pq.read_table(manifest.with_name("rejected.parquet")).to_pydict()
    why = dict(zip(rejected["id"], rejected["reason"], strict=True))
    assert why.keys() == reasons.keys()
    for name, reason in why.items():
        assert reason.startswith(reasons[name]), name
        assert re.fullmatch(r"[ -~]{5,400}", reason), name
    split = open_data(DataLayout(manifest.parent)).split("unlabeled")
    found = dict(zip(split.ids(), split.images.read(np.arange(len(split))), strict=True))
    for part, files in corpus().items():
        for name in files.keys() - {
            name.rpartition("/")[2] for name in reasons if name.startswith(f"unlabeled/{part}/")
        }:
            image_HWC = found[f"unlabeled/{part}/{name}"]
            assert part == "bombs" or np.array_equal(image_HWC, expected(files[name])), name
    assert len(found) == len(corpus()["sound"]) + len(TAKEN) + len(bad_images.odd_names()) + 1 + NUM_MANY
    assert all(name.isprintable() for name in found)
    assert not list(tmp_path.rglob("*.part*"))
    fault_counts.count("bad images", 0, num_files)


def test_neither_listing_nor_fingerprint_depends_on_the_order_in_which_the_system_lists(folder, monkeypatch):
    first = build_folder(path=folder[0], image_size=SIDE)

    class Shuffled:
        def __init__(self, path):
            with plain(path) as entries:
                self.entries = random.Random(os.fspath(path)).sample(found := list(entries), len(found))

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *given):
            pass

    plain = os.scandir
    monkeypatch.setattr(os, "scandir", Shuffled)
    second = build_folder(path=folder[0], image_size=SIDE)
    assert second.fingerprint() == first.fingerprint()
    assert second._splits["unlabeled"].names == first._splits["unlabeled"].names
    assert second.num_ignored == first.num_ignored == 4  # the pipes, the socket, the hidden file


@pytest.mark.parametrize(("limit", "refused"), [(0.24, True), (0.25, False)])
def test_max_rejected_is_the_share_that_may_be_bad(tmp_path, limit, refused):
    for name in "abc":
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.png").write_bytes(bad_images.encode(bad_images.photograph(), "PNG"))
    (tmp_path / "set" / "new\nline.png").write_bytes(b"")
    config = PrepareDataConfig(
        source="folder", path=tmp_path / "set", data_dir=tmp_path / "data", workers=1, max_rejected=limit
    )
    if refused:
        with pytest.raises(DataError, match=r"1 of 4 images can't be used \(25.0%.*new.x0aline.png: the file is empty"):
            prepare_data.run(config)
        assert '"running"' in (tmp_path / "data/set/manifest.json").read_text()
    else:
        assert prepare_data.run(config)["rejected"] == 1


def test_a_file_without_permission_is_rejected(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(bad_images.encode(bad_images.photograph(), "PNG"))
    source = build_folder(path=tmp_path)

    def refuse(path, *given, **options):  # root may read all, so that modes alone would not do
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    assert list(source.read("unlabeled", np.array([0]))) == [Rejected("a.png", "can't be read: Permission denied")]


@pytest.mark.parametrize(
    ("make", "reason"), [(os.mkfifo, "not a plain file"), (os.mkdir, "can't be read: Is a directory")]
)
def test_a_file_that_became_something_else_is_rejected_and_not_waited_for(tmp_path, make, reason):
    (tmp_path / "a.png").write_bytes(b"x")
    source = build_folder(path=tmp_path)
    (tmp_path / "a.png").unlink()
    make(tmp_path / "a.png")
    assert list(source.read("unlabeled", np.array([0]))) == [Rejected("a.png", reason)]


def test_classes_whose_names_differ_in_case_or_composition_stay_apart_and_an_empty_one_is_told(tmp_path):
    names = ("Cat", "cat", "\u00e9", "e\u0301")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(bad_images.encode(bad_images.photograph(), "PNG"))
    source = build_folder(path=tmp_path, image_size=8)
    samples = list(source.read("train", np.arange(4)))
    assert sorted(source.class_names) == sorted(names)
    assert [sample.id for sample in samples] == [f"{source.class_names[sample.label]}/a.png" for sample in samples]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty is a class folder without an image"):
        build_folder(path=tmp_path)


def test_folders_deeper_than_the_system_can_name_are_told(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(DataError, match="can't be listed: .*File name too long"):
        build_folder(path=tmp_path)


LARGE = {
    "palette with alpha": ("P", "PNG", {"transparency": 0}),
    "RGBA": ("RGBA", "PNG", {}),
    "16 bits": ("I;16", "PNG", {}),
    "floats": ("F", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "WebP": ("RGBA", "WEBP", {"lossless": True}),
    "progressive CMYK": ("CMYK", "JPEG", {"progressive": True}),
}
MEASURE = """
import sys
from pathlib import Path
from peak_memory import peak_bytes, reset_peak
from pretext.datasets.images import decode_rgb
before = reset_peak()
decode_rgb(Path(sys.argv[1]), image_size=24)
print(peak_bytes() - before)
"""
LAUNCH = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)  # KiB, of the stage or of one of its workers
sys.exit(done.returncode)
"""
HELPERS = {**os.environ, "PYTHONPATH": os.path.dirname(bad_images.__file__)}


@pytest.mark.parametrize("what", LARGE)
def test_memory_is_bounded_by_the_number_of_pixels(tmp_path, what):
    fault_counts.count("bad images", 1, 0, inputs=1)
    mode, kind, options = LARGE[what]
    side = 2000 if fault_counts.FACTOR == 1 else 9400  # nearly as large as is allowed
    (tmp_path / "a").write_bytes(bad_images.encode(Image.new(mode, (side, side)), kind, **options))
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "a"], env=HELPERS, capture_output=True, text=True, check=True
    )
    per_pixel = 20 if kind == "WEBP" else 10  # and 64 MiB for the rows that are converted at a time
    assert int(answer.stdout) < per_pixel * side**2 + (64 << 20)
    fault_counts.count("bad images", 0, 1)


def test_too_many_scans_are_counted_where_a_marker_lies_across_two_reads(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(bad_images.many_scans(64, 95 + 40))
    with pytest.raises(DataError, match=r"a JPEG of 1\d\d scans; at most 100 are read"):
        decode_rgb(tmp_path / "a.jpg", image_size=8)
    (tmp_path / "a.jpg").write_bytes(bad_images.many_scans(64, 90))
    assert (decode_rgb(tmp_path / "a.jpg", image_size=8) == 93).all()
    for scans in range(20):
        content = b"x" * (2**20 - 10 + scans) + b"\xff\xda" * 3
        monkeypatch.setattr(images, "MAX_SCANS", 2)
        with pytest.raises(DataError, match="a JPEG of 3 scans"):
            images._check_scans(io.BytesIO(content))


@seed(0)
@settings(max_examples=150 * fault_counts.FACTOR, deadline=None, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(name=st.sampled_from(sorted(bad_images.sound())), cut=st.floats(0, 1),
       changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6))  # fmt: skip
def test_any_bytes_as_an_image_give_a_square_or_a_reason(tmp_path, name, cut, changes):
    content = bytearray(corpus()["sound"][name])
    for where, value in changes:
        at = int(where**3 * max(0, len(content) - len(value)))  # heads are read more closely than pixels
        content[at : at + len(value)] = value
    check_image(bytes(content if cut < 0.7 else content[: int(len(content) * cut)]), tmp_path)
    fault_counts.count("fuzzed images", 1, 1, inputs=1)
