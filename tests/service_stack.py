"""The service as real processes on loopback, and what kills parts of it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from api.cli.local_service import LocalService
from voxdex_client import Client, Retries

VOXDEX = Path(sys.executable).with_name("voxdex")


@contextmanager
def running_service(
    folder: Path, *, workers: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[LocalService]:
    """Run the whole service; where the block fails, the error ends with what each process last said."""
    service = LocalService(workers=workers, folder=folder, settings=settings)
    try:
        with service:
            yield service
    except BaseException as error:
        error.add_note(last_words(folder))
        raise


def client_of(service: LocalService, **options: Any) -> Client:
    """Make a client that opens everything."""
    return Client(service.url, key=service.key, **options)


def impatient(service: LocalService) -> Client:
    """Make a client that tells of every failure at once."""
    return client_of(service, timeout=30.0, retries=Retries(tries=1))


def voxdex(service: LocalService, *words: str) -> Any:
    """Run a command that prints a document, in the service's environment; an exit status does not matter."""
    done = subprocess.run(
        [VOXDEX, *words, "--json"], env=service.environment, capture_output=True, text=True, timeout=300, check=False
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"exit_status": done.returncode, "stderr": done.stderr[-2000:]}


def agree(checked: Mapping[str, Any]) -> bool:
    """Tell whether `voxdex index check` found a running service's index in step with what is recorded.

    When the service writes its files is its own affair. Once there are some, what they lack is read and counts as
    indexed; before that there is nothing to read.
    """
    with_files = checked.get("indexed") == checked.get("recorded")
    without = (checked.get("indexed"), checked.get("behind")) == (0, checked.get("recorded"))
    return bool(checked.get("in_step")) and (with_files or without)


def kill_worker(service: LocalService, number: int, *, with_supervisor: bool) -> None:
    """`kill -9` everything that a worker's supervisor started, and the supervisor itself or not, at one moment."""
    (program,) = [program for program in service.programs if program.name == f"worker-{number}"]
    if program.process is None or program.process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(program.process.pid)
        victims = supervisor.children(recursive=True)
        for victim in [supervisor, *victims] if with_supervisor else victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()


def kill_workers_while(service: LocalService, holds: Callable[[], bool]) -> bool:
    """Hold all workers still; `kill -9` them with all they started if something holds then, and tell whether it did."""
    still: list[psutil.Process] = []
    for program in service.programs:
        if program.name.startswith("worker-") and program.process is not None and program.process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                supervisor = psutil.Process(program.process.pid)
                supervisor.suspend()  # First: from now on it starts none.
                still += [supervisor, *supervisor.children(recursive=True)]
    for process in still:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    found = holds()
    for process in still:
        with suppress(psutil.NoSuchProcess):
            if found:
                process.kill()
            else:
                process.resume()
    return found


def last_words(folder: Path) -> str:
    """Return the last lines of each process's log."""
    found = []
    for path in sorted((folder / "logs").glob("*.log")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"--- {path.name}", *lines[-20:]]
    return "\n".join(found)
