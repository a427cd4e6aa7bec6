"""Whoever enrolls one voice under a second name is told so at the command line, and can merge the two."""

from pathlib import Path

import pytest

from api import dependencies
from tests.api_kit import SpectrumServices, wav
from tests.cli_kit import voxdex


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for commands whose encoder needs no weights, with recordings of two voices."""
    monkeypatch.setattr(dependencies, "Services", SpectrumServices)
    for folder, seed, seconds in (("ann", 0, 4.0), ("bo", 1, 4.0), ("annie", 0, 5.0)):
        (tmp_path / "calls" / folder).mkdir(parents=True)
        (tmp_path / "calls" / folder / "one.wav").write_bytes(wav(seconds, seed))
    # Made-up voices resemble each other more than people do.
    monkeypatch.setenv("VOXDEX_DECISION__IDENTIFICATION_THRESHOLD", "0.995")
    monkeypatch.setenv("VOXDEX_DECISION__VERIFICATION_THRESHOLD", "0.995")
    return tmp_path


def test_enrolling_a_voice_twice_names_the_other_speaker_and_the_merge_that_ends_it(home: Path) -> None:
    place = ["--home", home]
    assert "sounds like" not in voxdex("enroll", "ann", home / "calls/ann/one.wav", *place).stderr
    assert "sounds like" not in voxdex("enroll", "bo", home / "calls/bo/one.wav", *place).stderr
    again = voxdex("enroll", "annie", home / "calls/annie/one.wav", *place)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("annie: the voice sounds like 'ann', who is enrolled too: cosine ") == 1
    assert "`voxdex speakers merge annie ann --gallery default`" in again.stderr
    assert "'bo'" not in again.stderr
    merged = voxdex("speakers", "merge", "annie", "ann", *place)
    assert merged.stdout == "annie is ann now, with 2 enrolled utterances\n", merged.stderr
    missing = voxdex("speakers", "merge", "annie", "ann", *place)
    assert (missing.returncode, "annie" in missing.stderr) == (4, True)


def test_an_archive_with_one_voice_in_two_folders_is_told_of_once(home: Path) -> None:
    report = voxdex("ingest", home / "calls", "--speaker-from", "parent", "--home", home, "--json")
    told = [notice for notice in report.answer["notices"] if "sounds like" in notice]
    assert [notice.split(":")[0] for notice in told] == ["ann"]
    assert "'annie'" in told[0]
    again = voxdex("ingest", home / "calls", "--speaker-from", "parent", "--home", home, "--json")
    assert again.answer["notices"] == []
