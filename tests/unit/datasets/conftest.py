"""A web server in a thread, with faults to order."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server:
    """A server with faults: what each test sets is what the next requests meet."""

    def __init__(self):
        self.content = bytes(range(256)) * 4096  # 1 MiB
        self.ranges = True  # whether Range is honoured
        self.wrong_range = False  # whether another range than asked for is sent
        self.cut_after = []  # for each coming request: bytes of body before the line is cut
        self.statuses = []  # for each coming request: the error to answer
        self.with_length = True
        self.requests = []  # the Range header of each request, None without
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *given: None  # a client that hangs up early is part of the tests
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        if asked and self.ranges and start >= len(self.content):
            handler.send_error(416)
            return
        ranged = asked is not None and self.ranges
        handler.send_response(206 if ranged else 200)
        body = self.content[start:]
        if ranged:
            told = start + 1 if self.wrong_range else start
            handler.send_header("Content-Range", f"bytes {told}-{len(self.content) - 1}/{len(self.content)}")
        if self.with_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after.pop(0)] if self.cut_after else body)

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.close()
