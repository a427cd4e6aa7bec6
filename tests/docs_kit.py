"""The pages of the documentation, and a shell in which their commands run in this process."""

import contextlib
import io
import os
import re
import runpy
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "THIRD_PARTY_NOTICES.md", "api/client/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```[ \t]*(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)

TOOLS = ("bash", "cat", "chmod", "cp", "date", "jq", "ls", "mkdir", "openssl", "rm")
"""What a page may call beside voxdex, and what runs as it is."""

_ASKS = r"""#!/bin/bash
exec 3<>"/dev/tcp/127.0.0.1/$DOCS_PORT"
names=($(compgen -A export VOXDEX_)) || true
printf '%s\n' "$((1 + $# + ${#names[@]})) ${#names[@]}" >&3
for name in "${names[@]}"; do printf '%s\0' "$name=${!name}" >&3; done
printf '%s\0' "${0##*/}" "$@" >&3
IFS= read -r status <&3
cat <&3
exit "$status"
"""


def shell_blocks(page: Path) -> list[str]:
    """Return the blocks of a page that are commands."""
    return [block for language, block in FENCE.findall(page.read_text(encoding="utf-8")) if language == "sh"]


@dataclass
class Shell:
    """A bash whose `voxdex`, `python`, `curl` and so on are functions of this process.

    Attributes
    ----------
    folder
        Where it works.
    programs
        By name: given the arguments and the environment, returns exit status and output.
    """

    folder: Path
    programs: dict[str, Callable[[list[str], dict[str, str]], tuple[int, bytes]]]
    done: list[tuple[list[str], int, bytes]] = field(default_factory=list)

    def run(self, script: str, environment: dict[str, str]) -> str:
        """Run a script to its end and return what bash itself complained of."""
        tools = self.folder / ".tools"
        tools.mkdir()
        for name in self.programs:
            (tools / name).write_text(_ASKS)
            (tools / name).chmod(0o755)
        for name in TOOLS:
            if (found := shutil.which(name)) is not None:
                (tools / name).symlink_to(found)
        with socket.create_server(("127.0.0.1", 0)) as door:
            # Each block is a group of its own, so that an error in one is no end of the others.
            process = subprocess.Popen(
                ["/bin/bash", "-c", script],
                cwd=self.folder,
                env={"PATH": str(tools), "DOCS_PORT": str(door.getsockname()[1]), **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            assert process.stderr is not None
            with process.stderr as complaints:
                while process.poll() is None:
                    if select.select([door], [], [], 0.02)[0]:
                        self._answer(door.accept()[0])
                return complaints.read().decode()

    def _answer(self, asking: socket.socket) -> None:
        with asking, asking.makefile("rb") as heard:
            count, variables = map(int, heard.readline().split())
            words = [b""] * count
            for place in range(count):
                words[place] = b"".join(iter(lambda: heard.read(1), b"\0"))
            texts = [word.decode() for word in words]
            environment = dict(text.partition("=")[::2] for text in texts[:variables])
            call = texts[variables:]
            status, output = self.programs[call[0]](call[1:], environment)
            self.done.append((call, status, output))
            asking.sendall(f"{status}\n".encode() + output)


@contextlib.contextmanager
def in_place(folder: Path, environment: dict[str, str]) -> Any:
    """Work in a folder under variables, for a while."""
    before, changed = Path.cwd(), {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        for name, value in changed.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_command(words: Sequence[str]) -> tuple[int, bytes]:
    """Run the command line in this process; both its streams together are the output."""
    from api.cli.main import answer

    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    status: Any = 0
    argv = sys.argv
    sys.argv = ["voxdex", *words]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = answer()
    except SystemExit as left:
        status = left.code or 0
    finally:
        sys.argv = argv
    return int(status), said.buffer.getvalue()  # type: ignore[attr-defined]


def run_program(words: Sequence[str]) -> tuple[int, bytes]:
    """Run `python FILE` in this process, `python -c CODE` in another; look for the module of `python -m MODULE`."""
    if words[0] == "-m":
        return (0 if find_spec(words[1]) else 1), b""
    if words[0] == "-c":
        done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout
    said = io.StringIO()
    argv = sys.argv
    sys.argv = list(words)
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(REPOSITORY / words[0]), run_name="__main__")
    finally:
        sys.argv = argv
    return 0, said.getvalue().encode()
