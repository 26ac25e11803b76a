"""Archives: whole folders come out, hostile and broken ones leave nothing."""

import gzip
import io
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretext.datasets.extraction import extract
from pretext.errors import DataError


def pack(path, members):
    """Write (TarInfo or name, content) pairs as a .tar.gz."""
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def test_a_folder_comes_out_whole(tmp_path, into):
    first = tarfile.TarInfo("./set/a.bin")
    first.mtime, first.mode = 1_000_000_000, 0o4777
    archive = pack(
        tmp_path / "a.tar.gz",
        [(special("set", tarfile.DIRTYPE), b""), (first, b"one"), ("set/deep/er/b.bin", b"two"), ("._set", b"x")],
    )
    assert extract(archive, into, member_root="set") == into / "set"
    assert tree(into) == ["set", "set/a.bin", "set/deep", "set/deep/er", "set/deep/er/b.bin"]
    assert (into / "set/a.bin").read_bytes() == b"one"
    assert (into / "set/a.bin").stat().st_mtime == 1_000_000_000
    assert (into / "set/a.bin").stat().st_mode & 0o7022 == 0  # no set-user bit, not writable for others


def test_what_a_killed_process_left_goes_away(tmp_path, into):
    (into / ".set.part" / "set").mkdir(parents=True)
    (into / ".set.part" / "set" / "old").write_bytes(b"half a file")
    extract(pack(tmp_path / "a.tar.gz", [("set/a", b"one")]), into, member_root="set")
    assert tree(into) == ["set", "set/a"]


def test_a_folder_that_is_there_is_left_alone(tmp_path, into):
    (into / "set").mkdir()
    archive = pack(tmp_path / "a.tar.gz", [("set/a", b"one")])
    with pytest.raises(DataError, match="set exists already"):
        extract(archive, into, member_root="set")
    assert tree(into) == ["set"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("set/link", tarfile.SYMTYPE),
        ("set/link", tarfile.LNKTYPE),
        ("set/device", tarfile.CHRTYPE),
        ("set/device", tarfile.BLKTYPE),
        ("set/pipe", tarfile.FIFOTYPE),
        ("elsewhere/link", tarfile.SYMTYPE),
    ],
)
def test_links_and_devices_are_refused(tmp_path, into, name, kind):
    archive = pack(tmp_path / "a.tar.gz", [("set/a", b"one"), (special(name, kind, "a"), b"")])
    with pytest.raises(DataError, match=f"member '{name}' is neither a plain file nor a folder"):
        extract(archive, into, member_root="set")
    assert tree(into) == []


PART = st.sampled_from(["set", "a", ".", "", "..", "...", "b c"])
INSIDE = st.lists(PART, min_size=1, max_size=5).map("/".join)
ESCAPING = st.one_of(
    st.tuples(INSIDE, INSIDE).map(lambda pair: f"{pair[0]}/../{pair[1]}"),
    INSIDE.map(lambda name: "../" + name),
    INSIDE.map(lambda name: name + "/.."),
    INSIDE.map(lambda name: "/" + name + "/a"),
    INSIDE.map(lambda name: "set/" + name.replace("/", "\\") + "\\..\\a"),
    INSIDE.map(lambda name: "C:/" + name),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=ESCAPING, place=st.integers(0, 2), kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE]))
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(tmp_path, into, name, place, kind):
    members = [("set/one", b"1"), ("set/two", b"2")]
    members.insert(place, (special(name, kind), b""))
    archive = pack(tmp_path / "a.tar.gz", members)
    with pytest.raises(DataError, match="leads out of its folder"):
        extract(archive, into, member_root="set")
    assert tree(tmp_path) == ["a.tar.gz", "into"]


def test_sizes_are_limited(tmp_path, into):
    archive = pack(tmp_path / "a.tar.gz", [("set/a", bytes(60)), ("set/b", bytes(41))])
    with pytest.raises(DataError, match="holds more than 100 bytes"):
        extract(archive, into, member_root="set", max_total_bytes=100)
    assert tree(into) == []
    assert extract(archive, into, member_root="set", max_total_bytes=101).is_dir()


def test_a_tail_without_end_is_refused(tmp_path, into):
    archive = pack(tmp_path / "a.tar.gz", [("set/a", b"one")])
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(2_000_000)))
    with pytest.raises(DataError, match="goes on for more than 1048576 bytes after its end"):
        extract(archive, into, member_root="set")
    assert tree(into) == []


def test_another_root_is_told(tmp_path, into):
    archive = pack(tmp_path / "a.tar.gz", [("other/a", b"one")])
    with pytest.raises(DataError, match="has no folder set/"):
        extract(archive, into, member_root="set")
    pack(archive, [("set", b"a file")])
    with pytest.raises(DataError, match="has no folder set/"):
        extract(archive, into, member_root="set")
    assert tree(into) == []


def test_broken_archives_leave_nothing(tmp_path, into):
    archive = pack(tmp_path / "a.tar.gz", [("set/a", os.urandom(50_000)), ("set/b", os.urandom(50_000))])
    whole = archive.read_bytes()
    broken = bytearray(whole)
    broken[50_000] ^= 255
    for content in (b"", b"no archive", whole[:60_000], bytes(broken), gzip.compress(b"x" * 5000)):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tar\.gz can't be extracted") as caught:
            extract(archive, into, member_root="set")
        assert caught.value.hint == "fetch the archive again"
        assert tree(into) == []


def test_a_file_that_is_also_a_folder_is_told(tmp_path, into):
    archive = pack(tmp_path / "a.tar.gz", [("set/a", b"one"), ("set/a/b", b"two")])
    with pytest.raises(DataError, match="can't be extracted"):
        extract(archive, into, member_root="set")
    assert tree(into) == []
