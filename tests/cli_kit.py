"""The command line in this process, without the end of the process: torch is loaded once and not for every command."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from api.cli.main import answer


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> Any:
        """The document that it printed."""
        return json.loads(self.stdout)


def voxdex(*words: object) -> Done:
    """Run a command to its end, whatever becomes of it."""
    command = ["voxdex", *map(str, words)]
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    before = sys.argv
    sys.argv = command
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            status = answer()
    except SystemExit as leave:
        status = int(leave.code or 0)
    finally:
        sys.argv = before
    return Done(status, stdout.getvalue(), stderr.getvalue())
