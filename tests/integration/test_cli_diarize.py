"""`voxdex diarize` on a conversation made of real speech, whose truth is known."""

import json
from pathlib import Path

import numpy as np
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
    assert {voice["voice"] for voice in answer["voices"]} == {0, 1}
    assert {voice["decision"] for voice in answer["voices"]} == {None}
    assert answer["turns"][0]["voice"] == 0
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


def test_voices_who_are_enrolled_in_the_gallery_have_their_names(
    conversation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXDEX_HOME", str(tmp_path / "home"))
    first = parse_rttm(conversation.with_suffix(".rttm"))[0].speaker
    samples, _ = soundfile.read(conversation, dtype="float32")
    spoken = [turn for turn in parse_rttm(conversation.with_suffix(".rttm")) if turn.speaker == first]
    pieces = [samples[round(t.start_s * SAMPLE_RATE_HZ) : round(t.end_s * SAMPLE_RATE_HZ)] for t in spoken]
    soundfile.write(tmp_path / "alone.wav", np.concatenate(pieces), SAMPLE_RATE_HZ, "PCM_16")
    enrolled = CliRunner().invoke(app, ["enroll", "Ada", str(tmp_path / "alone.wav")])
    assert enrolled.exit_code == 0, enrolled.output

    listen = [str(conversation), "--speakers", "auto", "--speech", "auto", "--gallery", "default"]
    result = CliRunner().invoke(app, ["diarize", *listen, "--exclusive", "--json"])

    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)["results"]
    told = {voice["voice"]: (voice["decision"], voice["speaker"]) for voice in answer["voices"]}
    assert told[0] == ("identified", "Ada")
    assert told[1][1] is None
    as_rttm = CliRunner().invoke(app, ["diarize", *listen, "--rttm"])
    assert {line.split()[7] for line in as_rttm.stdout.splitlines()} == {"Ada", "voice_2"}


def test_a_gallery_has_its_encoder_and_exclusive_is_about_a_gallery(conversation: Path) -> None:
    for contradiction in (["--exclusive"], ["--gallery", "g", "--encoder", "speechbrain-ecapa-voxceleb"]):
        result = CliRunner().invoke(app, ["diarize", str(conversation), *contradiction])
        assert isinstance(result.exception, InvalidRequest)
