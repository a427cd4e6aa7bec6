"""Cutting a recording loses nothing and leaves no useless remainder."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audio.segmentation import Stretch, cut_stretches, cut_utterances
from indexer.types import SAMPLE_RATE_HZ


def blocks_of(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    blocks, start = [], 0
    for size in sizes:
        blocks.append(samples[:, start : start + size])
        start += size
    blocks.append(samples[:, start:])
    return blocks


@given(
    length=st.integers(1, 20 * SAMPLE_RATE_HZ),
    sizes=st.lists(st.integers(0, 5 * SAMPLE_RATE_HZ), max_size=6),
    tracks=st.integers(1, 3),
)
def test_utterances_cover_every_sample_once_whatever_the_blocks(length: int, sizes: list[int], tracks: int) -> None:
    samples = np.arange(tracks * length, dtype=np.float32).reshape(tracks, length)
    utterances = list(cut_utterances(blocks_of(samples, sizes), utterance_s=2.0))
    for track in range(tracks):
        own = [utterance for utterance in utterances if utterance.track == track]
        np.testing.assert_array_equal(np.concatenate([u.waveform for u in own]), samples[track])
        assert own[0].start_s == 0.0
        assert own[-1].end_s == length / SAMPLE_RATE_HZ
        assert all(left.end_s == right.start_s for left, right in itertools.pairwise(own))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.0, [1.0]), (10.0, [10.0]), (15.0, [15.0]), (15.5, [10.0, 5.5]), (31.0, [10.0, 10.0, 11.0])],
)
def test_only_the_last_utterance_differs_in_length_and_is_never_a_scrap(seconds: float, expected: list[float]) -> None:
    samples = np.zeros((1, round(seconds * SAMPLE_RATE_HZ)), dtype=np.float32)
    assert [u.end_s - u.start_s for u in cut_utterances([samples], 10.0)] == expected


def test_a_queued_utterance_does_not_keep_its_block_alive() -> None:
    block = np.zeros((1, 20 * SAMPLE_RATE_HZ), dtype=np.float32)
    assert all(utterance.waveform.base is None for utterance in cut_utterances([block], 5.0))


def test_no_samples_make_no_utterance() -> None:
    assert list(cut_utterances([], 10.0)) == []
    assert list(cut_utterances([np.zeros((1, 0), dtype=np.float32)], 10.0)) == []


def _blocks(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[:, start : start + size] for start in range(0, samples.shape[1], size)]


@given(
    seconds=st.floats(0.5, 8), utterance_s=st.floats(0.3, 2), size=st.integers(900, 40_000), tracks=st.integers(1, 3)
)
def test_what_was_cut_is_cut_again_to_the_sample_whatever_the_blocks(
    seconds: float, utterance_s: float, size: int, tracks: int
) -> None:
    samples = np.random.default_rng(0).standard_normal((tracks, round(seconds * SAMPLE_RATE_HZ))).astype(np.float32)
    before = list(cut_utterances([samples], utterance_s))
    places = [Stretch(one.track, one.start_s, one.end_s) for one in before]
    after = {Stretch(one.track, one.start_s, one.end_s): one for one in cut_stretches(_blocks(samples, size), places)}
    assert set(after) == set(places)
    for place, one in zip(places, before, strict=True):
        np.testing.assert_array_equal(after[place].waveform, one.waveform)


def test_stretches_may_overlap_and_only_those_that_the_recording_reaches_come_out() -> None:
    samples = np.arange(3 * SAMPLE_RATE_HZ, dtype=np.float32)[None, :]
    wanted = [Stretch(0, 2.5, 3.05), Stretch(0, 0.0, 2.0), Stretch(0, 0.5, 1.0), Stretch(0, 2.0, 3.5)]
    found = list(cut_stretches(_blocks(samples, 7000), wanted))
    assert [(one.start_s, one.end_s) for one in found] == [(0.5, 1.0), (0.0, 2.0), (2.5, 3.05)]
    assert [(int(one.waveform[0]), len(one.waveform)) for one in found] == [(8000, 8000), (0, 32000), (40000, 8000)]


def test_blocks_are_read_no_further_than_the_last_stretch_needs() -> None:
    read = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(10):
            read.append(number)
            yield np.zeros((1, SAMPLE_RATE_HZ), dtype=np.float32)

    assert len(list(cut_stretches(blocks(), [Stretch(0, 0.5, 1.5)]))) == 1
    assert read == [0, 1]
