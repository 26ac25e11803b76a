"""What all sources share: requests are checked, fingerprints follow the files."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pretext.datasets.base import Sample, check_image_size, check_request, fingerprint_files, fingerprint_parameters
from pretext.datasets.shapes import build_shapes
from pretext.errors import DataError


@pytest.fixture
def source():
    return build_shapes(num_unlabeled=0, num_train=5, num_test=0)


def test_request_outside_the_split_is_refused(source):
    with pytest.raises(ValueError, match=r"shapes train must be in 0\.\.4, got 5"):
        check_request(source, "train", np.array([0, 5]))
    with pytest.raises(ValueError, match="got -1"):
        check_request(source, "train", np.array([-1]))


@pytest.mark.parametrize("indices", [np.array([0.0]), np.array([[0]]), np.array(True), np.array([True])])
def test_request_of_another_kind_is_refused(source, indices):
    with pytest.raises(ValueError, match=f"whole numbers, got {indices.dtype}"):
        check_request(source, "train", indices)


def test_request_of_an_absent_split_names_those_there(source):
    with pytest.raises(DataError, match="no split 'test' here") as caught:
        check_request(source, "test", np.array([0]))
    assert caught.value.hint == "the splits here are: train"


def test_request_says_that_files_are_absent(source):
    source.missing = ("unlabeled",)
    with pytest.raises(DataError, match="its files are absent"):
        check_request(source, "unlabeled", np.array([0]))


@pytest.mark.parametrize("indices", [np.array([3, 1, 3], dtype=np.uint8), np.array([], dtype=np.float64)])
def test_request_becomes_int64(source, indices):
    checked = check_request(source, "train", indices)
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, indices)


def test_image_size():
    assert check_image_size(None, native=96) == 96
    assert check_image_size(1, native=96) == 1
    with pytest.raises(ValueError, match="at least 1, got 0"):
        check_image_size(0, native=96)


def test_samples_compare_by_identity():
    sample = Sample(id="a", image_HWC=np.zeros((2, 2, 3), np.uint8), label=None)
    assert sample == sample
    assert sample != Sample(id="a", image_HWC=np.zeros((2, 2, 3), np.uint8), label=None)


def test_parameter_fingerprint_ignores_order_only():
    assert fingerprint_parameters({"a": 1, "b": 2}) == fingerprint_parameters({"b": 2, "a": 1})
    assert fingerprint_parameters({"a": 1}) != fingerprint_parameters({"a": 2})
    assert fingerprint_parameters({}).startswith("sha256:")


def test_file_fingerprint_follows_name_size_time_options_and_order(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    for file in (path, other):
        os.utime(file, ns=(10**9, 10**9))
    files = [("a", path), ("b", other)]
    first = fingerprint_files(files, options={"size": 3})
    assert fingerprint_files(iter(files), options={"size": 3}) == first
    seen = {first, fingerprint_files(files, options={"size": 4}), fingerprint_files(files[::-1], options={"size": 3})}
    seen.add(fingerprint_files([("a", path), ("c", other)], options={"size": 3}))
    os.utime(path, ns=(10**9, 10**9 + 1))
    seen.add(fingerprint_files(files, options={"size": 3}))
    path.write_bytes(b"longer")
    os.utime(path, ns=(10**9, 10**9))
    seen.add(fingerprint_files(files, options={"size": 3}))
    path.unlink()
    seen.add(fingerprint_files(files, options={"size": 3}))
    assert len(seen) == 7


def test_room_imports_no_torch():
    names = ["base", "download", "extraction", "images", "listing", "records", "stl10", "cifar", "folder", "shapes",
             "shard_jobs"]  # fmt: skip
    code = "import sys, " + ", ".join(f"pretext.datasets.{name}" for name in names) + "; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
