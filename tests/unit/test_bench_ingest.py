"""What the ingest bench counts: the audio that encoders are given, and how lengths are handed over alone."""

from collections import Counter

import numpy as np

from api.bench.given_audio import GivenAudio
from api.bench.ingest_bench import _batches
from indexer.embedding.encoder_set import EncoderSet
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder


def noise(samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


def test_all_that_an_encoder_is_given_counts_each_time_and_changes_nothing() -> None:
    given, plain = GivenAudio(), SpectrumEncoder()
    encoders = given.around(EncoderSet(SpectrumEncoder()))
    assert encoders.ids == (plain.id,)
    waveforms = [noise(3000), noise(2000), noise(3000)]
    assert np.array_equal(encoders.embed(waveforms)[plain.id], plain.embed(waveforms))
    spans = [[(0, 1600)], [], [(500, 3000)]]
    made, of_windows = encoders.embed_with_windows(waveforms, spans)
    expected = plain.embed_with_windows(waveforms, spans)
    assert np.array_equal(made[plain.id], expected[0])
    assert [rows.shape for rows in of_windows] == [rows.shape for rows in expected[1]]
    encoders.first.embed_raw([noise(1700)])
    assert given.taken() == (Counter({3000: 4, 2000: 2, 1700: 1}), Counter())
    assert given.taken() == (Counter(), Counter())


def test_each_of_two_encoders_counts_its_own() -> None:
    given = GivenAudio()
    first, second = given.around(EncoderSet(SpectrumEncoder(), ReversedSpectrumEncoder()))
    first.embed([noise(1600)])
    second.embed([noise(1800), noise(1800)])
    assert given.taken() == (Counter({1600: 1}), Counter({1800: 2}))


def test_utterances_of_one_length_go_together_up_to_so_many() -> None:
    assert list(_batches(Counter({800: 70, 400: 1}))) == [(400, 1), (800, 32), (800, 32), (800, 6)]
