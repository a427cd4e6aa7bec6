"""What every command has: `--json`, completion in the shell, and a sign of life on a terminal."""

import inspect
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from api.cli.main import app
from api.cli.progress import waiting

VOXDEX = Path(sys.executable).with_name("voxdex")

UNTIL_ENDED = {"serve", "worker", "beat", "up-local"}
"""They run until they are ended, and have no answer; their log is JSON."""


def commands(command: Any, *words: str) -> Iterator[tuple[str, Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *words, name)
    if not hasattr(command, "commands") or (words and command.invoke_without_command):
        yield " ".join(words), command


def test_every_command_answers_in_json_but_those_that_run_until_they_are_ended() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) > 50
    assert "bench" in found
    without = {words for words, command in found.items() if not any("--json" in one.opts for one in command.params)}
    assert without == UNTIL_ENDED


QUICK = {
    # They read or write some rows of the record, or one small file, or run until they are ended and log.
    *("calibrations delete", "calibrations export", "calibrations import", "calibrations list", "calibrations show"),
    *("calibrations use", "encoder list", "galleries change", "galleries list", "galleries show"),
    *("jobs cancel", "jobs items", "jobs list", "jobs retry", "jobs show", "key create", "key list", "key revoke"),
    *("recordings list", "recordings show", "speakers list", "unknown list", "unknown remove", "unknown show"),
    *UNTIL_ENDED - {"serve", "up-local"},
}
SHOWS = re.compile(
    r"waiting\(|measuring\(|rogress\(|watch\(|RemoteIngest|open_workbench|run_(demo|index_bench)\(|LocalService"
)


def test_every_command_that_may_take_long_shows_that_it_lives() -> None:
    found = dict(commands(typer.main.get_command(app)))
    silent = {
        words
        for words, command in found.items()
        if not SHOWS.search(inspect.getsource(inspect.unwrap(command.callback)))
    }
    assert silent == QUICK


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("voxdex ide", "identify"),
        ("voxdex jobs wa", "watch"),
        ("voxdex identify --fp", "--fpir"),
        ("voxdex jobs list --state ca", "canceled"),
    ],
)
def test_tab_completes(typed: str, offered: str) -> None:
    asked = {"_VOXDEX_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run([VOXDEX], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [offered]


def test_completion_is_installed_for_the_shell_in_use(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    script = f'"{VOXDEX}" --install-completion && source "$HOME/.bashrc" && complete -p voxdex'
    done = subprocess.run(["bash", "-c", script], env=home, capture_output=True, text=True, check=True)
    assert "-F _voxdex_completion voxdex" in done.stdout


class Terminal(io.StringIO):
    """A screen that keeps what was written to it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_under_way_and_lines_written_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with waiting("listening", total=3) as advance:
        advance()
        sys.stderr.write("a.wav is short\n")
    assert sys.stderr is screen
    shown = screen.getvalue()
    assert "listening" in shown
    assert "a.wav is short" in shown


@pytest.mark.parametrize("quiet", [True, False])
def test_where_nobody_watches_nothing_is_shown(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("listening", quiet=quiet) as advance:
        advance()
    assert capsys.readouterr() == ("", "")
