"""Real speech through the default detector, encoder and diarizer, by the command line."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from api.cli.main import app
from indexer.types import SAMPLE_RATE_HZ, Waveform

pytestmark = [pytest.mark.real_weights, pytest.mark.real_speech, pytest.mark.usefixtures("hearing", "default_weights")]


@pytest.fixture(scope="module")
def readers(speech_dir: Path) -> list[Waveform]:
    """Two readers, ten seconds or more of each."""
    samples: dict[str, list[Waveform]] = defaultdict(list)
    with (speech_dir / "manifest.csv").open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            if row["set"] == "librispeech_testother" and len(samples) < 3:
                samples[row["speaker"]].append(soundfile.read(speech_dir / row["path"], dtype="float32")[0])
    joined = [np.concatenate(parts) for parts in samples.values()]
    return [reader for reader in joined if len(reader) >= 10 * SAMPLE_RATE_HZ][:2]


def run(*arguments: str | Path, code: int = 0) -> dict[str, object]:
    found = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert found.exit_code == code, found.output
    document: dict[str, object] = json.loads(found.stdout)
    return document


def write(path: Path, *parts: Waveform) -> Path:
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE_HZ)
    return path


def test_two_people_in_one_file_are_never_enrolled_as_one_without_a_warning(
    tmp_path: Path, readers: list[Waveform]
) -> None:
    first, second = readers
    second_s = 4 * SAMPLE_RATE_HZ
    path = write(tmp_path / "two.wav", first[: 2 * second_s], second[:second_s])
    report = run("enroll", "Ann", path)
    (notice,) = report["notices"]  # type: ignore[misc]
    assert "2 voices were heard" in notice
    assert "only the first of them is enrolled as Ann" in notice
    shown = run("recordings", "show", 1)
    rows = shown["utterance_rows"]
    assert isinstance(rows, list)
    assert shown["voices"] == 2
    assert {row["voice"]: tuple(row["speakers"]) for row in rows} == {0: ("Ann",), 1: ()}
    change_s = 2 * second_s / SAMPLE_RATE_HZ
    assert all((row["end_s"] <= change_s + 0.5) == (row["voice"] == 0) for row in rows)


def test_a_recording_of_one_reader_stays_one_and_is_said_to_be_of_one_where_asked(
    tmp_path: Path, readers: list[Waveform]
) -> None:
    report = run("enroll", "Ann", write(tmp_path / "one.wav", readers[0][: 9 * SAMPLE_RATE_HZ]))
    assert (report["notices"], report["enrolled"]) == ([], report["utterances"])
    assert run("recordings", "show", 1)["voices"] == 1
    mixed = write(tmp_path / "two.wav", *(reader[: 5 * SAMPLE_RATE_HZ] for reader in readers))
    believed = run("enroll", "Bea", mixed, "--speakers", "one")
    (notice,) = believed["notices"]  # type: ignore[misc]
    assert "sounds like 'Ann'" in notice  # whose half it is: nothing of two voices
    assert believed["enrolled"] == believed["utterances"]


def test_noise_is_refused_for_want_of_speech_and_taken_where_all_that_sounds_is(tmp_path: Path) -> None:
    hiss = 0.05 * np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE_HZ).astype(np.float32)
    path = write(tmp_path / "hiss.wav", hiss)
    report = run("ingest", path, code=1)
    (failure,) = report["failures"]  # type: ignore[misc]
    assert failure["code"] == "no-speech"
    assert run("ingest", path, "--speech", "off")["ingested"] == 1


def test_marked_speech_is_what_is_embedded(tmp_path: Path, readers: list[Waveform]) -> None:
    path = write(tmp_path / "talk.wav", readers[0][: 6 * SAMPLE_RATE_HZ])
    marks = tmp_path / "talk.csv"
    marks.write_text("start,end,speaker\n2.0,4.0,x\n", encoding="utf-8")
    assert run("ingest", path, "--speech", f"given:{marks}")["speech_s"] == pytest.approx(2.0)
    (row,) = run("recordings", "show", 1)["utterance_rows"]  # type: ignore[misc]
    assert (row["start_s"], row["end_s"]) == (1.0, 5.0)
