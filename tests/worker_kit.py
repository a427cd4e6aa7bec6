"""Real workers in tests: processes that are started, killed and stopped as an operating system does it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from indexer.settings import Settings
from tests.waiting import eventually

VOXDEX = Path(sys.executable).with_name("voxdex")


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    """Environment variables from which a process reads the same settings."""
    assert settings.broker.url is not None
    return {
        **os.environ,
        "VOXDEX_HOME": str(settings.home),
        "VOXDEX_DATABASE__URL": settings.database_url,
        "VOXDEX_BROKER__URL": settings.broker.url.get_secret_value(),
        "VOXDEX_JOBS": settings.jobs.model_dump_json(),
        "VOXDEX_PROBES": settings.probes.model_dump_json(),
        "VOXDEX_EMBEDDING__DEVICE": "cpu",
        "VOXDEX_EMBEDDING__THREADS": "1",
        "VOXDEX_LOGGING__LEVEL": "INFO",
        **more,
    }


class WorkerProcess:
    """A `voxdex worker` in a process group of its own, with its output in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def kill(self) -> None:
        """End the process and all its children at once, as `kill -9` and the kernel do."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold up the process and all its children, so that what they are at stays as it is."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGCONT)

    def kill_while(self, holds: Callable[[], object]) -> None:
        """Kill everything at a moment at which something holds, however fast the worker is past it."""

        def killed() -> bool:
            with self.paused():
                if not holds():
                    return False
                self.kill()
                return True

        eventually(killed, told=self.told)

    def family(self) -> list[psutil.Process]:
        """List the processes that it started: Celery's own, then the child that does the work."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def told(self) -> str:
        """Return what it logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_worker(
    environment: Mapping[str, str],
    log: Path,
    *arguments: str,
    command: Sequence[str | Path] = (VOXDEX, "worker"),
    patience_s: float = 120.0,
) -> Iterator[WorkerProcess]:
    """Start a worker, and stop it at the end as a supervisor would."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, *arguments], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield WorkerProcess(process, log)
    finally:
        try:
            if process.poll() is None:
                process.terminate()
                process.wait(patience_s)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
