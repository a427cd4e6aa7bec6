"""What commands print for people."""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from api.cli.output import print_fields, print_table
from api.cli.voice_tables import print_identifications
from api.schemas.voices import IdentifyAnswer


def test_fields_are_aligned_and_what_is_not_there_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields(
        {
            "name": "calls",
            "calibration_id": None,
            "identification_threshold": 0.31,
            "target_fpir": 0.0001,
            "consent_required": False,
            "speakers": ("Ann", "Bob"),
            "labels": (),
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "name                      calls",
        "identification_threshold  0.31",
        "target_fpir               0.0001",
        "consent_required          no",
        "speakers                  Ann, Bob",
    ]


ROWS = [["speechbrain-ecapa-voxceleb calibrated", "1.63 (1.20-2.06)", "4.67 (3.90-5.40)"], ["baseline", "2.10", "5.00"]]


def test_a_narrow_terminal_breaks_no_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TTY_COMPATIBLE", "1"), ("TERM", "xterm"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    print_table(["system", "EER %", "EER % (refused as misses)"], ROWS)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.strip().startswith("speechbrain-ecapa-voxceleb") for line in lines)


def test_where_a_path_has_no_room_it_is_broken_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TTY_COMPATIBLE", "1"), ("TERM", "xterm"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    print_table(["gallery", "state", "source", "found"], [["archive", "succeeded", "/archive/" + "x" * 60, 12]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 60
    (first,) = [line for line in lines if "/archive/" in line]
    assert {"archive", "succeeded", "12"} <= set(first.split())


def test_a_pipe_gets_a_line_for_each_row_however_wide(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["system", *"abcdefgh"], [["x" * 100, *["y" * 30] * 8], ["z", *"12345678"]])
    assert len(capsys.readouterr().out.strip().splitlines()) == 4


def test_what_is_said_of_one_of_several_voices_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = cast(Any, IdentifyAnswer.model_config["json_schema_extra"])["examples"]
    first = {**example["voices"][0], "warnings": ["noisy: 5 dB"]}
    second = {**first, "voice": 1, "decision": "not_enough_speech", "warnings": ["a.wav: 0.10 s of speech"]}
    answer = {**example, "voices": [first, second], "warnings": ["2 voices are heard", "noisy: 5 dB"]}
    print_identifications([(Path("a.wav"), IdentifyAnswer.model_validate(answer))])
    assert capsys.readouterr().err.splitlines() == [
        # Not that two are heard and the answer is about the first: the table has both.
        "voxdex: a.wav: voice 1: noisy: 5 dB",
        "voxdex: a.wav: voice 2: 0.10 s of speech",
    ]


def test_a_narrow_terminal_breaks_no_line_of_a_candidate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TTY_COMPATIBLE", "1"), ("TERM", "xterm"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    (example,) = cast(Any, IdentifyAnswer.model_config["json_schema_extra"])["examples"]
    print_identifications([(Path("a.wav"), IdentifyAnswer.model_validate(example))])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    (first,) = [line for line in lines if "a.wav" in line]
    best = example["voices"][0]["candidates"][0]
    assert f"{best['score']:.3f}" in first
    assert "█" in first
    assert re.search(r"\d if the same", first)


def test_a_table_in_a_file_has_no_blanks_at_the_end_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "said"], [["Ann", ""], ["Bob", "much more than Ann"]])
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if line != line.rstrip()] == []
    assert lines[0] == ""
    assert [line.split() for line in lines[3:5]] == [["Ann"], ["Bob", "much", "more", "than", "Ann"]]
