"""Diarization of made-up voices, whose truth is known: each is a direction, and a window hears a mixture with noise."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.audio.regions import Region
from indexer.errors import InvalidRequest
from indexer.listening import VoiceTurn
from indexer.types import Vectors
from search.diarization import ClusteringDiarizer
from search.voice_groups import DiarizationTuning, halved

DIM = 192


def talk(seed: int, voices: int, turns: int, *, pauses: bool = True, longest_s: float = 8.0) -> list[VoiceTurn]:
    """Turns of 0.5 to 8 s of voices that follow each other by chance."""
    rng = np.random.default_rng(seed)
    made: list[VoiceTurn] = []
    at_s = 0.0
    for _ in range(turns):
        voice = rng.choice([v for v in range(voices) if not made or v != made[-1].voice])
        end_s = at_s + float(rng.uniform(0.5, longest_s))
        made.append(VoiceTurn(int(voice), at_s, end_s))
        at_s = end_s + (float(rng.uniform(0.2, 1.0)) if pauses else 0.0)
    return made


def speech_of(turns: Sequence[VoiceTurn]) -> list[Region]:
    regions: list[Region] = []
    for turn in turns:
        if regions and turn.start_s - regions[-1].end_s < 1e-9:
            regions[-1] = Region(regions[-1].start_s, turn.end_s)
        else:
            regions.append(Region(turn.start_s, turn.end_s))
    return regions


def vectors_of(
    turns: Sequence[VoiceTurn], windows: Sequence[Region], *, seed: int, noise: float = 0.8, common: float = 0.0
) -> Vectors:
    """What an encoder would make of the windows: the shorter, the noisier; `common` is in all of them."""
    rng = np.random.default_rng(seed)
    voices = max(turn.voice for turn in turns) + 1
    directions = np.linalg.qr(rng.normal(size=(DIM, voices + 1)))[0].T
    directions, shared_by_all = directions[:-1], common * directions[-1]
    starts, ends = np.array([turn[1:] for turn in turns]).T
    numbers = np.array([turn.voice for turn in turns])
    vectors = np.empty((len(windows), DIM), dtype=np.float32)
    for row, window in enumerate(windows):
        shared = np.maximum(np.minimum(window.end_s, ends) - np.maximum(window.start_s, starts), 0)
        length_s = window.end_s - window.start_s
        mixed = (shared / length_s) @ directions[numbers]
        mixed = mixed + shared_by_all + rng.normal(size=DIM) * noise / np.sqrt(DIM * length_s / 1.5)
        vectors[row] = mixed / np.linalg.norm(mixed)
    return vectors


def diarize(
    turns: Sequence[VoiceTurn],
    *,
    speakers: int | None,
    seed: int = 0,
    noise: float = 0.8,
    common: float = 0.0,
    tuning: DiarizationTuning | None = None,
) -> list[VoiceTurn]:
    diarizer = ClusteringDiarizer(tuning)
    regions = speech_of(turns)
    windows = diarizer.windows(regions)
    vectors = vectors_of(turns, windows, seed=seed, noise=noise, common=common)
    return diarizer.turns(regions, windows, vectors, speakers=speakers)


def share_right(truth: Sequence[VoiceTurn], found: Sequence[VoiceTurn]) -> float:
    """Share of the time in which the right voice was found, voices being matched by their time together."""
    shared: Counter[tuple[int, int]] = Counter()
    for a in truth:
        for b in found:
            both_s = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
            if both_s > 0:
                shared[a.voice, b.voice] += both_s
    mapped = {b: max((s, a) for (a, c), s in shared.items() if c == b)[1] for b in {b for _, b in shared}}
    right = sum(s for (a, b), s in shared.items() if mapped[b] == a)
    return right / sum(turn.end_s - turn.start_s for turn in truth)


@pytest.mark.parametrize("voices", [2, 3, 6])
def test_voices_and_their_turns_are_found_without_being_told_how_many_there_are(voices: int) -> None:
    truth = talk(voices, voices, 12 * voices)

    found = diarize(truth, speakers=None)

    assert len({turn.voice for turn in found}) == voices
    assert share_right(truth, found) > 0.97


def test_turns_without_pauses_are_told_apart_where_the_voice_changes() -> None:
    truth = talk(3, 3, 40, pauses=False)

    assert share_right(truth, diarize(truth, speakers=3)) > 0.95


@pytest.mark.parametrize("voices", [3, 5])
def test_voices_that_began_as_one_group_are_parted_where_turns_are_shorter_than_windows(voices: int) -> None:
    truth = talk(1, voices, 12 * voices, pauses=False, longest_s=2.0)

    found = diarize(truth, speakers=None, seed=1, noise=1.2)

    assert len({turn.voice for turn in found}) == voices
    assert share_right(truth, found) > 0.9


@pytest.mark.parametrize("voices", [2, 4])
def test_what_all_windows_share_as_over_a_telephone_makes_no_two_voices_one(voices: int) -> None:
    truth = talk(voices, voices, 12 * voices)
    unaware = DiarizationTuning(strangers=None)

    assert len({turn.voice for turn in diarize(truth, speakers=None, noise=2.4, common=1.2, tuning=unaware)}) == 1
    assert len({turn.voice for turn in diarize(truth, speakers=None, noise=2.4, common=1.2)}) == voices


@pytest.mark.parametrize("common", [0.0, 1.5])
@pytest.mark.parametrize("noise", [0.8, 1.6])
def test_one_voice_is_neither_parted_by_noise_nor_by_what_its_windows_share(noise: float, common: float) -> None:
    truth = [VoiceTurn(0, at * 5.0, at * 5.0 + 4.0) for at in range(40)]

    assert {turn.voice for turn in diarize(truth, speakers=None, noise=noise, common=common)} == {0}


def test_vectors_are_halved_into_the_two_groups_that_they_form() -> None:
    rng = np.random.default_rng(3)
    rows = np.repeat(np.eye(2, 40), [10, 6], axis=0) + 0.1 * rng.normal(size=(16, 40))

    second = halved(rows, range(1, 16, 2))

    assert [len(set(second[:10])), len(set(second[10:]))] == [1, 1]
    assert second[0] != second[15]


def test_one_voice_stays_one_voice() -> None:
    truth = [VoiceTurn(0, at * 5.0, at * 5.0 + 4.0) for at in range(40)]

    assert {turn.voice for turn in diarize(truth, speakers=None)} == {0}


@pytest.mark.parametrize("speakers", [1, 2, 4, 9])
def test_a_given_number_of_voices_is_never_exceeded_and_is_met_where_there_are_as_many(speakers: int) -> None:
    truth = talk(4, 4, 40)

    voices = {turn.voice for turn in diarize(truth, speakers=speakers)}

    assert len(voices) == speakers if speakers <= 4 else 4 <= len(voices) <= speakers


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans(), st.sampled_from([None, 1, 2, 3]))
def test_turns_cover_the_speech_once_and_nothing_else(
    seed: int, voices: int, pauses: bool, speakers: int | None
) -> None:
    truth = talk(seed, voices, 8, pauses=pauses) if voices > 1 else [VoiceTurn(0, 0.0, 0.07), VoiceTurn(0, 2.0, 9.1)]

    found = diarize(truth, speakers=speakers, seed=seed)

    assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(found))
    assert np.allclose(speech_of(found), speech_of(truth))
    first_heard = list(dict.fromkeys(turn.voice for turn in found))
    assert first_heard == list(range(len(first_heard))), "voices are numbered by first appearance"


def test_the_order_of_the_windows_does_not_matter() -> None:
    truth = talk(5, 3, 20)
    diarizer = ClusteringDiarizer()
    regions = speech_of(truth)
    windows = diarizer.windows(regions)
    vectors = vectors_of(truth, windows, seed=1)
    order = np.random.default_rng(2).permutation(len(windows))

    shuffled = diarizer.turns(regions, [windows[n] for n in order], vectors[order])

    assert shuffled == diarizer.turns(regions, windows, vectors)


@given(st.lists(st.floats(0.02, 12.0), min_size=1, max_size=6), st.floats(0.05, 3.0))
def test_windows_lie_in_the_speech_or_in_short_pauses_and_miss_little_of_it(lengths: list[float], gap: float) -> None:
    regions, at_s = [], 1.0
    for length in lengths:
        regions.append(Region(at_s, at_s + length))
        at_s += length + gap

    windows = ClusteringDiarizer().windows(regions)

    assert windows == sorted(windows)
    for window in windows:
        assert regions[0].start_s - 1e-3 <= window.start_s < window.end_s <= regions[-1].end_s + 1e-3
        assert any(window.start_s < region.end_s and region.start_s < window.end_s for region in regions)
    for region in regions:
        if region.end_s - region.start_s < 0.25:
            continue  # Too short to tell a voice by: takes its neighbor's.
        heard = [w for w in windows if w.start_s <= region.start_s + 0.15 and w.end_s >= region.start_s + 1e-3]
        assert heard, "every beginning of speech is heard"


def test_silence_has_no_turns() -> None:
    assert ClusteringDiarizer().turns([], [], np.empty((0, DIM), dtype=np.float32)) == []


def test_no_voices_at_all_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match=r"speakers = 0.*1 or more"):
        ClusteringDiarizer().turns([Region(0, 1)], [Region(0, 1)], np.ones((1, DIM), dtype=np.float32), speakers=0)


def test_vectors_that_lack_are_noticed() -> None:
    windows = [Region(0, 1), Region(1, 2)]
    with pytest.raises(InvalidRequest, match="2 windows and 1 vectors"):
        ClusteringDiarizer().turns([Region(0, 2)], windows, np.ones((1, DIM), dtype=np.float32))


def test_voices_of_a_meeting_too_long_to_compare_all_pairs_are_found_block_by_block() -> None:
    truth = talk(8, 6, 300, pauses=False)

    found = diarize(truth, speakers=None)

    assert truth[-1].end_s > 1000, "more than one block of windows"
    assert len({turn.voice for turn in found}) == 6
    assert share_right(truth, found) > 0.95
