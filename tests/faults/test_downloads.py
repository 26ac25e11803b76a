"""Hostile servers, and published files that lie: a clean error comes out, and nothing lies where it should not."""

import gzip
import hashlib
import os
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fault_counts
import numpy as np
import pytest
from image_targets import check_reason
from peak_memory import peak_bytes, reset_peak
from raw_tar import END, A, header, pad

from pretext.datasets import download
from pretext.datasets.cifar import CIFAR10, CIFAR100, CifarSource
from pretext.datasets.download import Archive, ensure_folder
from pretext.datasets.stl10 import RECORD_BYTES, Stl10Source
from pretext.errors import DataError

BOUND_MIB = 64  # what any file here may take beyond the interpreter
MOST = 1 << 20


@pytest.fixture
def place(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "precious").write_text("not to be touched")
    return tmp_path


class Server:
    """A server in a thread that answers each request with the next of the given functions, the last one again and again."""

    def __init__(self, *answers):
        self.left, self.requests = list(answers), []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(dict(self.headers))
                (outer.left.pop(0) if len(outer.left) > 1 else outer.left[0])(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.http.handle_error = lambda *given: None  # clients that hang up are part of the tests
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    servers = []

    def start(*answers):
        servers.append(Server(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


WHOLE = gzip.compress(A + header("set/r", size=200_000) + pad(np.random.default_rng(0).bytes(200_000)) + END)
CHECKSUM = "md5:" + hashlib.md5(WHOLE).hexdigest()


def send(body=WHOLE, *, length=None, status=200, **headers):
    """An answer of a body and a Content-Length, by default its own; "" is none."""

    def answer(handler):
        handler.send_response(status)
        if length != "":
            handler.send_header("Content-Length", str(len(body)) if length is None else length)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(content):
    return lambda handler: handler.wfile.write(content)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(bytes(1 << 16))


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(WHOLE)))
    handler.end_headers()
    handler.wfile.write(WHOLE[:100])
    handler.wfile.flush()
    threading.Event().wait(0.4)


def redirect(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def get(server, place, **changes):
    """Fetch and extract as a source does; returns the error's message, or None; checks what may not happen in any case."""
    archive = Archive(url=server.url, checksum=CHECKSUM, folder="set", max_total_bytes=changes.pop("most", MOST))
    root, message = place / "root", None
    try:
        assert ensure_folder(archive, root=root, offline=False) == root / "set"
        assert (root / "set/a").read_bytes() == b"one"
    except DataError as error:
        check_reason(error)
        message = error.message
    assert sorted(os.listdir(place)) == ["precious", "root"]
    assert (place / "precious").read_text() == "not to be touched"
    allowed = {"set", "set.tar.gz"} if message is None else {"set.tar.gz.part"}
    assert set(os.listdir(root)) <= allowed
    return message


SERVERS = {
    "less than it says": [send(WHOLE[:5000], length=len(WHOLE))],
    "nothing": [raw(b"")],
    "no HTTP": [raw(b"220 ftp ready\r\n")],
    "a head without end": [raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000)],
    "a line without end": [raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000)],
    "a body without end": [endless],
    "a length of petabytes": [send(length="9" * 15)],
    "a length of 5,000 digits": [send(WHOLE[:500], length="9" * 5000)],
    "a wrong checksum": [send(WHOLE + b"!")],
    "a page": [send(b"<html>moved</html>")],
    "broken chunks": [raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")],
    "a chunk of petabytes": [raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffff\r\nabc\r\n")],
    "a redirect to itself": [redirect("/set.tar.gz")],
    "a redirect to a file": [redirect("file:///etc/passwd")],
    "a redirect to FTP": [redirect("ftp://127.0.0.1:1/x")],
    "a redirect to no address": [redirect("http://[::1/x")],
    "a redirect to no port": [redirect("http://127.0.0.1:port/x")],
    "a redirect to a long name": [redirect("http://" + "x" * 300 + "/")],
    "a redirect to nowhere": [redirect("http://127.0.0.1:1/x")],
    "words that move the cursor": [raw(b"HTTP/1.1 404 \x1b[2J\x1b]0;gone\x07" + b"x" * 9000 + b"\r\nContent-Length: 0\r\n\r\n")],
    "other bytes on resuming": [send(WHOLE[:5000], length=len(WHOLE)),
                                send(bytes(len(WHOLE) - 5000), status=206, ETag='"new"',
                                     Content_Range=f"bytes 5000-{len(WHOLE) - 1}/{len(WHOLE)}")],
    "another range on resuming": [send(WHOLE[:5000], length=len(WHOLE)),
                                  send(WHOLE[6000:], status=206, Content_Range=f"bytes 6000-{len(WHOLE) - 1}/{len(WHOLE)}")],
    "more than is left on resuming": [send(WHOLE[:5000], length=len(WHOLE)),
                                      send(WHOLE[5000:] + bytes(9), status=206,
                                           Content_Range=f"bytes 5000-{len(WHOLE) - 1}/{len(WHOLE)}")],
    "trouble without end": [send(b"", status=503)],
    "no permission": [send(b"", status=403)],
}  # fmt: skip


@pytest.mark.parametrize("what", SERVERS)
def test_a_hostile_server_is_told_and_leaves_no_archive(serve, place, what):
    fault_counts.count("hostile servers", 1, 0, inputs=1)
    server = serve(*SERVERS[what])
    assert get(server, place)
    assert len(server.requests) < 20
    assert sum(path.stat().st_size for path in (place / "root").iterdir()) < 3 * MOST
    fault_counts.count("hostile servers", 0, 1)


@pytest.mark.parametrize("answers", [
    [send(WHOLE + b"more", length=len(WHOLE))],
    [send(length="")],
    [send(WHOLE[:5000], length=len(WHOLE)), send()],
    [send(b"", status=503), raw(b""), send()],
    [redirect("/elsewhere"), send()],
], ids=["more than it says", "no length", "no ranges", "trouble that passes", "one redirect"])  # fmt: skip
def test_a_server_that_is_merely_odd_is_put_up_with(serve, place, answers):
    fault_counts.count("hostile servers", 1, 0, inputs=1)
    assert get(serve(*answers), place) is None
    fault_counts.count("hostile servers", 0, 1)


def test_after_other_bytes_the_next_run_starts_over_and_succeeds(serve, place):
    server = serve(*SERVERS["other bytes on resuming"], send())
    assert "it was deleted" in get(server, place)
    assert get(server, place) is None
    assert "Range" not in server.requests[-1]


def test_a_server_that_falls_silent_each_time_is_given_up(serve, place):
    server = serve(drip)
    with pytest.raises(DataError, match="can't be fetched: .*timed out"):
        download.fetch(
            server.url, place / "set.tar.gz", checksum=CHECKSUM, offline=False, timeout_seconds=0.1, retries=2
        )
    assert sorted(os.listdir(place)) == ["precious", "root", "set.tar.gz.part"]


def stl10_folder(place, **files):
    """STL-10's files, by name without extension; the train split is of 20 images and sound unless told."""
    folder = place / "stl10_binary"
    folder.mkdir()
    content = {"train_X.bin": bytes(20 * RECORD_BYTES), "train_y.bin": bytes(range(1, 11)) * 2} | {
        name.replace("__", "."): value for name, value in files.items()}  # fmt: skip
    for name, value in content.items():
        if callable(value):
            value(folder / name)
        else:
            (folder / name).write_bytes(value)
    return folder


def sparse(size):
    """A file that says it has that many bytes, and takes none."""

    def make(path):
        path.touch()
        os.truncate(path, size)

    return make


WRONG_STL10 = {
    "half a record": {"train_X__bin": bytes(RECORD_BYTES // 2)},
    "empty": {"train_X__bin": b""},
    "a folder for images": {"train_X__bin": os.mkdir},
    "a pipe for images": {"train_X__bin": os.mkfifo},
    "petabytes of labels": {"train_y__bin": sparse(1 << 42)},
    "a pipe for labels": {"train_y__bin": os.mkfifo},
    "a folder for labels": {"train_y__bin": os.mkdir},
    "too few labels": {"train_y__bin": bytes(range(1, 11))},
    "label 0": {"train_y__bin": bytes(20)},
    "label 11": {"train_y__bin": b"\x0b" * 20},
    "label 255": {"train_y__bin": b"\xff" * 20},
    "terabytes of names": {"class_names__txt": sparse(1 << 42)},
    "a pipe for names": {"class_names__txt": os.mkfifo},
    "too many names": {"class_names__txt": b"a\n" * 11},
    "names of no text": {"class_names__txt": b"\xff\n" * 10},
    "terabytes of folds": {"fold_indices__txt": sparse(1 << 42)},
    "words for folds": {"fold_indices__txt": b"one two\n" * 10},
    "a fold of one huge number": {"fold_indices__txt": (b"9" * 6000 + b"\n") * 10},
    "folds of huge numbers": {
        "fold_indices__txt": (b" ".join(b"9" * 18 + b"%04d" % n for n in range(1000)) + b"\n") * 10
    },
    "negative folds": {"fold_indices__txt": (b" ".join(b"-%d" % n for n in range(1, 1001)) + b"\n") * 10},
}


@pytest.mark.parametrize("what", WRONG_STL10)
def test_stl10_files_that_lie_are_told(place, what):
    fault_counts.count("lying binaries", 1, 0, inputs=1)
    folder = stl10_folder(place, **WRONG_STL10[what])
    before = reset_peak()
    with pytest.raises(DataError) as caught:
        Stl10Source(folder, image_size=96)
    check_reason(caught.value)
    assert peak_bytes() - before < BOUND_MIB << 20
    fault_counts.count("lying binaries", 0, 1)


@pytest.mark.parametrize(("layout", "label"), [(CIFAR10, 10), (CIFAR10, 255), (CIFAR100, 100)])
def test_a_cifar_label_out_of_range_is_told(place, layout, label):
    fault_counts.count("lying binaries", 1, 0, inputs=1)
    names = [name for files in layout.files.values() for name in files]
    for name in names:
        (place / name).write_bytes((bytes(layout.label_bytes - 1) + bytes([label]) + bytes(3072)) * 2)
    (place / layout.names_file).write_text("".join(f"class {n}\n" for n in range(layout.num_classes)))
    source = CifarSource(place, layout=layout, image_size=32)
    with pytest.raises(DataError, match=f"has label {label} for train image 0"):
        list(source.read("train", np.arange(2)))
    os.truncate(place / names[0], 5)
    with pytest.raises(DataError, match="not one or more records"):
        CifarSource(place, layout=layout, image_size=32)
    fault_counts.count("lying binaries", 0, 1)


def test_a_file_that_shrinks_while_it_is_read_is_told(place):
    source = Stl10Source(stl10_folder(place), image_size=96)
    os.truncate(place / "stl10_binary/train_X.bin", 3 * RECORD_BYTES + 5)
    with pytest.raises(DataError, match="ends inside record 3: 5 of"):
        list(source.read("train", np.arange(20)))


def test_names_of_classes_can_not_move_the_cursor(place):
    names = b"".join(b"\x1b[2J%d\n" % number for number in range(10))
    source = Stl10Source(stl10_folder(place, class_names__txt=names), image_size=96)
    assert source.class_names[0] == r"\x1b[2J0"
