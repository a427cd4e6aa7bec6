"""Diarization figures: what is given beforehand is given, and what is found is counted."""

from pathlib import Path

import pytest

from api.evaluation.diarization import Conditions, DiarizationFigures, Reference, evaluate_diarization, find_references
from api.evaluation.html_report import write_report
from api.evaluation.pages import conditions_text, diarization_page
from indexer.audio.rttm import RttmTurn
from indexer.errors import InvalidRequest, NotFound
from indexer.settings import AudioSettings
from search.bootstrap import Resampling
from tests.fakes import SpectrumEncoder
from tests.listening_kit import plain_listening, silence, voice, write_take


def _reference(folder: Path, name: str, *spans: tuple[float, float, int]) -> Reference:
    """Write a recording in which voices speak in turn, after half a second of silence each."""
    parts, turns, at_s = [], [], 0.0
    for start_s, end_s, number in spans:
        parts += [silence(start_s - at_s), voice(number, end_s - start_s)]
        turns.append(RttmTurn(name, start_s, end_s - start_s, f"speaker{number}"))
        at_s = end_s
    return Reference(name, write_take(folder / f"{name}.wav", *parts, silence(0.5)), tuple(turns))


def _evaluate(references: list[Reference], conditions: Conditions) -> DiarizationFigures:
    steps: list[int] = []
    figures = evaluate_diarization(
        references,
        SpectrumEncoder(),
        plain_listening(),
        conditions,
        AudioSettings(),
        Resampling(draws=20),
        lambda: steps.append(1),
    )
    assert len(steps) == len(references)
    return figures


@pytest.fixture
def references(tmp_path: Path) -> list[Reference]:
    return [
        _reference(tmp_path, "two", (0.5, 3.0, 0), (3.5, 6.0, 2), (6.5, 8.0, 0)),
        _reference(tmp_path, "one", (0.5, 5.0, 1)),
    ]


@pytest.mark.parametrize("given_speech", [False, True])
def test_voices_that_are_told_apart_have_no_error(references: list[Reference], given_speech: bool) -> None:
    figures = _evaluate(references, Conditions(given_speech=given_speech, known_speakers=False))
    assert figures.figures["der"].value == pytest.approx(0.0, abs=0.01)
    assert figures.figures["count_right"].value == 1.0
    assert figures.counts == {"1>1": 1, "2>2": 1}
    assert figures.speech_s == pytest.approx(11.0)
    assert [one["name"] for one in figures.recordings] == ["two", "one"]


def test_given_speech_tells_where_and_not_who(references: list[Reference]) -> None:
    """Names of the reference must not reach what is measured: two voices that sound alike stay one."""
    turns = (RttmTurn("one", 0.5, 3.0, "speaker1"), RttmTurn("one", 3.5, 1.5, "somebody else"))
    alike = Reference("one", references[1].file, turns)
    figures = _evaluate([alike], Conditions(given_speech=True, known_speakers=False))
    assert figures.counts == {"2>1": 1}
    assert figures.figures["confusion"].value == pytest.approx(1.5 / 4.5, abs=0.01)


def test_speech_that_is_not_found_is_missed(references: list[Reference], tmp_path: Path) -> None:
    silent = Reference("quiet", write_take(tmp_path / "quiet.wav", silence(3.0)), (RttmTurn("quiet", 0.5, 2.0, "a"),))
    loud_somewhere = _reference(tmp_path, "half", (0.5, 2.5, 0))
    missed = Reference("half", loud_somewhere.file, (*loud_somewhere.turns, RttmTurn("half", 2.6, 0.4, "speaker0")))
    figures = _evaluate([missed], Conditions(given_speech=False, known_speakers=False))
    assert figures.figures["miss"].value == pytest.approx(0.4 / 2.4, abs=0.01)
    assert figures.figures["false_alarm"].value == pytest.approx(0.0, abs=0.01)
    nobody = _evaluate([silent, *references], Conditions(given_speech=False, known_speakers=False))
    assert nobody.figures["miss"].value == pytest.approx(2.0 / 13.0, abs=0.01)
    assert nobody.counts["1>0"] == 1


def test_what_is_stated_is_what_was_given(references: list[Reference], tmp_path: Path) -> None:
    figures = _evaluate(references, Conditions(given_speech=True, known_speakers=False, collar_s=0.25))
    said = conditions_text(figures, 2)
    assert "speech given, number of speakers found; collar 0.25 s on either side, overlap scored" in said
    page = write_report(tmp_path / "report", diarization_page([figures], 2))
    assert said in page.read_text(encoding="utf-8")


def test_recordings_are_found_by_the_names_that_the_reference_has(tmp_path: Path) -> None:
    write_take(tmp_path / "deep" / "call.wav", voice(0, 1.0))
    turns = {"call": [RttmTurn("call", 0.0, 1.0, "a")]}
    (found,) = find_references(turns, tmp_path)
    assert found.file == tmp_path / "deep" / "call.wav"
    assert found.speakers == 1
    with pytest.raises(NotFound, match="no recording called other"):
        find_references({"other": []}, tmp_path)
    with pytest.raises(InvalidRequest, match="nobody speaks"):
        find_references({"call": []}, tmp_path)
    write_take(tmp_path / "call.wav", voice(0, 1.0))
    with pytest.raises(InvalidRequest, match="both called call"):
        find_references(turns, tmp_path)
