"""Utterances hold all speech, one voice each, and can be cut again from their times."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audio.utterances import CONTEXT_S, GRID_S, PAUSE_S, place_utterances
from indexer.listening import VoiceTurn
from indexer.types import SAMPLE_RATE_HZ


@st.composite
def tracks(draw: st.DrawFn) -> tuple[list[VoiceTurn], float]:
    at, turns = 0.0, []
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.sampled_from([0.0, 0.13, 0.7, 1.9, 2.5, 6.0]))
        length = draw(st.floats(0.2, 30.0))
        turns.append(VoiceTurn(draw(st.integers(0, 2)), at, at + length))
        at += length
    return turns, at + draw(st.sampled_from([0.0, 0.4, 3.0]))


def placed_of(turns: list[VoiceTurn], duration_s: float) -> list[tuple[int, float, float]]:
    found = place_utterances(turns, duration_s=duration_s, utterance_s=10.0)
    return [(one.voice, one.start_s, one.end_s) for one in found]


@given(tracks())
def test_utterances_rise_are_disjoint_and_stay_inside_the_track(track: tuple[list[VoiceTurn], float]) -> None:
    turns, duration_s = track
    found = place_utterances(turns, duration_s=duration_s, utterance_s=10.0)
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(found))
    assert found[0].start_s >= 0
    assert found[-1].end_s <= duration_s + 1 / SAMPLE_RATE_HZ
    assert all(one.end_s - one.start_s < 10.0 + GRID_S for one in found)


@given(tracks())
def test_no_utterance_holds_speech_of_another_voice(track: tuple[list[VoiceTurn], float]) -> None:
    turns, duration_s = track
    for one in place_utterances(turns, duration_s=duration_s, utterance_s=10.0):
        for turn in turns:
            if turn.voice != one.voice:
                assert min(turn.end_s, one.end_s) - max(turn.start_s, one.start_s) < 2 / SAMPLE_RATE_HZ


@given(tracks())
def test_all_speech_is_in_an_utterance_but_for_less_than_the_grid_of_each_run(
    track: tuple[list[VoiceTurn], float],
) -> None:
    turns, duration_s = track
    found = place_utterances(turns, duration_s=duration_s, utterance_s=10.0)
    spoken_s = sum(turn.end_s - turn.start_s for turn in turns)
    held_s = sum(end_s - start_s for one in found for start_s, end_s in one.speech)
    assert held_s <= spoken_s + 1e-3
    assert held_s > spoken_s - GRID_S * len(turns)


@given(tracks())
def test_times_are_whole_samples_so_that_they_give_the_same_samples_again(
    track: tuple[list[VoiceTurn], float],
) -> None:
    for one in place_utterances(track[0], duration_s=track[1], utterance_s=10.0):
        for time_s in (one.start_s, one.end_s):
            assert round(time_s * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ == time_s
        assert one.samples > 0


def test_a_short_recording_of_one_voice_stays_whole() -> None:
    assert placed_of([VoiceTurn(0, 0.4, 1.7)], 2.1) == [(0, 0.0, 2.1)]
    assert placed_of([VoiceTurn(0, 0.9, 4.0), VoiceTurn(0, 5.5, 9.1)], 9.9) == [(0, 0.0, 9.9)]


def test_a_word_in_a_long_silence_keeps_a_second_around_it() -> None:
    assert placed_of([VoiceTurn(0, 20.0, 20.5)], 60.0) == [(0, 20.0 - CONTEXT_S, 20.5 + CONTEXT_S)]


def test_long_speech_is_cut_into_equal_lengths_without_a_scrap() -> None:
    lengths = [end - start for _, start, end in placed_of([VoiceTurn(0, 3.0, 34.0)], 40.0)]
    assert lengths == [10.0, 10.0, 6.5, 6.5]


def test_a_long_pause_and_another_voice_end_an_utterance() -> None:
    apart = [VoiceTurn(0, 0.0, 3.0), VoiceTurn(0, 3.0 + PAUSE_S + 0.5, 8.5), VoiceTurn(1, 8.5, 12.5)]
    assert [number for number, _, _ in placed_of(apart, 12.5)] == [0, 0, 1]


def test_turns_of_one_voice_with_a_short_pause_are_one_utterance() -> None:
    assert len(placed_of([VoiceTurn(0, 1.0, 3.0), VoiceTurn(0, 4.9, 8.0)], 9.0)) == 1


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.3), (1.3, 4.2)])
def test_lengths_are_on_the_grid_where_the_silence_around_allows(start_s: float, end_s: float) -> None:
    ((_, first, last),) = placed_of([VoiceTurn(0, 10 + start_s, 10 + end_s)], 30.0)
    assert ((last - first) / GRID_S).is_integer()


def test_where_another_voice_follows_at_once_a_little_of_the_end_is_left_out() -> None:
    found = placed_of([VoiceTurn(0, 0.0, 3.3), VoiceTurn(1, 3.3, 6.3), VoiceTurn(0, 6.3, 6.7)], 6.7)
    assert found == [(0, 0.0, 3.0), (1, 3.3, 6.3), (0, 6.3, 6.7)]


def test_nobody_speaking_gives_nothing() -> None:
    assert placed_of([], 5.0) == []
