import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.waiting import eventually
from worker.stopping import Periodically, StopFlag
from worker.supervisor import Program, Supervisor


def shell(script: str, **options: object) -> Program:
    return Program(name="test", command=["sh", "-c", script], **options)  # type: ignore[arg-type]


def test_a_program_that_dies_is_started_again_after_a_longer_and_longer_pause(tmp_path: Path) -> None:
    program = shell(f"echo started >> {tmp_path / 'starts'}; kill -9 $$")
    supervisor = Supervisor([program])
    supervisor.start()
    pauses = []
    while len(pauses) < 2:
        eventually(lambda: program.ended() is not None)
        before = time.monotonic()
        assert supervisor.tick() is None
        pauses.append((program.due_at - time.monotonic(), program.due_at - before))
        eventually(lambda: supervisor.tick() is None and program.process is not None)
    eventually(lambda: len((tmp_path / "starts").read_text().splitlines()) == 3)
    supervisor.end()
    # Each is between the two that were measured, however long the machine took in between.
    for (least, most), pause_s in zip(pauses, (0.5, 1.0), strict=True):
        assert least <= pause_s <= most


def test_a_status_that_no_restart_helps_ends_everything() -> None:
    lasting = shell("sleep 60")
    status = Supervisor([lasting, shell("exit 2", hopeless=frozenset({2}))]).run()
    assert status == 2
    assert lasting.process is None


def test_a_program_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = shell(f"trap '' TERM; sleep 61 & echo $! > {tmp_path / 'child'}; wait; wait")
    supervisor = Supervisor([program])
    supervisor.start()
    eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    child = int((tmp_path / "child").read_text())
    began = time.monotonic()
    supervisor.end(grace_s=0.3)
    assert time.monotonic() - began < 50  # What ignores the question sleeps for 61 s.
    eventually(lambda: not is_running(child))


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has asked about does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_sigterm_ends_the_programs_and_the_run() -> None:
    script = (
        "from worker.supervisor import Program, Supervisor\n"
        "import sys\n"
        "run = Supervisor([Program('test', ['sleep', '62'])])\n"
        "print('up', flush=True)\n"
        "sys.exit(run.run())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        program = eventually(lambda: psutil.Process(process.pid).children())  # By now it listens to signals.
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        eventually(lambda: not any(one.is_running() for one in program))


@pytest.mark.skipif(sys.platform != "linux", reason="workers fork on Linux only")
def test_a_stop_is_seen_in_a_forked_process() -> None:
    flag = StopFlag()
    assert not flag.wait(0.0)
    child = os.fork()
    if child == 0:
        os._exit(0 if flag.wait(60.0) else 1)
    flag.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert flag.is_set()


def test_what_is_done_periodically_ends_at_once_when_it_is_closed() -> None:
    calls: list[float] = []
    repeated = Periodically(lambda: calls.append(time.monotonic()), 60.0, name="test")
    repeated.start()
    eventually(lambda: calls)
    began = time.monotonic()
    repeated.close()
    assert time.monotonic() - began < 50
    assert len(calls) == 1
