import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from indexer.embedding.batching import BatchingEncoder
from indexer.errors import CorruptArtifact, NonFiniteEmbedding, Overloaded, TooLittleSpeech, Unavailable
from indexer.types import Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.waiting import eventually


class GatedEncoder(SpectrumEncoder):
    """Notes what goes through it together, and lets nothing through until it may."""

    def __init__(self) -> None:
        super().__init__(refuses_above=0.9)
        self.passes: list[list[int]] = []
        self.threads: set[int] = set()
        self.began = threading.Event()
        self.gate = threading.Event()

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        self.threads.add(threading.get_ident())
        self.passes.append([len(waveform) for waveform in waveforms])
        self.began.set()
        assert self.gate.wait(60)
        return super().embed_raw(waveforms)


@pytest.fixture
def inner() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(80) as threads:
        yield threads


@pytest.fixture
def encoder(inner: GatedEncoder, pool: ThreadPoolExecutor) -> Iterator[BatchingEncoder]:
    batching = BatchingEncoder(inner, queue=8, batch=4, batch_audio_s=10.0, timeout_s=60.0)
    yield batching
    inner.gate.set()
    batching.close()


def sound(seconds: float, seed: int = 0) -> Waveform:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(16_000 * seconds)).astype(np.float32)


def submit(pool: ThreadPoolExecutor, encoder: BatchingEncoder, waveform: Waveform) -> "Future[Vectors]":
    """Hand over a probe, and return when it waits."""
    before = encoder.waiting
    future = pool.submit(encoder.embed, [waveform])
    eventually(lambda: encoder.waiting > before or future.done())
    return future


def occupy(pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder) -> "Future[Vectors]":
    """Keep the encoder busy until the gate is opened."""
    future = pool.submit(encoder.embed, [sound(1)])
    assert inner.began.wait(60)
    return future


def test_every_caller_gets_the_vector_of_its_own_waveform(pool: ThreadPoolExecutor) -> None:
    waveforms = [sound(0.5 + 0.25 * (number % 3), seed=number) for number in range(200)]
    expected = SpectrumEncoder().embed(waveforms)
    batching = BatchingEncoder(SpectrumEncoder(), queue=256)
    found = list(pool.map(lambda waveform: batching.embed([waveform])[0], waveforms))
    np.testing.assert_array_equal(np.stack(found), expected)
    np.testing.assert_array_equal(batching.embed(waveforms), expected)
    np.testing.assert_array_equal(batching.background().embed(waveforms), expected)
    np.testing.assert_array_equal(batching.embed_raw(waveforms), SpectrumEncoder().embed_raw(waveforms))
    np.testing.assert_array_equal(batching.background().embed_raw(waveforms), SpectrumEncoder().embed_raw(waveforms))
    assert batching.embed([]).shape == batching.background().embed([]).shape == (0, 192)
    view = batching.background()
    for each in (batching, view):
        assert (each.id, each.name, each.dim, each.min_samples) == ("0123456789abcdef-spectrum", "spectrum", 192, 1600)
    batching.close()


def test_waiting_probes_of_one_length_share_a_pass_and_the_oldest_goes_first(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder
) -> None:
    futures = [occupy(pool, encoder, inner)]
    for seconds in (2, 1, 2, 1, 2, 2, 2):
        futures.append(submit(pool, encoder, sound(seconds)))
    inner.gate.set()
    for future in futures:
        future.result(60)
    # Four of two seconds are as many as share a pass; the one-second probes came before the fifth.
    assert inner.passes == [[16_000], [32_000] * 4, [16_000] * 2, [32_000]]
    assert len(inner.threads) == 1


def test_a_pass_holds_no_more_audio_than_the_network_takes_at_once(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder
) -> None:
    futures = [occupy(pool, encoder, inner), *(submit(pool, encoder, sound(4)) for _ in range(3))]
    futures.append(submit(pool, encoder, sound(12)))
    inner.gate.set()
    for future in futures:
        future.result(60)
    assert inner.passes[1:] == [[64_000] * 2, [64_000], [192_000]]


def test_where_lengths_are_joined_probes_and_ingest_of_any_length_share_passes_of_so_much_audio(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder
) -> None:
    inner.joins_lengths = True
    assert encoder.joins_lengths
    assert encoder.background().joins_lengths
    futures = [occupy(pool, encoder, inner), *(submit(pool, encoder, sound(each)) for each in (2, 1, 4, 5, 3))]
    inner.gate.set()
    for future in futures:
        future.result(60)
    assert inner.passes[1:] == [[32_000, 16_000, 64_000, 48_000], [80_000]]
    inner.passes.clear()
    waveforms = [sound(each, seed=number) for number, each in enumerate((6, 2, 3, 12, 1))]
    found = encoder.background().embed(waveforms)
    np.testing.assert_array_equal(found, SpectrumEncoder().embed(waveforms))
    assert inner.passes == [[16_000, 32_000, 48_000], [96_000], [192_000]]


def test_one_bad_waveform_fails_its_own_caller_only(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder
) -> None:
    good, loud = sound(1, seed=1), sound(1, seed=2) * 3
    futures = [occupy(pool, encoder, inner), *(submit(pool, encoder, each) for each in (good, loud, good))]
    inner.gate.set()
    np.testing.assert_array_equal(futures[1].result(60), SpectrumEncoder().embed([good]))
    np.testing.assert_array_equal(futures[3].result(60), SpectrumEncoder().embed([good]))
    with pytest.raises(NonFiniteEmbedding):
        futures[2].result(60)
    with pytest.raises(TooLittleSpeech):
        encoder.embed([sound(0.05)])
    with pytest.raises(TooLittleSpeech):
        encoder.background().embed([good, sound(0.05)])
    assert encoder.embed([good]).shape == (1, 192)


def test_probes_beyond_the_queue_are_refused_with_the_time_to_come_again(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder
) -> None:
    futures = [occupy(pool, encoder, inner), *(submit(pool, encoder, sound(1)) for _ in range(8))]
    with pytest.raises(Overloaded, match="8 probes wait for the encoder, the limit is 8") as refused:
        encoder.embed([sound(1)])
    assert 1.0 <= refused.value.retry_after_s <= 60.0
    inner.gate.set()
    for future in futures:
        future.result(60)
    # More waveforms than may wait, in one call: taken while nothing else waits.
    assert encoder.embed([sound(0.2)] * 20).shape == (20, 192)


def test_a_probe_waits_no_longer_than_it_may(pool: ThreadPoolExecutor, inner: GatedEncoder) -> None:
    encoder = BatchingEncoder(inner, timeout_s=1.0)
    first = pool.submit(encoder.embed, [sound(1)])
    assert inner.began.wait(60)
    with pytest.raises(Overloaded, match=r"no embedding after 1 s"):
        encoder.embed([sound(2)])
    assert encoder.waiting == 0
    with pytest.raises(Overloaded):
        first.result(60)  # Before the gate is opened: a thread that wakes late would find an answer.
    inner.gate.set()
    encoder.close()
    assert inner.passes == [[16_000]]  # nobody embeds what nobody waits for any more


def test_ingest_waits_behind_probes_pass_by_pass(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, inner: GatedEncoder
) -> None:
    futures = [occupy(pool, encoder, inner)]
    view = encoder.background()
    bulk = pool.submit(view.embed, [sound(5, seed=number) for number in range(4)])
    eventually(lambda: len(encoder._background) == 2)
    futures.append(submit(pool, encoder, sound(2)))
    inner.gate.set()
    np.testing.assert_array_equal(
        bulk.result(60), SpectrumEncoder().embed([sound(5, seed=number) for number in range(4)])
    )
    for future in futures:
        future.result(60)
    assert inner.passes == [[16_000], [32_000], [80_000] * 2, [80_000] * 2]


def test_ingest_is_not_starved_by_probes_without_end(
    pool: ThreadPoolExecutor, inner: GatedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.embedding.batching._BACKGROUND_TURN_S", 0.05)
    inner.gate.set()
    encoder = BatchingEncoder(inner, batch=1)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            encoder.embed([sound(1)])

    askers = [pool.submit(ask) for _ in range(4)]
    assert pool.submit(encoder.background().embed, [sound(3)] * 3).result(60).shape == (3, 192)
    stop.set()
    for asker in askers:
        asker.result(60)
    encoder.close()


def test_closing_fails_what_waits_and_finishes_what_runs(pool: ThreadPoolExecutor, inner: GatedEncoder) -> None:
    encoder = BatchingEncoder(inner, batch=1)
    running = pool.submit(encoder.embed, [sound(1)])
    assert inner.began.wait(60)
    probe = submit(pool, encoder, sound(2))
    bulk = pool.submit(encoder.background().embed, [sound(3)])
    eventually(lambda: bool(encoder._background))
    closing = pool.submit(encoder.close)
    for future in (probe, bulk):
        with pytest.raises(Unavailable, match="being closed"):
            future.result(60)
    assert not running.done()
    inner.gate.set()
    assert running.result(60).shape == (1, 192)
    closing.result(60)
    encoder.close()
    with pytest.raises(Unavailable):
        encoder.embed([sound(1)])
    with pytest.raises(Unavailable):
        encoder.background().embed([sound(1)])


class ForgetfulEncoder(SpectrumEncoder):
    """Loses the last vector of a pass of several waveforms."""

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        vectors = super().embed_raw(waveforms)
        return vectors[:-1] if len(waveforms) > 1 else vectors


def test_an_encoder_that_returns_too_few_vectors_gives_nobody_the_vector_of_another(pool: ThreadPoolExecutor) -> None:
    encoder = BatchingEncoder(ForgetfulEncoder(), timeout_s=60.0)
    for count in (2, 3):
        bulk = pool.submit(encoder.background().embed, [sound(1, seed=seed) for seed in range(count)])
        with pytest.raises(CorruptArtifact, match=rf"returned \({count - 1}, 192\) .* {count} waveforms"):
            bulk.result(60)
    # The thread lives, and passes of one waveform are as good as ever.
    np.testing.assert_array_equal(encoder.embed([sound(1)]), SpectrumEncoder().embed([sound(1)]))
    encoder.close()


def test_ingest_waits_as_long_as_passes_end_and_gives_up_when_none_does(
    pool: ThreadPoolExecutor, inner: GatedEncoder
) -> None:
    encoder = BatchingEncoder(inner, batch_audio_s=1.0, stalled_s=0.3)
    stuck = pool.submit(encoder.background().embed, [sound(1)])
    with pytest.raises(Unavailable, match=r"no pass of the encoder has ended for 0\.3 s"):
        stuck.result(60)
    inner.gate.set()
    waveforms = [sound(1, seed=seed) for seed in range(8)]
    slow = SlowEncoder()
    patient = BatchingEncoder(slow, batch_audio_s=1.0, stalled_s=1.5)  # Less than all passes take.
    np.testing.assert_array_equal(patient.background().embed(waveforms), SpectrumEncoder().embed(waveforms))
    encoder.close()
    patient.close()


class SlowEncoder(SpectrumEncoder):
    """Takes a fifth of a second for a pass."""

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        time.sleep(0.2)
        return super().embed_raw(waveforms)
