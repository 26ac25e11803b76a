"""What fuzzers call: bytes become an image or a reason, a tar its folder or a clean error, and nothing else."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np

from pretext.datasets.extraction import extract
from pretext.datasets.images import decode_rgb
from pretext.errors import DataError

SIDE = 16
MAX_BYTES = 100_000  # of an archive's files
MAX_REASON = 500


def check_reason(error: DataError) -> None:
    """A reason is one line that any terminal takes."""
    assert 0 < len(error.message) < MAX_REASON, error.message
    assert error.message.isprintable(), error.message


def check_image(content: bytes, folder: Path) -> bool:
    """Decode bytes; returns whether they were an image. Anything but an image or a reason is raised."""
    path = folder / "a.png"
    path.write_bytes(content)
    try:
        image_HWC = decode_rgb(path, image_size=SIDE)
    except DataError as error:
        check_reason(error)
        return False
    assert image_HWC.shape == (SIDE, SIDE, 3)
    assert image_HWC.dtype == np.uint8
    return True


def check_archive(tar: bytes, folder: Path) -> bool:
    """Extract the bytes of a tar, gzipped here; returns whether its folder came out, and checks what lies where."""
    into = folder / "deep" / "into"
    shutil.rmtree(folder / "deep", ignore_errors=True)
    into.mkdir(parents=True)
    archive = folder / "a.tar.gz"
    archive.write_bytes(gzip.compress(tar, 1))
    try:
        extract(archive, into, member_root="set", max_total_bytes=MAX_BYTES)
        done = True
    except DataError as error:
        check_reason(error)
        done = False
    assert sorted(os.listdir(folder)) == ["a.tar.gz", "deep"]
    assert os.listdir(folder / "deep") == ["into"]
    assert os.listdir(into) == (["set"] if done else [])
    size = 0
    for parent, folders, files in os.walk(into):
        for name in folders + files:
            path = os.path.join(parent, name)
            assert not os.path.islink(path)
            assert os.path.isdir(path) or os.path.isfile(path)
            size += os.path.getsize(path) if os.path.isfile(path) else 0
    assert size <= MAX_BYTES
    return done


def archive_seeds() -> dict[str, bytes]:
    """Tars of every kind of header, not compressed, by name."""
    seeds = {}
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for kind in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            target = io.BytesIO()
            with tarfile.open(fileobj=target, mode="w", format=form) as tar:
                for name in ("set", "set/a", "set/" + "b" * 90, "._set"):
                    member = tarfile.TarInfo(name)
                    member.type = tarfile.DIRTYPE if name == "set" else kind if name == "set/a" else tarfile.REGTYPE
                    member.linkname, member.mtime, member.size = "../x", 1e9, 5 if member.isreg() else 0
                    if form != tarfile.USTAR_FORMAT and name == "set/a":
                        member.name = "set/" + "long" * 40
                    if form == tarfile.PAX_FORMAT:
                        member.pax_headers = {"mtime": "1.5", "comment": "none"}
                    tar.addfile(member, io.BytesIO(b"bytes"))
            seeds[f"{form}-{kind.decode()}"] = target.getvalue().rstrip(b"\0") + bytes(1024)
    return seeds
