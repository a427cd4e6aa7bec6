"""Voices of requests, embedded by a real worker process over a real Redis."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from api.cli.local_servers import LocalRedis
from indexer.embedding.encoder import load_encoder
from indexer.errors import EncoderMismatch, Overloaded, TooLittleSpeech, Unavailable
from indexer.settings import Settings, load_settings
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Waveform
from tests.formats.audio_samples import speech_like
from tests.waiting import eventually
from tests.worker_kit import environment_of, running_worker
from worker.app import PROBES
from worker.client import connect_redis
from worker.probes import RemoteEncoder

NAME = "speechbrain-ecapa-voxceleb"


@pytest.fixture
def settings(redis_server: LocalRedis) -> Settings:
    return load_settings(
        broker={"url": redis_server.url},
        probes={"timeout_s": 120},
        database={},
        embedding={"device": "cpu", "threads": 1, "encoder": NAME},
    )


def impatient(settings: Settings, **probes: float) -> Settings:
    return settings.model_copy(update={"probes": settings.probes.model_validate({"timeout_s": 0.3, **probes})})


@pytest.fixture
def waveforms() -> list[Waveform]:
    return [speech_like(seconds, seed=number).astype(np.float32) for number, seconds in enumerate((1.0, 2.5, 1.0))]


@pytest.fixture
def unheard(settings: Settings) -> Iterator[RemoteEncoder]:
    """An encoder whose queue no worker listens to."""
    remote = RemoteEncoder(impatient(settings), name=NAME)
    yield remote
    remote.close()


def nothing_is_left(settings: Settings) -> bool:
    redis = connect_redis(settings)
    try:
        return not list(redis.scan_iter("voxdex:probe:*"))
    finally:
        redis.close()


@pytest.mark.real_weights
def test_a_worker_embeds_as_this_process_does(
    settings: Settings, default_weights: Path, campplus_weights: Path, waveforms: list[Waveform], tmp_path: Path
) -> None:
    local = load_encoder(default_weights, name=NAME, family="speechbrain", device="cpu")
    beside = load_encoder(campplus_weights, name="campplus-zh-en", family="campplus", device="cpu")
    second = RemoteEncoder(settings, name="campplus-zh-en", expected=beside.id)
    remote = RemoteEncoder(settings, name=NAME, expected=local.id)
    stranger = RemoteEncoder(settings, name=NAME, expected=EncoderId("0123456789abcdef-other"))
    try:
        with running_worker(environment_of(settings), tmp_path / "log", "--queues", "probes"):
            assert np.abs(remote.embed(waveforms) - local.embed(waveforms)).max() <= 1e-6
            raw = local.embed_raw(waveforms)
            assert np.abs(remote.embed_raw(waveforms) - raw).max() <= 1e-6 * np.abs(raw).max()
            assert remote.embed([]).shape == (0, local.dim)
            described = (remote.id, remote.name, remote.dim, remote.min_samples)
            assert described == (local.id, NAME, local.dim, local.min_samples)
            # One worker serves galleries of either encoder, and those of both.
            assert np.abs(second.embed(waveforms) - beside.embed(waveforms)).max() <= 1e-6
            with pytest.raises(TooLittleSpeech, match="utterance 0"):
                remote.embed([np.zeros(local.min_samples - 1, dtype=np.float32)])
            with pytest.raises(EncoderMismatch, match=local.id):
                stranger.embed(waveforms[:1])
        assert nothing_is_left(settings)
    finally:
        for one in (remote, second, stranger):
            one.close()


def test_without_a_worker_the_wait_ends_in_time_and_leaves_no_audio(
    settings: Settings, unheard: RemoteEncoder, waveforms: list[Waveform]
) -> None:
    with pytest.raises(Overloaded, match=r"within 0\.3 s"):
        unheard.embed(waveforms)
    assert nothing_is_left(settings)


def test_more_probes_than_may_wait_are_refused_at_once(settings: Settings, waveforms: list[Waveform]) -> None:
    redis = connect_redis(settings)
    remote = RemoteEncoder(impatient(settings, queue=2), name=NAME)
    try:
        redis.rpush(PROBES, "first", "second")
        with pytest.raises(Overloaded, match="2 probes wait"):
            remote.embed(waveforms)
    finally:
        remote.close()
        redis.close()


def test_all_who_wait_for_the_same_answer_wait_as_long_as_one(settings: Settings) -> None:
    remote = RemoteEncoder(impatient(settings, timeout_s=1.0), name=NAME)

    def ask() -> float:
        began = time.monotonic()
        with pytest.raises(Overloaded, match="no worker"):
            _ = remote.dim
        return time.monotonic() - began

    try:
        with ThreadPoolExecutor(30) as pool:
            waits_s = [waiting.result() for waiting in [pool.submit(ask) for _ in range(30)]]
    finally:
        remote.close()
    assert max(waits_s) < 25 * 1.0  # In turn they would take 30 times the wait of one.


def test_more_threads_than_a_usual_pool_has_connections_may_wait(settings: Settings, waveforms: list[Waveform]) -> None:
    remote = RemoteEncoder(impatient(settings, timeout_s=3.0), name=NAME)
    together = threading.Barrier(120)

    def ask() -> str:
        together.wait()
        try:
            remote.embed(waveforms[:1])
        except Unavailable as error:
            return str(error)
        return "answered"

    try:
        with ThreadPoolExecutor(120) as pool:
            told = {waiting.result() for waiting in [pool.submit(ask) for _ in range(120)]}
    finally:
        remote.close()
    assert len(told) == 1
    assert "no worker embedded the probe" in told.pop()


def test_audio_that_would_fill_the_brokers_memory_is_refused_at_once(settings: Settings) -> None:
    # Who waits does so long enough for the others to be refused meanwhile, on whatever machine.
    remote = RemoteEncoder(impatient(settings, timeout_s=5.0, max_bytes=1 << 20), name=NAME)
    large, small = np.zeros(300_000, dtype=np.float32), np.zeros(1000, dtype=np.float32)

    def ask() -> None:
        with pytest.raises(Overloaded, match="no worker"):
            remote.embed([large])  # By itself it may be larger than the limit.

    try:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask)
            eventually(lambda: not nothing_is_left(settings))
            with pytest.raises(Overloaded, match="1200000 bytes of audio wait"):  # Not that nobody answered in time.
                remote.embed([small])
            first.result()
        with pytest.raises(Overloaded, match="no worker"):
            remote.embed([small])
    finally:
        remote.close()


def test_a_broker_whose_memory_is_full_is_overloaded(settings: Settings, waveforms: list[Waveform]) -> None:
    redis = connect_redis(settings)
    remote = RemoteEncoder(impatient(settings), name=NAME)
    try:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
        with pytest.raises(Overloaded, match="memory is full"):
            remote.embed(waveforms)
    finally:
        redis.config_set("maxmemory", 0)
        remote.close()
        redis.close()


def test_without_a_broker_a_probe_is_refused_by_name(redis_server: LocalRedis, unheard: RemoteEncoder) -> None:
    redis_server.stop()
    with pytest.raises(Unavailable, match="broker") as refusal:
        unheard.embed([np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)])
    assert not isinstance(refusal.value, Overloaded)
