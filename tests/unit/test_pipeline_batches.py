"""Batches of utterances that are with the encoder at once: the next one stands ready while one is embedded."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region
from indexer.embedding.encoder_set import EncoderSet
from indexer.listening import Listening, Suspicion
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import AudioSettings
from indexer.stages import Event, arrived
from indexer.types import EncoderId, Span, Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.listening_kit import AlikeScreen, plain_listening, voice, write_take

WAIT_S = 120.0


class MeetingEncoder(SpectrumEncoder):
    """Ends its first batch only when a second one is with it, and the one that came first after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.met = threading.Barrier(2)
        self.second_ended = threading.Event()
        self.most = 0
        self._inside = 0
        self._calls = 0
        self._lock = threading.Lock()

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        with self._lock:
            self._calls += 1
            number = self._calls
            self._inside += 1
            self.most = max(self.most, self._inside)
        if number <= 2:
            self.met.wait(WAIT_S)
        if number == 1:
            assert self.second_ended.wait(WAIT_S)
        made = super().embed_with_windows(waveforms, windows)
        with self._lock:
            self._inside -= 1
        if number == 2:
            self.second_ended.set()
        return made


class WindowsSeen(AlikeScreen):
    """Takes all for one voice, and remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[Region], Vectors]] = []

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        self.seen.append((list(windows), vectors))
        return None


def pipeline_of(encoder: SpectrumEncoder, listening: Listening) -> EmbeddingPipeline:
    return EmbeddingPipeline(
        EncoderSet(encoder),
        channels=ChannelPolicy.parse("mix"),
        limits=AudioSettings(block_s=1.0, utterance_s=5.0),
        decode_threads=1,
        is_known=lambda content: False,
        batch_utterances=8,
        listening=listening,
    )


def test_a_batch_stands_ready_while_another_is_embedded_and_no_third(tmp_path: Path) -> None:
    encoder = MeetingEncoder()
    paths = [write_take(tmp_path / f"{n}.wav", voice(0, 5, seed=n)) for n in range(40)]
    files = [ArchiveFile(path, None, path.stat().st_size) for path in paths]
    done = list(pipeline_of(encoder, plain_listening()).run(files))
    assert sorted(result.file.path for result in done) == sorted(paths)
    assert all(result.error is None and len(result.utterances) == 1 for result in done)
    assert encoder.most == 2


def test_a_run_ends_with_what_its_last_thread_hands_over_and_waits_for_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []

    def counted(events: queue.Queue[Event], *, wait_s: float, most: int) -> list[Event]:
        came = list(arrived(events, wait_s=wait_s, most=most))
        if wait_s:
            waits.append(len(came))
        return came

    monkeypatch.setattr("indexer.pipeline.arrived", counted)
    path = write_take(tmp_path / "a.wav", voice(0, 2.0))
    (done,) = pipeline_of(SpectrumEncoder(), plain_listening()).run([ArchiveFile(path, None, path.stat().st_size)])
    assert done.error is None
    assert waits[-1] > 0


def test_utterances_of_one_file_that_are_embedded_in_several_batches_keep_their_windows_and_vectors(
    tmp_path: Path,
) -> None:
    encoder, plain, screen = MeetingEncoder(), SpectrumEncoder(), WindowsSeen()
    samples = np.concatenate([voice(0, 5, seed=n) for n in range(40)])
    path = write_take(tmp_path / "long.wav", samples)
    files = [ArchiveFile(path, None, path.stat().st_size)]
    (done,) = pipeline_of(encoder, replace(plain_listening(), screen=screen)).run(files)
    assert encoder.most == 2
    assert len(done.utterances) == 40

    def cut(start_s: float, end_s: float) -> Waveform:
        return samples[round(16_000 * start_s) : round(16_000 * end_s)].astype(np.float32)

    for utterance in done.utterances:
        (expected,) = plain.embed([cut(utterance.start_s, utterance.end_s)])
        assert utterance.vectors[plain.id] @ expected > 0.9999
    ((windows, vectors),) = screen.seen
    assert windows == sorted(windows)
    assert len(windows) >= 40
    for window, vector in zip(windows, vectors, strict=True):
        assert vector @ plain.embed([cut(window.start_s, window.end_s)])[0] > 0.9999
