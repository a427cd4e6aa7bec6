"""Changes of voice within speech are told to some hundredths of a second, by how frames sound."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from indexer.audio.changes import LEAST_S, REACH_S, ChangeFinder, log_mel
from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region
from indexer.audio.rttm import RttmTurn
from indexer.hearing import hear_tracks
from indexer.listening import VoiceTurn
from indexer.settings import AudioSettings
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.listening_kit import NearestDiarizer, plain_listening, silence, voice, write_take

LIMITS = AudioSettings()
MIX = ChannelPolicy.parse("mix")


def moved(turns: list[VoiceTurn], samples: Waveform) -> list[VoiceTurn]:
    finder = ChangeFinder(turns)
    for stretch in reversed(finder.stretches):
        first, last = (round(edge_s * SAMPLE_RATE_HZ) for edge_s in stretch)
        finder.hear(stretch, samples[first:last])
    return finder.turns()


@pytest.mark.parametrize("wrong_s", [-0.25, -0.1, 0.0, 0.12, 0.28])
def test_a_change_is_moved_to_where_the_sound_changes(wrong_s: float) -> None:
    samples = np.concatenate([voice(0, 2), voice(1, 2), voice(0, 1)])
    told = moved([VoiceTurn(0, 0, 2 + wrong_s), VoiceTurn(1, 2 + wrong_s, 4), VoiceTurn(0, 4, 5)], samples)
    assert [turn.voice for turn in told] == [0, 1, 0]
    assert [round(turn.end_s, 3) for turn in told] == [pytest.approx(2, abs=0.02), pytest.approx(4, abs=0.02), 5]
    assert all(one.end_s == other.start_s for one, other in pairwise(told))


def test_a_change_too_far_off_goes_no_farther_than_its_reach() -> None:
    samples = np.concatenate([voice(0, 3), voice(1, 3)])
    told = moved([VoiceTurn(0, 0, 2), VoiceTurn(1, 2, 6)], samples)
    assert told[0].end_s == pytest.approx(2 + REACH_S, abs=0.011)


def test_short_turns_are_not_swallowed() -> None:
    turns = [VoiceTurn(0, 0, 2), VoiceTurn(1, 2, 2.3), VoiceTurn(0, 2.3, 4.3), VoiceTurn(1, 4.3, 6.3)]
    told = moved(turns, np.concatenate([voice(0, 4.3), voice(1, 2)]))
    assert [turn.voice for turn in told] == [0, 1, 0, 1]
    assert min(turn.end_s - turn.start_s for turn in told) >= LEAST_S - 1e-9


def test_turns_with_a_pause_between_and_turns_of_one_voice_stay() -> None:
    apart = [VoiceTurn(0, 0, 2), VoiceTurn(1, 2.2, 4)]
    same = [VoiceTurn(0, 0, 2), VoiceTurn(0, 2, 4)]
    for turns in (apart, same, []):
        assert ChangeFinder(turns).stretches == []
        assert ChangeFinder(turns).turns() == turns


def test_a_voice_that_is_hardly_heard_and_what_was_never_heard_move_nothing() -> None:
    turns = [VoiceTurn(0, 0, 2.1), VoiceTurn(1, 2.1, 2.5)]
    assert moved(turns, np.concatenate([voice(0, 2), voice(1, 0.5)])) == turns
    finder = ChangeFinder([VoiceTurn(0, 0, 2.1), VoiceTurn(1, 2.1, 4)])
    assert finder.turns() == [VoiceTurn(0, 0, 2.1), VoiceTurn(1, 2.1, 4)]


def test_digital_silence_and_constants_can_be_told_apart_from_nothing() -> None:
    turns = [VoiceTurn(0, 0, 2), VoiceTurn(1, 2, 4)]
    assert [turn.voice for turn in moved(turns, silence(4))] == [0, 1]
    assert log_mel(silence(0.02)).shape == (0, 24)
    assert log_mel(silence(1)).shape == (98, 24)


class HastyDiarizer(NearestDiarizer):
    """Hears the second voice a tenth of a second too early."""

    def turns(
        self, regions: Sequence[Region], windows: Sequence[Region], vectors: Vectors, *, speakers: int | None
    ) -> list[VoiceTurn]:
        return [VoiceTurn(0, regions[0].start_s, 2.0), VoiceTurn(1, 2.0, regions[-1].end_s)]


def test_turns_that_are_told_change_where_the_sound_does(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 2.1), voice(1, 3), silence(0.5))
    for marked in (None, [RttmTurn("a", 0, 5.1, "speech")]):
        before, after = told(path, marked)
        assert (before.end_s, after.end_s) == (pytest.approx(2.1, abs=0.02), pytest.approx(5.1))
        assert after.start_s == before.end_s


def test_turns_that_somebody_marked_stay(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 2.1), voice(1, 3), silence(0.5))
    marked = [RttmTurn("a", 0, 2.4, "one"), RttmTurn("a", 2.4, 2.7, "two")]
    assert told(path, marked) == [VoiceTurn(0, 0.0, 2.4), VoiceTurn(1, 2.4, pytest.approx(5.1))]


def told(path: Path, marked: list[RttmTurn] | None = None) -> list[VoiceTurn]:
    listening = replace(plain_listening(), diarizer=HastyDiarizer(), given=None if marked is None else {"a": marked})
    take = Take(path, channels=MIX, limits=LIMITS)
    (track,) = hear_tracks(take, listening, SpectrumEncoder(), name="a.wav", utterance_s=30)
    return list(track.turns)
