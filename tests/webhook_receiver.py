"""A webhook receiver on the loopback that answers as a test asks for."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """A message as it came."""

    path: str
    headers: dict[str, str]  # by lower-case name
    body: bytes


@dataclass
class Receiver:
    """What the receiver does, and what it got."""

    url: str = ""
    port: int = 0
    statuses: list[int] = field(default_factory=list)  # of the next answers; 204 when used up
    location: str | None = None
    delay_s: float = 0.0
    trickle: bool = False
    received: list[Received] = field(default_factory=list)
    names_asked_for: list[str | None] = field(default_factory=list)  # by TLS
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if receiver.delay_s:
            receiver.released.wait(receiver.delay_s)
        with suppress(BrokenPipeError, ConnectionResetError):
            if receiver.trickle:
                self._trickle(receiver)
                return
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _trickle(self, receiver: Receiver) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 100:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if receiver.released.wait(0.02):
                return


class _Server(ThreadingHTTPServer):
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a caller that hangs up, or does not trust the certificate, is what some tests want


@contextmanager
def running_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Serve on a free port; stopped, with all its threads, at the end."""
    receiver = Receiver()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.receiver = receiver
    receiver.port = server.server_address[1]
    receiver.url = f"http://127.0.0.1:{receiver.port}/hook"
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.names_asked_for.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.url = f"https://localhost:{receiver.port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
