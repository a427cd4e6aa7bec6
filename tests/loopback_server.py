"""An HTTP server on the loopback that misbehaves in every way a test asks for."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 4096  # 1 MiB
BLOCK = 64 * 1024


@dataclass
class Behavior:
    """What the server does; changed by a test while it runs."""

    content: bytes = CONTENT
    status: int = 200
    etag: str | None = '"one"'
    last_modified: str | None = None
    ranges: bool = True
    send_length: bool = True
    redirect_to: str | None = None
    location: bool = True  # whether a redirect says where to
    cuts: list[int] = field(default_factory=list)  # one answer each: bytes after which the connection is closed
    pause_after: int | None = None  # bytes after which nothing more comes while `released` is unset
    silent: bool = False
    trickle: bool = False
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # path, Range, If-Range
    released: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        behavior = self.server.behavior
        behavior.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        if behavior.silent:
            behavior.released.wait(20)
            return
        if behavior.redirect_to is not None and self.path.startswith("/from"):
            self.send_response(302)
            if behavior.location:
                self.send_header("Location", behavior.redirect_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if behavior.status != 200:
            self.send_error(behavior.status)
            return
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, which is what some tests want
            self.send_content(behavior)

    def send_content(self, behavior: Behavior) -> None:
        content, start = behavior.content, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, behavior.etag, behavior.last_modified)
        if wanted and behavior.ranges and same:
            start = int(wanted[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if behavior.etag:
            self.send_header("ETag", behavior.etag)
        if behavior.last_modified:
            self.send_header("Last-Modified", behavior.last_modified)
        if behavior.send_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + behavior.cuts.pop(0) if behavior.cuts else len(content)
        step = 16 if behavior.trickle else BLOCK
        for at in range(start, stop, step):
            if behavior.pause_after is not None and at - start >= behavior.pause_after:
                self.wfile.flush()
                behavior.released.wait(20)
                return
            self.wfile.write(content[at : min(at + step, stop)])
            if behavior.trickle:
                time.sleep(0.05)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behavior = Behavior()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that closes early is part of the game


@contextmanager
def running(server: Server) -> Iterator[Server]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.behavior.released.set()
            server.shutdown()
            thread.join()
