"""The whole service on one machine: servers, API, workers and beat as processes of their own, gone together."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
from sqlalchemy import text

from api.cli.local_servers import LocalPostgres, LocalRedis, free_port
from api.keys import KeyRing
from indexer.db.migrate import upgrade
from indexer.db.session import make_engine, open_database
from indexer.errors import Unavailable
from indexer.settings import load_settings
from worker.supervisor import Program, Supervisor, python

_DATABASE = "voxdex"
_READY_S = 120.0
_END_S = 40.0
"""Longer than what the workers' own supervisors give to theirs."""


class LocalService:
    """The service as it runs in production, on loopback and for as long as the block lasts.

    Parameters
    ----------
    workers : int
        Worker processes on the CPU.
    port : int
        Port of the API; 0 means a free one.
    folder : Path, optional
        Where home, uploads and logs are kept; None means a temporary folder that is removed.
    settings : mapping, optional
        Further environment variables for every process.

    Raises
    ------
    Unavailable
        When it is entered, if a server cannot be had or a process does not come up; the message says which.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        port: int = 0,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.postgres = LocalPostgres()
        self.redis = LocalRedis()
        self.environment: dict[str, str] = {}
        self.key = ""
        self.url = ""
        self._workers = workers
        self._port = port
        self._folder = folder
        self._settings = dict(settings or {})
        self._cleanup = ExitStack()
        self._supervisor = Supervisor([])

    @property
    def logs(self) -> Path:
        """Folder of one log for each process."""
        return self._home / "logs"

    @property
    def programs(self) -> list[Program]:
        """The processes, by their names: api, worker-1, worker-2, ..., beat."""
        return self._supervisor.programs

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._enter(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._cleanup.close()

    def run(self) -> None:
        """Keep the processes running for ever; an interrupt is raised through."""
        while True:
            self.tick()
            time.sleep(0.2)

    def tick(self) -> None:
        """Start again what has ended, as the restart policy of a container does."""
        self._supervisor.tick()

    def _enter(self, stack: ExitStack) -> None:
        if self._folder is None:
            self._home = Path(tempfile.mkdtemp(prefix="voxdex-"))
            stack.callback(shutil.rmtree, self._home, ignore_errors=True)
        else:
            self._home = self._folder
        self.logs.mkdir(parents=True, exist_ok=True)
        stack.enter_context(self.postgres)
        stack.enter_context(self.redis)
        port = self._port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = self._make_environment(port)
        self._make_database()
        self._supervisor = Supervisor(self._make_programs())
        stack.callback(self._supervisor.end, _END_S)
        self._supervisor.start()
        self._wait_until_ready()

    def _make_environment(self, port: int) -> dict[str, str]:
        threads = max(1, (os.cpu_count() or 1) // max(1, self._workers))
        return {
            "VOXDEX_EMBEDDING__DEVICE": "cpu",
            "VOXDEX_EMBEDDING__THREADS": str(threads),
            **os.environ,
            "VOXDEX_HOME": str(self._home / "home"),
            "VOXDEX_DATABASE__URL": self.postgres.url.format(_DATABASE),
            "VOXDEX_BROKER__URL": self.redis.url,
            "VOXDEX_API__HOST": "127.0.0.1",
            "VOXDEX_API__PORT": str(port),
            **self._settings,
        }

    def _make_database(self) -> None:
        engine = make_engine(self.postgres.url.format("postgres")).execution_options(isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {_DATABASE}"))
        finally:
            engine.dispose()
        url = self.postgres.url.format(_DATABASE)
        upgrade(url)
        database = open_database(load_settings(database={"url": url}))
        try:
            self.key = KeyRing(database).create(scopes=["admin"], name="up-local").secret
        finally:
            database.close()

    def _make_programs(self) -> list[Program]:
        commands = {"api": "serve"}
        commands |= {f"worker-{number}": "worker" for number in range(1, self._workers + 1)}
        commands["beat"] = "beat"
        return [
            Program(
                name=name,
                command=python("api.cli.main", command),
                environment=self.environment,
                log=self.logs / f"{name}.log",
            )
            for name, command in commands.items()
        ]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        api = self.programs[0]
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass
            if api.ended() is not None or time.monotonic() > deadline:
                assert api.log is not None  # every program here has one
                told = api.log.read_text(errors="replace").splitlines()[-3:]
                raise Unavailable(f"the API did not come up at {self.url}: {' '.join(told) or 'it says nothing'}")
            time.sleep(0.1)
