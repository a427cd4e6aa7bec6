"""An HTTP server on the loopback that gives the answers a test has written down, one after the other."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    break_off: bool = False  # close the connection: without an answer, or in the middle of the body


def document(content: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


def problem(status: int, code: str, detail: str = "it is so", **headers: str) -> Answer:
    content = {"type": f"urn:voxdex:problem:{code}", "status": status, "code": code, "detail": detail}
    return document({**content, "request_id": "r-1"}, status, **headers)


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]  # by lower-case name
    body: bytes


@dataclass
class Script:
    """What is answered, in this order, and what was asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        script = self.server.script
        headers = {name.lower(): value for name, value in self.headers.items()}
        script.requests.append(Request(self.command, self.path, headers, self._body(headers)))
        answer = script.answers.pop(0) if script.answers else document({}, 599)
        with suppress(BrokenPipeError, ConnectionResetError):
            if answer.break_off and not answer.body:
                self._break_off()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(answer.body) + answer.break_off))
            self.end_headers()
            self.wfile.write(answer.body)
            if answer.break_off:
                self._break_off()

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self.rfile.read(int(headers["content-length"]))
        whole = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return whole

    def _break_off(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the names that the library calls


class _Server(ThreadingHTTPServer):
    script: Script


@contextmanager
def running_script() -> Iterator[Script]:
    """Serve on a free port; stopped, with all its threads, at the end."""
    script = Script()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = script
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
