"""Keeps processes running: whatever ends unasked is started again, and all end together."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

GRACE_S = 20.0
"""How long processes may take to end once they are asked; longer than a worker needs to give its shard back."""

MISUSED = 2
"""Exit status of a worker process that no restart would help."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SETTLED_S = 15.0
"""A process that ran this long failed by accident; one that failed sooner waits longer before the next try."""

_POLL_S = 0.1


@dataclass
class Program:
    """A command that is kept running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    """Instead of this process's environment."""
    log: Path | None = None
    """Where standard output and error are appended; None: to those of this process."""
    hopeless: frozenset[int] = frozenset()
    """Exit statuses that no restart would help."""
    own_session: bool = True
    """Whether Ctrl-C and signals to this process's group pass it by, so that it ends when it is told to."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0
    failures: int = 0
    due_at: float = 0.0

    def start(self) -> None:
        """Start it."""
        output = self.log.open("ab") if self.log is not None else None
        try:
            self.process = subprocess.Popen(
                list(self.command),
                env=None if self.environment is None else dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=self.own_session,
            )
        finally:
            if output is not None:
                output.close()
        self.started_at = time.monotonic()

    def kill(self) -> None:
        """Kill the process, and what it started where that can be told apart, and wait for it."""
        assert self.process is not None  # it was started
        if self.own_session:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def ended(self) -> int | None:
        """Return the exit status of a process that has ended; None while it runs or waits to be started."""
        return self.process.poll() if self.process is not None else None


class Supervisor:
    """Runs programs until it is stopped; use `run` in the main thread, or `tick` from a loop of your own."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self.programs = list(programs)
        self._stopping = False

    def start(self) -> None:
        """Start every program."""
        for program in self.programs:
            program.start()

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping = True

    def run(self, *, meanwhile: Callable[[], None] | None = None) -> int:
        """Keep the programs running until `stop`, SIGTERM or SIGINT, then end them; return an exit status.

        It ends by itself, with that status, when a program ends with one that no restart would help.
        """
        previous = {number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            while not self._stopping:
                status = self.tick()
                if status is not None:
                    return status
                if meanwhile is not None:
                    meanwhile()
                time.sleep(_POLL_S)
            return 0
        finally:
            self.end()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def tick(self) -> int | None:
        """Start again what has ended; return the status of a program that cannot be helped."""
        for program in self.programs:
            status = program.ended()
            if status is not None:
                if status in program.hopeless:
                    return status
                self._postpone(program, status)
            elif program.process is None and time.monotonic() >= program.due_at:
                program.start()
        return None

    def end(self, grace_s: float = GRACE_S) -> None:
        """End every program: asked at first, and killed with all they started when they take too long."""
        running = [program for program in self.programs if program.process is not None]
        for program in running:
            if program.process is not None and program.process.poll() is None:
                program.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for program in running:
            assert program.process is not None
            try:
                program.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s did not end within %g s and is killed", program.name, grace_s)
                program.kill()
            program.process = None

    def _postpone(self, program: Program, status: int) -> None:
        settled = time.monotonic() - program.started_at >= _SETTLED_S
        program.failures = 0 if settled else program.failures + 1
        pause_s = min(_FIRST_PAUSE_S * 2 ** max(0, program.failures - 1), _LONGEST_PAUSE_S)
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        logger.warning("%s %s; it is started again in %g s", program.name, how, pause_s)
        program.process = None
        program.due_at = time.monotonic() + pause_s


def python(*arguments: str) -> list[str]:
    """Command that runs a module by this interpreter."""
    return [sys.executable, "-m", *arguments]
