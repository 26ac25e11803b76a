"""Files that are nothing but records of one length, one after the other, as STL-10 and CIFAR lay their images."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import numpy as np

from pretext.datasets.listing import escape_name
from pretext.errors import DataError, UnreadableError

MAX_TEXT_BYTES = 1 << 20  # of a file of names or of indices; the longest that is published has 48 KiB


class RecordFile:
    """A file of equal records, read one by one.

    Plain reads and no memory map: the pages of a mapped 2.8 GB file count as this process's memory, and a mapped
    file that shrinks kills the process where a short read can be told.

    Args:
        path: The file.
        record_bytes: Length of one record.

    Raises:
        DataError: If the file is empty or its size is not a whole number of records.
    """

    def __init__(self, path: Path, *, record_bytes: int) -> None:
        num_bytes = path.stat().st_size
        if num_bytes == 0 or num_bytes % record_bytes != 0:
            raise DataError(
                f"{path} has {num_bytes} bytes, which is not one or more records of {record_bytes} bytes",
                hint="the file is cut short or is not what its name says; fetch it again",
            )
        self.path = path
        self.record_bytes = record_bytes
        self.num_records = num_bytes // record_bytes

    def read(self, handle: FileIO, index: int) -> np.ndarray:
        """Return record `index` as (record_bytes,) uint8 from `handle`, the file opened unbuffered.

        Raises:
            DataError: If the file has become shorter since it was measured.
            UnreadableError: If the system fails to read it.
        """
        record = np.empty(self.record_bytes, dtype=np.uint8)
        try:
            handle.seek(index * self.record_bytes)
            num_read = handle.readinto(record.data)
        except OSError as error:
            raise UnreadableError(f"{self.path} can't be read: {error.strerror}") from error
        if num_read != self.record_bytes:
            raise DataError(f"{self.path} ends inside record {index}: {num_read} of {self.record_bytes} bytes")
        return record


def interleave(plane_CHW: np.ndarray) -> np.ndarray:
    """Return channels that lie one after the other as image_HWC, C-contiguous: a third of numpy's time for all at once."""
    image_HWC = np.empty((*plane_CHW.shape[1:], len(plane_CHW)), dtype=plane_CHW.dtype)
    for channel, plane_HW in enumerate(plane_CHW):
        image_HWC[..., channel] = plane_HW
    return image_HWC


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the non-empty lines of a small text file, stripped, control characters escaped.

    Raises:
        DataError: If the file is longer than `MAX_TEXT_BYTES` or can't be read as ASCII text.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path} is not a plain file")
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes, which is more than a list in text takes")
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as text: {error}") from error
    return tuple(escape_name(line.strip()) for line in lines if line.strip())
