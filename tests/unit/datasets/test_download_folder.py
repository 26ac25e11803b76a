"""From an archive's address to its folder: fetched and laid out once, or told why not."""

import hashlib
import io
import os
import tarfile
import threading

import pytest

from pretext.datasets.download import Archive, ensure_folder
from pretext.errors import DataError


@pytest.fixture
def archive(server):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("things/a.bin")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    server.content = buffer.getvalue()
    checksum = "md5:" + hashlib.md5(server.content).hexdigest()
    return Archive(url=server.url, checksum=checksum, folder="things", max_total_bytes=100)


def test_a_folder_is_fetched_and_laid_out_once(server, archive, tmp_path):
    root = tmp_path / "new" / "root"
    told = []
    for _ in range(2):
        folder = ensure_folder(archive, root=root, offline=False, progress=lambda done, total: told.append(done))
        assert folder == root / "things"
        assert (folder / "a.bin").read_bytes() == b"abc"
    assert sorted(os.listdir(root)) == ["set.tar.gz", "things"]
    assert len(server.requests) == 1
    assert told[-1] == len(server.content)


def test_processes_that_need_the_same_folder_fetch_it_once(server, archive, tmp_path):
    folders = []

    def work():
        folders.append(ensure_folder(archive, root=tmp_path, offline=False))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / "things"] * 4
    assert len(server.requests) == 1


def test_a_folder_that_may_not_be_fetched_is_named(server, archive, tmp_path):
    with pytest.raises(DataError, match="things is missing, and .*forbidden by --offline") as caught:
        ensure_folder(archive, root=tmp_path, offline=True)
    for fact in ("set.tar.gz", archive.url, archive.checksum, str(tmp_path), "things/"):
        assert fact in caught.value.hint
    assert server.requests == []


def test_a_root_that_is_a_file_is_told(archive, tmp_path):
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(DataError, match="things can't be written"):
        ensure_folder(archive, root=tmp_path / "root", offline=False)
