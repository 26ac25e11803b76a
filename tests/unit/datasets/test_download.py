"""Fetching from a server in a thread: resuming, retrying, refusing, verifying."""

import hashlib
import os
import threading
from contextlib import nullcontext

import pytest

from pretext.datasets import download
from pretext.datasets.download import fetch, show_download
from pretext.errors import DataError

CONTENT = bytes(range(256)) * 4096  # what the server holds
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def get(server, to, **changes):
    return fetch(server.url, to, **{"checksum": MD5, "offline": False, "backoff_seconds": 0.0, **changes})


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_a_file_arrives_whole_and_tells_its_progress(server, tmp_path, checksum):
    told = []
    to = tmp_path / "set.tar.gz"
    assert get(server, to, checksum=checksum, progress=lambda done, total: told.append((done, total))) == to
    assert to.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert os.listdir(tmp_path) == ["set.tar.gz"]
    assert server.requests == [None]


def test_the_first_digits_of_a_sha256_are_enough_and_are_looked_at(server, tmp_path):
    short, wrong = SHA256[: len("sha256:") + 8], SHA256[: len("sha256:") + 7] + ("0" if SHA256[14] != "0" else "1")
    to = get(server, tmp_path / "net.pth", checksum=short)
    assert to.read_bytes() == CONTENT
    assert get(server, to, checksum=short, offline=True) == to
    with pytest.raises(DataError, match=f"has {SHA256}, expected {wrong}"):
        get(server, to, checksum=wrong)
    with pytest.raises(DataError, match=f"arrived with {SHA256}, expected {wrong}"):
        get(server, tmp_path / "other.pth", checksum=wrong)


def test_a_file_that_is_there_is_verified_and_not_fetched(server, tmp_path):
    to = tmp_path / "set.tar.gz"
    to.write_bytes(CONTENT)
    assert get(server, to, offline=True) == to
    to.write_bytes(b"other")
    with pytest.raises(DataError, match=f"has md5:{hashlib.md5(b'other').hexdigest()}, expected {MD5}"):
        get(server, to)
    assert to.read_bytes() == b"other"  # a user's file is not ours to delete
    assert server.requests == []


def test_a_partial_file_is_gone_on_with(server, tmp_path):
    told = []
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT[:1000])
    to = get(server, tmp_path / "set.tar.gz", progress=lambda done, total: told.append((done, total)))
    assert to.read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]
    assert told[0][0] > 1000
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert not (tmp_path / "set.tar.gz.part").exists()


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "set.tar.gz.part").write_bytes(b"x" * 1000)
    assert get(server, tmp_path / "set.tar.gz").read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]


def test_another_range_than_asked_for_is_refused(server, tmp_path):
    server.wrong_range = True
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="asked for bytes from 1000, the server sent others"):
        get(server, tmp_path / "set.tar.gz")


def test_a_whole_partial_file_is_verified_on_416(server, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT)
    assert get(server, tmp_path / "set.tar.gz").read_bytes() == CONTENT
    assert server.requests == [f"bytes={len(CONTENT)}-"]


def test_a_partial_file_that_is_too_long_is_deleted(server, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT + b"x")
    with pytest.raises(DataError, match=f"expected {MD5}; it was deleted"):
        get(server, tmp_path / "set.tar.gz")
    assert os.listdir(tmp_path) == []


def test_a_wrong_checksum_deletes_the_part_and_names_both(server, tmp_path):
    server.content = CONTENT + b"changed"
    actual = "md5:" + hashlib.md5(server.content).hexdigest()
    with pytest.raises(DataError, match=f"arrived with {actual}, expected {MD5}") as caught:
        get(server, tmp_path / "set.tar.gz")
    assert server.url in caught.value.message
    assert os.listdir(tmp_path) == []


def test_a_cut_line_is_taken_up_where_it_broke(server, tmp_path):
    server.cut_after = [500_000, 300_000]
    assert get(server, tmp_path / "set.tar.gz").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=500000-", "bytes=800000-"]


def test_new_bytes_start_the_count_of_retries_afresh(server, tmp_path):
    server.cut_after = [100_000] * 8
    assert get(server, tmp_path / "set.tar.gz", retries=1).read_bytes() == CONTENT
    assert len(server.requests) == 9


def test_a_server_that_starts_over_and_breaks_each_time_is_given_up(server, tmp_path):
    server.ranges = False
    server.cut_after = [1000] * 20
    with pytest.raises(
        DataError, match=r"ended after 1000 of 1048576 bytes \(3 retries, 1000 bytes so far\)"
    ) as caught:
        get(server, tmp_path / "set.tar.gz")
    assert "run again" in caught.value.hint
    assert len(server.requests) == 4
    assert (tmp_path / "set.tar.gz.part").stat().st_size == 1000


def test_a_length_that_is_not_told_is_no_fault(server, tmp_path):
    told = []
    server.with_length = False
    to = get(server, tmp_path / "set.tar.gz", progress=lambda done, total: told.append((done, total)))
    assert to.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), None)


def test_a_passing_refusal_is_tried_again_and_a_final_one_is_not(server, tmp_path):
    server.statuses = [503, 429]
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    assert len(server.requests) == 3
    server.statuses = [404, 404]
    with pytest.raises(DataError, match="the server answers 404 Not Found"):
        get(server, tmp_path / "b")
    assert len(server.requests) == 4
    server.statuses = [503] * 4
    with pytest.raises(DataError, match="answers 503 Service Unavailable"):
        get(server, tmp_path / "c")
    assert len(server.requests) == 8


def test_pauses_double(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.statuses = [500] * 4
    with pytest.raises(DataError, match="500"):
        get(server, tmp_path / "a", backoff_seconds=0.5)
    assert pauses == [0.5, 1.0, 2.0]


def test_silence_counts_as_a_broken_line(server, tmp_path):
    lock = threading.Event()
    answer = server.answer
    server.answer = lambda handler: (lock.wait(5), answer(handler))
    try:
        with pytest.raises(DataError, match="timed out"):
            get(server, tmp_path / "a", retries=0, timeout_seconds=0.05)
    finally:
        lock.set()


def test_nobody_listening_is_told(server, tmp_path):
    server.close()
    with pytest.raises(DataError, match="Connection refused"):
        get(server, tmp_path / "a", retries=1)
    server.thread = threading.Thread()  # closed above already
    server.close = lambda: None


def test_offline_names_file_address_and_checksum(tmp_path):
    with pytest.raises(DataError, match="set is missing, and --offline forbids") as caught:
        fetch("https://example.org/set", tmp_path / "set", checksum=MD5, offline=True)
    assert "https://example.org/set" in caught.value.hint
    assert MD5 in caught.value.hint


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a", "set.tar.gz"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match=f"got {url}"):
        fetch(url, tmp_path / "a", checksum=MD5, offline=False)


@pytest.mark.parametrize("checksum", ["sha1:00", "00", "md5:", MD5[:-1], SHA256[: len("sha256:") + 7], SHA256 + "0"])
def test_other_checksums_are_refused(tmp_path, checksum):
    with pytest.raises(ValueError, match=f"got {checksum}"):
        fetch("http://example.org/a", tmp_path / "a", checksum=checksum, offline=False)


def test_a_disk_that_refuses_is_not_tried_again(server, tmp_path):
    with pytest.raises(DataError, match=r"a\.part can't be written"):
        get(server, tmp_path / "no" / "such" / "a")
    assert len(server.requests) == 1


def test_silence_in_the_middle_is_taken_up_where_it_broke(server, tmp_path):
    lock = threading.Event()
    plain = server.answer

    def stall(handler):
        if server.requests:
            plain(handler)
            return
        server.requests.append(None)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:1000])
        lock.wait(5)

    server.answer = stall
    try:
        assert get(server, tmp_path / "a", timeout_seconds=0.3).read_bytes() == CONTENT
    finally:
        lock.set()
    assert server.requests == [None, "bytes=1000-"]


def test_a_download_is_shown_from_its_first_bytes_on_and_not_without_any(server, tmp_path):
    shown = []

    class Shown:
        def task(self, label, total, unit, *, done=0):
            shown.append((label, total, unit))
            return nullcontext(self)

        def advance(self, amount=1, **facts):
            shown.append(amount)

    with show_download(Shown()) as tell:
        get(server, tmp_path / "set.tar.gz", progress=tell)
        get(server, tmp_path / "set.tar.gz", progress=tell)
    assert shown[0] == ("downloading", len(CONTENT), "bytes")
    assert sum(shown[1:]) == len(CONTENT)
    with show_download(Shown()):
        pass
    assert shown.count(shown[0]) == 1
