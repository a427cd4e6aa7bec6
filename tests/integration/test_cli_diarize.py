"""`voxdex diarize` on a conversation made of real speech, whose truth is known."""

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from api.cli.main import app
from indexer.audio.rttm import format_rttm, parse_rttm
from indexer.errors import InvalidRequest
from indexer.types import SAMPLE_RATE_HZ
from search.diarization_error import measure_diarization
from tests.reports.conversations import Recipe, make_conversation, read_material


@pytest.fixture(scope="module")
def conversation(speech_dir: Path, default_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV file of two speakers, with its RTTM beside it."""
    folder = tmp_path_factory.mktemp("conversation")
    made = make_conversation(
        read_material(speech_dir, sets=["librispeech_multi"]),
        Recipe(2, pauses=True, equalized=True, most_speaker_s=9.0),
        seed=7,
        name="talk",
    )
    soundfile.write(folder / "talk.wav", made.waveform, SAMPLE_RATE_HZ, "PCM_16")
    (folder / "talk.rttm").write_text(format_rttm(made.turns), encoding="utf-8")
    return folder / "talk.wav"


def test_two_people_are_told_apart_and_their_turns_written_as_rttm_and_json(conversation: Path, tmp_path: Path) -> None:
    written = tmp_path / "found.rttm"

    result = CliRunner().invoke(
        app,
        ["diarize", str(conversation), "--speakers", "auto", "--speech", "auto", "--output", str(written), "--json"],
    )

    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)["results"]
    assert {voice["voice"] for voice in answer["voices"]} == {"voice 1", "voice 2"}
    assert answer["turns"][0]["voice"] == "voice 1"
    found = parse_rttm(written)
    assert len(found) == len(answer["turns"])
    truth = parse_rttm(conversation.with_suffix(".rttm"))
    assert measure_diarization(truth, found, collar_s=0.25).rate < 0.05


def test_marked_speech_says_where_and_not_who(conversation: Path) -> None:
    speech = f"given:{conversation.with_suffix('.rttm')}"

    result = CliRunner().invoke(app, ["diarize", str(conversation), "--speech", speech, "--speakers", "1", "--rttm"])

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) > 1
    assert {line.split()[7] for line in lines} == {"voice_1"}


def test_rttm_and_json_are_not_printed_at_once(conversation: Path) -> None:
    result = CliRunner().invoke(app, ["diarize", str(conversation), "--rttm", "--json"])

    assert isinstance(result.exception, InvalidRequest)
