"""Cutting a recording loses nothing and leaves no useless remainder."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audio.segmentation import cut_utterances
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
