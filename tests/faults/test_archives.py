"""Hostile archives and servers: a clean error comes out or the folder does, and nothing lies where it should not."""

import functools
import gzip
import os
import tarfile
import time

import fault_counts
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from image_targets import archive_seeds, check_archive, check_reason
from peak_memory import peak_bytes, reset_peak
from raw_tar import END, A, extended, header, pad, record

from pretext.datasets import extraction
from pretext.errors import DataError

BOUND_MIB = 64  # what any archive here may take beyond the interpreter
MOST = 1 << 20


HOSTILE = {
    "absolute path": header("/set/x"),
    "path above": header("set/../../x"),
    "path above in a long name": extended(record(b"path", b"set/" + b"../" * 60 + b"x")) + header("set/x"),
    "path above in GNU's long name": header("x", b"L", 14) + pad(b"set/../../../x") + header("set/x"),
    "link inside": header("set/l", tarfile.SYMTYPE, link="a"),
    "link outside": header("set/l", tarfile.SYMTYPE, link="../../x"),
    "file through a link": header("set/l", tarfile.SYMTYPE, link="/tmp") + header("set/l/x"),
    "hard link inside": header("set/l", tarfile.LNKTYPE, link="set/a"),
    "hard link outside": header("set/l", tarfile.LNKTYPE, link="/etc/passwd"),
    "link in a long header": extended(record(b"linkpath", b"/etc/passwd")) + header("set/l", tarfile.SYMTYPE),
    "device": header("set/d", tarfile.CHRTYPE),
    "block device": header("set/d", tarfile.BLKTYPE),
    "pipe": header("set/p", tarfile.FIFOTYPE),
    "unknown kind": header("set/u", b"Z", 5) + pad(b"bytes"),
    "continuous file": header("set/u", tarfile.CONTTYPE),
    "GNU sparse file": header("set/s", tarfile.GNUTYPE_SPARSE, 3, b483=tarfile.itn(1 << 40, 12, tarfile.GNU_FORMAT)) + pad(b"one"),
    "sparse file in a header": extended(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"),
                                        record(b"GNU.sparse.realsize", b"99999999999"), record(b"GNU.sparse.name", b"set/s"))
                               + header("set/s", size=512) + pad(b"1\n0\n99999999999\n"),
    "10 GB": header("set/big", size=10 << 30),
    "10 GB in a header": extended(record(b"size", b"10737418240")) + header("set/big", size=3) + pad(b"one"),
    "negative size": header("set/n", size=-512),
    "negative size far back": header("set/n", size=-(1 << 60)),
    "negative size in a header": extended(record(b"size", b"-1024")) + header("set/n"),
    "negative long name": header("set/n", b"L", -512) + header("set/n"),
    "long name of 1 GB": header("set/n", b"L", 1 << 30) + bytes(MOST),
    "header of 1 GB": header("set/n", b"x", 1 << 30) + bytes(MOST),
    "header of digits": header("pax", b"x", 256 << 10) + b"1" * (256 << 10) + header("set/n"),
    "global header of digits": header("pax", b"g", 256 << 10) + b"1" * (256 << 10) + header("set/n"),
    "thousands of headers in a row": extended(record(b"comment", b"x")) * 3000 + header("set/n"),
    "thousands of long names in a row": (header("n", b"L", 5) + pad(b"set/b")) * 3000 + header("set/n"),
    "time that is no number": extended(record(b"mtime", b"nan")) + header("set/t"),
    "endless time": extended(record(b"mtime", b"inf")) + header("set/t"),
    "time beyond the system's": extended(record(b"mtime", b"1e300")) + header("set/t"),
    "name with a zero": extended(record(b"path", b"set/a\0b")) + header("set/z"),
    "name too long for the system": extended(record(b"path", b"set/" + b"n" * 300)) + header("set/z"),
    "path too long for the system": extended(record(b"path", b"set/" + b"n/" * 1900)) + header("set/z"),
    "name with a backslash": header("set\\..\\x"),
    "drive": header("C:/x"),
    "file that is a folder too": header("set/a/b"),
    "wrong sum": header("set/w").replace(b"set/w", b"set/v"),
    "record that lies about its length": extended(b"99 path=set/x\n") + header("set/q"),
    "record of length 0": extended(b"0 path=x\n") + header("set/q"),
    "cut short in a header": header("set/h")[:200],
    "cut short between members": header("set/h") + b"",
    "endless tail": END + bytes(3 * MOST),
    "cut short in a file": header("set/c", size=100_000) + bytes(1000),
}  # fmt: skip
HARMLESS = {
    "plain": b"",
    "duplicate names": header("set/a", size=3) + pad(b"two"),
    "control characters": header("set/new\nline\x1b[31m"),
    "bytes that are no text": extended(record(b"path", b"set/\xff\xfe")) + header("set/x"),
    "beside the folder": header("._set") + header("other/x", size=3) + pad(b"two"),
    "set-user bit": header("set/s", b100=b"0004777\0"),
    "unreadable": header("set/s", b100=b"0000000\0"),
    "thousands of members": b"".join(header(f"set/m{number}") for number in range(800)),
    "names with dots": header("set/./././b") + header("./set//c"),
}  # fmt: skip


def tree(folder):
    return sorted(os.path.relpath(os.path.join(parent, name), folder)
                  for parent, folders, files in os.walk(folder) for name in folders + files)  # fmt: skip


@pytest.fixture
def place(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "precious").write_text("not to be touched")
    return tmp_path


def unpack(place, tar, **changes):
    """Extract a tar, gzipped here; returns the error's message, or None; checks what may not happen in any case."""
    archive = place / "set.tar.gz"
    archive.write_bytes(tar if changes.pop("zipped", False) else gzip.compress(tar))
    before = reset_peak()
    started, message = time.monotonic(), None
    try:
        extraction.extract(archive, place / "root", member_root="set", max_total_bytes=MOST)
    except DataError as error:
        check_reason(error)
        message = error.message
    assert time.monotonic() - started < 10
    assert peak_bytes() - before < BOUND_MIB << 20
    assert sorted(os.listdir(place)) == ["precious", "root", "set.tar.gz"]
    assert (place / "precious").read_text() == "not to be touched"
    assert os.listdir(place / "root") == ([] if message else ["set"])
    return message


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(place, what):
    fault_counts.count("hostile archives", 1, 0, inputs=1)
    assert unpack(place, A + HOSTILE[what] + (b"" if what.startswith("cut") else END))
    fault_counts.count("hostile archives", 0, 1)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_odd_but_harmless_comes_out_inside(place, what):
    fault_counts.count("hostile archives", 1, 0, inputs=1)
    assert unpack(place, A + HARMLESS[what] + END) is None
    for parent, folders, files in os.walk(place / "root"):
        for name in folders + files:
            status = os.lstat(os.path.join(parent, name))
            assert status.st_mode & 0o170000 in (0o100000, 0o040000)
            assert status.st_mode & 0o7022 == 0 or status.st_mode & 0o170000 == 0o040000
            assert status.st_mode & 0o400
    assert (place / "root/set/a").read_bytes() == (b"two" if what == "duplicate names" else b"one")
    fault_counts.count("hostile archives", 0, 1)


@functools.cache
def broken_gzips():
    whole = gzip.compress(A + header("set/r", size=5000) + pad(np.random.default_rng(0).bytes(5000)) + END)
    bomb = gzip.compress(header("set/z", size=MOST + 1) + bytes(8 * MOST))
    return {
        "nothing": b"",
        "no gzip": b"<html>404</html>",
        "cut in its head": whole[:7],
        "cut in the middle": whole[: len(whole) // 2],
        "cut in its sum": whole[:-5],
        "wrong sum": whole[:-8] + bytes(4) + whole[-4:],
        "wrong length": whole[:-4] + bytes(4),
        "flipped bit": whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:],
        "garbage after it": whole + b"garbage",
        "bomb": bomb,
        "bomb of zeros": gzip.compress(bytes(8 * MOST)),
        "zipped twice": gzip.compress(whole),
    }


@pytest.mark.parametrize("what", broken_gzips())
def test_a_broken_gzip_is_refused_and_leaves_nothing(place, what):
    fault_counts.count("hostile archives", 1, 0, inputs=1)
    assert unpack(place, broken_gzips()[what], zipped=True)
    fault_counts.count("hostile archives", 0, 1)


def test_members_without_end_are_refused(place, monkeypatch):
    monkeypatch.setattr(extraction, "MAX_MEMBERS", 100)
    assert unpack(place, A + header("set/e") * 99 + END) is None
    (place / "root/set/a").unlink()
    (place / "root/set/e").unlink()
    (place / "root/set").rmdir()
    assert "has more than 100 members" in unpack(place, A + header("set/e") * 100 + END)


@seed(0)
@settings(max_examples=60 * fault_counts.FACTOR, deadline=None, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(name=st.sampled_from(sorted(archive_seeds())),
       changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=6),
       mend=st.booleans())  # fmt: skip
def test_any_bytes_as_a_tar_give_a_folder_or_a_clean_error(tmp_path, name, changes, mend):
    tar = bytearray(archive_seeds()[name])
    for where, value in changes:
        at = int(where * (len(tar) - len(value)))
        tar[at : at + len(value)] = value
    if mend:  # a header whose sum is wrong goes no further
        for start in range(0, len(tar) - 1024, 512):
            if tar[start + 257 : start + 262] == b"ustar":
                tar[start + 148 : start + 156] = b" " * 8
                tar[start + 148 : start + 156] = b"%06o\0 " % sum(tar[start : start + 512])
    check_archive(bytes(tar), tmp_path)
    fault_counts.count("fuzzed archives", 1, 1, inputs=1)
