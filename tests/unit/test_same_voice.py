"""One voice under two names is found, and chance likeness in a large gallery is not taken for it."""

import numpy as np
import pytest

from indexer.types import SpeakerId
from search.calibration import Calibration
from search.identification import ProbeQuality, Rules, ScoredSpeaker
from search.operating_point import Wanted
from search.same_voice import SameVoice, same_voices
from tests.calibration_kit import fitted_to_voices, voices

QUALITY = ProbeQuality(8.0, 25.0)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fitted_to_voices(voices())


def speaker(number: int, score: float) -> ScoredSpeaker:
    return ScoredSpeaker(SpeakerId(number), f"s{number}", score, 3, 8.0, 25.0)


def by_score(claim: float, naming: float, found: list[ScoredSpeaker]) -> list[SameVoice]:
    rules = [Rules(None, [("encoder", Wanted(score=edge))], "E") for edge in (claim, naming)]
    return same_voices(found, gallery_size=len(found), quality=QUALITY, claim=rules[0], naming=rules[1])


def by_llr(calibration: Calibration, found: list[ScoredSpeaker], size: int) -> list[SameVoice]:
    claim = Rules(calibration, [("setting", Wanted(rate=0.01))], "E")
    naming = Rules(calibration, [("setting", Wanted(rate=0.01))], "E")
    return same_voices(found, gallery_size=size, quality=QUALITY, claim=claim, naming=naming)


def test_by_the_cosine_a_speaker_must_reach_both_thresholds_and_the_likeliest_is_first() -> None:
    found = [speaker(1, 0.2), speaker(2, 0.6), speaker(3, 0.9), speaker(4, 0.5)]
    assert by_score(0.4, 0.5, found) == [
        SameVoice("s3", 0.9, None),
        SameVoice("s2", 0.6, None),
        SameVoice("s4", 0.5, None),
    ]
    assert [one.speaker for one in by_score(0.6, 0.5, found)] == ["s3", "s2"]
    assert [one.speaker for one in by_score(0.4, 0.7, found)] == ["s3"]


def test_nobody_else_in_the_gallery_is_nobody() -> None:
    assert by_score(0.4, 0.5, []) == []


def test_by_the_llr_the_warning_gives_what_the_likeness_is_worth(calibration: Calibration) -> None:
    (found,) = by_llr(calibration, [speaker(1, 0.8), speaker(2, 0.0)], 2)
    assert (found.speaker, found.score) == ("s1", 0.8)
    (expected,) = calibration.llr([0.8], enrolled_speech_s=8.0, probe_speech_s=8.0, snr_db=25.0)
    assert found.llr == pytest.approx(expected)


def test_three_names_of_one_voice_do_not_hide_each_other(calibration: Calibration) -> None:
    found = [speaker(1, 0.82), speaker(2, 0.8), *(speaker(number, 0.01 * number) for number in range(3, 13))]
    assert [one.speaker for one in by_llr(calibration, found, 12)] == ["s1", "s2"]


def test_what_passes_as_a_claim_is_chance_among_very_many_strangers(calibration: Calibration) -> None:
    scores = np.linspace(0.0, 0.99, 300).tolist()
    barely = next(score for score in scores if by_llr(calibration, [speaker(0, score)], 1))
    near = [speaker(number, barely - 0.01 * number) for number in range(1, 60)]
    assert by_llr(calibration, [speaker(0, barely), *near], 1_000_000) == []
