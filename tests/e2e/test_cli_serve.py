"""`voxdex serve` as a process: it answers soon, says where and to whom, and ends when it is told to."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.waiting import eventually

VOXDEX = Path(sys.executable).with_name("voxdex")


def environment(home: Path, **more: str) -> dict[str, str]:
    # Offline: what is shown here needs no weights, and must not fetch any.
    return {**os.environ, "VOXDEX_HOME": str(home), "VOXDEX_OFFLINE": "1", "VOXDEX_CACHE": str(home / "cache"), **more}


@contextmanager
def served(home: Path, *options: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    with subprocess.Popen(
        [VOXDEX, "serve", "--port", "0", *options],
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            where, who = process.stdout.readline(), process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", where)
            assert found, (where, process.poll())
            yield process, found[0], who
        finally:
            process.kill()


def test_it_answers_and_a_signal_ends_it_with_status_0_within_seconds(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with served(tmp_path / "home", BROWSER=_noting(tmp_path)) as (process, url, who):
            assert "open" in who
            assert httpx.get(f"{url}/healthz", timeout=60).json() == {"status": "ok"}
            assert httpx.get(f"{url}/readyz", timeout=60).json()["encoder"]["ok"] is False
            with httpx.stream("GET", f"{url}/v1/openapi.json", timeout=60) as answer:
                assert answer.status_code == 200
            process.send_signal(number)
            _, log = process.communicate(timeout=120)
            assert process.returncode == 0, log
            assert '"service": "serve"' in log
    assert not (tmp_path / "shown").exists()


def test_the_page_is_shown_in_a_browser_where_that_is_asked_for(tmp_path: Path) -> None:
    with served(tmp_path / "home", "--open", BROWSER=_noting(tmp_path)) as (_, url, _):
        eventually((tmp_path / "shown").exists)
        assert (tmp_path / "shown").read_text(encoding="utf-8").strip() == url


def _noting(folder: Path) -> str:
    """Make a browser that notes what it is to show."""
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/shown.new && mv {folder}/shown.new {folder}/shown\n')
    browser.chmod(0o700)
    return f"{browser} %s"


def test_an_address_that_others_reach_is_refused_while_there_is_no_key(tmp_path: Path) -> None:
    done = subprocess.run(
        [VOXDEX, "serve", "--host", "0.0.0.0", "--port", "0"],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "voxdex key create" in done.stderr
    assert done.stdout == ""


def test_with_a_key_nobody_is_served_without_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = subprocess.run(
        [VOXDEX, "key", "create", "--scope", "read"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    key = re.search(r"vdx_\S+", made.stdout)
    assert key
    with served(home) as (_, url, who):
        assert "key" in who
        assert httpx.get(f"{url}/v1/stats", timeout=60).status_code == 401
        assert httpx.get(f"{url}/v1/stats", headers={"x-api-key": key[0]}, timeout=60).json()["galleries"] == 0


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [VOXDEX, "serve", "--port", port],
            env=environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 6
    told = done.stderr.splitlines()[-1]
    assert told.endswith(f"port {port}: Address already in use; choose another --host or --port")


@pytest.mark.parametrize("wrong", [["--port", "70000"], ["--host", "no.such.host.invalid"]])
def test_an_address_that_cannot_be_is_refused(tmp_path: Path, wrong: list[str]) -> None:
    open_to_all = environment(tmp_path / "home", VOXDEX_API__OPEN="true")
    done = subprocess.run([VOXDEX, "serve", *wrong], env=open_to_all, capture_output=True, text=True, timeout=120)
    assert done.returncode in (2, 6)
    assert "Traceback" not in done.stderr
