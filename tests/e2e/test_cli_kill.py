"""A process killed at any moment loses nothing that was written, and the next run makes nothing twice."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from tests.cli_kit import voxdex
from tests.formats.audio_samples import speech_like
from tests.slow_writes import slow_writes, usual_writes
from tests.waiting import eventually

pytestmark = pytest.mark.real_weights

FILES = 200
KILLS = 4
VOXDEX = Path(sys.executable).with_name("voxdex")


def contents(home: Path) -> dict[str, str]:
    """Return what is committed: content hash -> checksums of the recording's vectors."""
    database = home / "voxdex.sqlite3"
    if not database.exists():
        return {}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT content_sha256, group_concat(e.id || ':' || e.checksum) FROM recordings r "
            "JOIN utterances u ON u.recording_id = r.id JOIN embeddings e ON e.utterance_id = u.id GROUP BY r.id"
        ).fetchall()
        assert len({content for content, _ in rows}) == len(rows), "a recording is there twice"
        return dict(rows)
    except sqlite3.OperationalError:
        return {}  # Killed before the tables were made.
    finally:
        connection.close()


def wait_for_more(process: subprocess.Popen[bytes], home: Path, than: int) -> None:
    """Wait until more recordings are there, or the process has ended."""
    eventually(lambda: process.poll() is not None or len(contents(home)) > than)


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(tmp_path: Path, default_weights: Path) -> None:
    archive, home = tmp_path / "archive", tmp_path / "home"
    archive.mkdir()
    for number in range(FILES):
        soundfile.write(archive / f"{number:03}.wav", speech_like(2.0, seed=number), 16_000)
    slow_writes(home)
    process = subprocess.Popen(
        [VOXDEX, "ingest", archive, "--home", home],
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    eventually(lambda: contents(home) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    last = stderr.strip().splitlines()[-1]
    assert last == "voxdex: interrupted; what was finished is kept, run the same command again to go on"
    assert 0 < len(contents(home)) < FILES


def test_ingest_killed_again_and_again_ends_with_every_file_exactly_once(tmp_path: Path, default_weights: Path) -> None:
    archive, home = tmp_path / "archive", tmp_path / "home"
    archive.mkdir()
    for number in range(FILES):
        soundfile.write(archive / f"{number:03}.wav", speech_like(0.6, seed=number), 16_000)
    slow_writes(home)
    command = [VOXDEX, "ingest", archive, "--home", home]
    rng = random.Random(20261122)
    killed_midway, survived = 0, contents(home)
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_more(process, home, len(survived))
        time.sleep(rng.uniform(0.0, 0.2))
        midway = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = contents(home)
        assert survived.items() <= now.items(), "something that was committed is gone or has changed"
        killed_midway += midway and len(now) < FILES
        survived = now
    assert killed_midway >= 2, "the test killed nothing that was under way"
    usual_writes(home)

    done = voxdex("ingest", archive, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    report = done.answer
    assert (report["found"], report["failed"]) == (FILES, 0)
    assert report["ingested"] + report["duplicate"] == FILES
    final = contents(home)
    assert len(final) == FILES
    assert survived.items() <= final.items()
    agreed = voxdex("index", "check", "--home", home, "--json").answer
    assert (agreed["in_step"], agreed["indexed"], agreed["recorded"]) == (True, FILES, FILES)
