"""Files of equal records."""

import numpy as np
import pytest
from failing_file import FailingFile

from pretext.datasets.records import RecordFile, interleave, read_lines
from pretext.errors import DataError, UnreadableError


def test_records_come_by_index(tmp_path):
    path = tmp_path / "r.bin"
    path.write_bytes(bytes(range(12)))
    records = RecordFile(path, record_bytes=4)
    assert records.num_records == 3
    with path.open("rb", buffering=0) as handle:
        np.testing.assert_array_equal(records.read(handle, 2), [8, 9, 10, 11])
        np.testing.assert_array_equal(records.read(handle, 0), [0, 1, 2, 3])


@pytest.mark.parametrize("num_bytes", [0, 3, 13])
def test_a_size_that_does_not_fit_is_told_with_its_figures(tmp_path, num_bytes):
    (tmp_path / "r.bin").write_bytes(bytes(num_bytes))
    with pytest.raises(DataError, match=rf"r\.bin has {num_bytes} bytes, .* records of 4 bytes"):
        RecordFile(tmp_path / "r.bin", record_bytes=4)


def test_a_file_that_shrank_is_told(tmp_path):
    path = tmp_path / "r.bin"
    path.write_bytes(bytes(8))
    records = RecordFile(path, record_bytes=4)
    path.write_bytes(bytes(6))
    with path.open("rb", buffering=0) as handle, pytest.raises(DataError, match="ends inside record 1: 2 of 4 bytes"):
        records.read(handle, 1)


def test_a_disk_that_fails_is_told_with_the_file(tmp_path):
    (tmp_path / "r.bin").write_bytes(bytes(8))
    records = RecordFile(tmp_path / "r.bin", record_bytes=4)
    with (
        FailingFile(tmp_path / "r.bin") as handle,
        pytest.raises(UnreadableError, match=r"r\.bin can't be read: Input/o"),
    ):
        records.read(handle, 1)


@pytest.mark.parametrize("turn", [(0, 1, 2), (0, 2, 1)])
def test_channels_after_one_another_become_pixels(turn):
    plane_CHW = np.arange(60, dtype=np.uint8).reshape(3, 4, 5).transpose(turn)
    image_HWC = interleave(plane_CHW)
    np.testing.assert_array_equal(image_HWC, plane_CHW.transpose(1, 2, 0))
    assert image_HWC.flags.c_contiguous
    assert image_HWC.flags.owndata


def test_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"cat\r\n dog \n\n")
    assert read_lines(path) == ("cat", "dog")
    path.write_bytes(b"c\xe4t")
    with pytest.raises(DataError, match="can't be read as text"):
        read_lines(path)
    with pytest.raises(DataError, match=r"absent\.txt can't be read"):
        read_lines(tmp_path / "absent.txt")
