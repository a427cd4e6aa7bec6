"""A gallery under two small encoders with generated weights: made, filled, asked, killed and erased from outside."""

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from api.cli.main import app
from indexer.errors import AlreadyExists, Conflict, EncoderMismatch, InvalidRequest, NotFound
from tests.formats.audio_samples import speech_like
from tests.parity.campplus_files import random_campplus, write_campplus
from tests.slow_writes import slow_writes, usual_writes
from tests.waiting import eventually

VOXDEX = Path(sys.executable).with_name("voxdex")


def voxdex(home: Path, *words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--home", str(home), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that knows two encoders."""
    folder = tmp_path / "home"
    for name, seed in (("ann", 5), ("bob", 6)):
        path = write_campplus(tmp_path / f"{name}.pt", random_campplus(seed=seed))
        added = voxdex(folder, "encoder", "add", name, str(path))
        assert (added["family"], added["dim"]) == ("campplus", 192)
    return folder


def archive_of(folder: Path, count: int, *, seconds: float = 1.2) -> list[Path]:
    """Write recordings of one speaker each, in a folder of the speaker's name."""
    paths = []
    for number in range(count):
        path = folder / f"speaker{number}" / "a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, speech_like(seconds, seed=number), 16_000)
        paths.append(path)
    return paths


def rows(home: Path) -> dict[int, dict[str, bytes]]:
    """Vectors of each utterance, by encoder."""
    found: dict[int, dict[str, bytes]] = {}
    if not (home / "voxdex.sqlite3").exists():
        return found
    connection = sqlite3.connect(f"file:{home / 'voxdex.sqlite3'}?mode=ro", uri=True)
    try:
        for number, encoder_id, vector in connection.execute(
            "SELECT u.id, e.encoder_id, e.vector FROM utterances u LEFT JOIN embeddings e ON e.utterance_id = u.id"
        ):
            found.setdefault(number, {})[encoder_id] = vector
    finally:
        connection.close()
    return found


def test_both_encoders_embed_are_asked_checked_and_forget(tmp_path: Path, home: Path) -> None:
    paths = archive_of(tmp_path / "archive", 4)
    made = voxdex(home, "galleries", "create", "calls", "--encoder", "ann", "--second-encoder", "bob")
    first, second = made["encoder_id"], made["second_encoder_id"]
    assert first != second
    ingest = ("ingest", str(tmp_path / "archive"), "-g", "calls", "--speaker-from", "parent")
    assert voxdex(home, *ingest)["ingested"] == 4
    held = rows(home)
    assert [set(vectors) for vectors in held.values()] == [{first, second}] * 4

    answer = voxdex(home, "identify", str(paths[2]), "-g", "calls", "--threshold", "0.9")
    best, *others = answer["results"][0]["candidates"]
    assert best["speaker"] == "speaker2"
    assert (best["score"], best["second_score"]) == (pytest.approx(1.0, abs=1e-4), pytest.approx(1.0, abs=1e-4))
    assert all(other["second_score"] < best["second_score"] for other in others)

    check = voxdex(home, "index", "check", "-g", "calls")
    assert (check["in_step"], check["indexed"], check["second"]["indexed"]) == (True, 4, 4)

    info = voxdex(home, "index", "info", "-g", "calls")
    assert (info["encoder_id"], info["second"]["encoder_id"]) == (first, second)
    voxdex(home, "speakers", "delete", "speaker2", "-g", "calls", "--yes")

    gone = set(held) - set(rows(home))
    assert len(gone) == 1
    files = b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())
    for number in gone:
        assert not any(vector in files for vector in held[number].values())
    check = voxdex(home, "index", "check", "-g", "calls")
    assert (check["in_step"], check["indexed"], check["second"]["indexed"]) == (True, 3, 3)
    answer = voxdex(home, "identify", str(paths[2]), "-g", "calls", "--threshold", "0.9")
    assert "speaker2" not in {one["speaker"] for one in answer["results"][0]["candidates"]}


def test_a_gallery_gets_a_second_encoder_later_and_lets_it_go(tmp_path: Path, home: Path) -> None:
    archive_of(tmp_path / "archive", 3)
    ingest = ("ingest", str(tmp_path / "archive"), "-g", "calls", "--speaker-from", "parent", "--encoder", "ann")
    voxdex(home, *ingest)
    for wrong, error in ((("--beside",), InvalidRequest), (("--encoder", "bob", "--alone"), InvalidRequest)):
        with pytest.raises(error):
            voxdex(home, "reembed", *wrong, "-g", "calls")
    with pytest.raises(Conflict, match="name another encoder"):
        voxdex(home, "reembed", "--encoder", "ann", "--beside", "-g", "calls")

    report = voxdex(home, "reembed", "--encoder", "bob", "--beside", "-g", "calls")

    assert (report["switched"], report["beside"], report["embedded"]) == (True, True, 3)
    shown = voxdex(home, "galleries", "show", "calls")
    assert (shown["encoder_id"], shown["second_encoder_id"]) == (report["encoder_before"], report["encoder_id"])
    assert voxdex(home, "reembed", "--drop-old", "--yes", "-g", "calls")["dropped"] == []
    alone = voxdex(home, "reembed", "--alone", "-g", "calls")
    assert alone["second_encoder_before"] == report["encoder_id"]
    (dropped,) = voxdex(home, "reembed", "--drop-old", "--yes", "-g", "calls")["dropped"]
    assert dropped == {"encoder_id": report["encoder_id"], "vectors": 3}
    assert voxdex(home, "index", "check", "-g", "calls")["in_step"]


def test_what_no_gallery_can_be_made_of_is_refused_by_name(home: Path) -> None:
    with pytest.raises(NotFound, match="'nobody'; there are: ann, bob"):
        voxdex(home, "galleries", "create", "calls", "--encoder", "ann", "--second-encoder", "nobody")
    with pytest.raises(EncoderMismatch, match="twice"):
        voxdex(home, "galleries", "create", "calls", "--encoder", "ann", "--second-encoder", "ann")
    voxdex(home, "galleries", "create", "calls", "--encoder", "ann")
    with pytest.raises(AlreadyExists):
        voxdex(home, "galleries", "create", "calls", "--encoder", "ann", "--second-encoder", "bob")


def test_ingest_that_is_killed_leaves_no_utterance_under_one_encoder_alone(tmp_path: Path, home: Path) -> None:
    count = 120  # More than are written at once, by far: there is something left when the first are in.
    archive_of(tmp_path / "archive", count, seconds=0.5)
    voxdex(home, "galleries", "create", "calls", "--encoder", "ann", "--second-encoder", "bob")
    slow_writes(home)
    command = [VOXDEX, "ingest", tmp_path / "archive", "-g", "calls", "--home", home, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: process.poll() is not None or len(rows(home)) >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = rows(home)
    assert 0 < len(survived) < count, "the test killed nothing that was under way"
    assert all(len(vectors) == 2 and all(vectors.values()) for vectors in survived.values())
    usual_writes(home)

    done = voxdex(home, "ingest", str(tmp_path / "archive"), "-g", "calls")

    assert (done["found"], done["failed"]) == (count, 0)
    final = rows(home)
    assert len(final) == count
    assert all(len(vectors) == 2 for vectors in final.values())
    assert survived.items() <= final.items()
    check = voxdex(home, "index", "check", "-g", "calls")
    assert (check["in_step"], check["indexed"], check["second"]["indexed"]) == (True, count, count)
