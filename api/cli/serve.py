"""`voxdex serve`: the HTTP service."""

import os
import socket
import sys
import threading
import webbrowser
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import options
from api.cli.output import print_line, print_notice
from api.cli.progress import waiting
from indexer.errors import Unavailable

if TYPE_CHECKING:
    from api.runtime import Runtime
    from indexer.settings import ApiSettings

GRACE_S = 5.0
"""How long requests under way may take to end once the process is asked to stop."""

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while another wants it. The encoder's thread wants it back after each of
some hundred steps of a pass, and at Python's usual 5 ms it waits for those that read requests more than it computes."""

MOST_CONNECTIONS = 1024
"""Connections that are served at once, idle ones too; beyond them the answer is 503. Above all that routes admit."""


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            "--host", help="Address to listen on (default: VOXDEX_API__HOST, else 127.0.0.1).", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help="Port to listen on; 0 takes a free one (default: VOXDEX_API__PORT, else 8080).",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Show the page in this machine's browser once it can be loaded.")
    ] = False,
    home: options.Home = None,
) -> None:
    """Serve the page and the HTTP API until Ctrl-C; without a broker, jobs are worked through in this process."""
    with waiting("starting"):  # These imports take seconds.
        from api.app import create_app
        from api.dependencies import settings_of
        from api.runtime import Runtime
        from api.security import require_safe_binding
        from indexer.observability import setup_logging

    settings = settings_of(home=home)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"api": settings.api.model_copy(update=given)})
    setup_logging(settings, service="serve")
    runtime = Runtime(settings)
    try:
        is_open = require_safe_binding(settings.api, keys_exist=not runtime.keys.is_empty())
        listener = _listening(settings.api)
    except BaseException:
        runtime.close()
        raise
    with listener:
        host, port = settings.api.host, listener.getsockname()[1]
        _greet(_address(host, port), is_open=is_open)
        # Where everybody is listened to, this machine's browser comes by loopback.
        here = _address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
        _run(create_app(settings, runtime), listener, runtime, shown=here if open_page else None)


def _listening(settings: "ApiSettings") -> socket.socket:
    """Take the port, before anything that takes long: whoever is told of it can already connect.

    Raises
    ------
    Unavailable
        If the port is taken, or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        # What `create_server` says repeats the address; a name that leads nowhere has numbers of its own.
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise Unavailable(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; choose another --host or --port"
        ) from error


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(address: str, *, is_open: bool) -> None:
    from api.page_files import PageFiles

    built = "" if PageFiles().is_built else " (`make page` builds the page)"
    print_line(f"voxdex serves {address}/{built}, and the API: {address}/v1/openapi.json")
    if is_open:
        print_line("open: whoever reaches this address is served without a key; `voxdex key create` ends that")
    else:
        print_line("requests need a key: `voxdex key create` makes one, and the page asks for it")
    sys.stdout.flush()  # Whoever started this may be reading the address from a pipe.


def _show(address: str) -> None:
    """Show the page, where there is a browser; starting one may take seconds."""
    if not webbrowser.open(address):
        print_notice(f"no browser was found on this machine: open {address} in one")


def _run(app: object, listener: socket.socket, runtime: "Runtime", *, shown: str | None) -> None:
    import uvicorn

    sys.setswitchinterval(SWITCH_S)

    class Server(uvicorn.Server):
        """Ends by itself when asked to, as a command that did what it was told: with status 0."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if shown is not None:
                threading.Thread(target=_show, args=(shown,), name="browser", daemon=True).start()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True
            runtime.stopping.set()

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        # Not whichever is installed: the two parsers differ in what they let through.
        http="httptools",
        limit_concurrency=MOST_CONNECTIONS,
        access_log=False,  # `api.middleware` writes it.
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(GRACE_S),
    )
    Server(config).run(sockets=[listener])
