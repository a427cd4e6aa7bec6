"""What is worked out of a probe while its speech is found: the same answers, with the work done before or not."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import indexer.ahead
from indexer.ahead import Ahead
from indexer.audio.channels import ChannelPolicy
from indexer.audio.quality import power_spectra
from indexer.audio.regions import Region
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import NoSpeech
from indexer.probes import HeardVoice, hear_voices
from indexer.settings import AudioSettings
from indexer.takes import Take
from indexer.types import Vectors, Waveform
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.listening_kit import LoudnessDetector, LoudnessStream, plain_listening, silence, voice, write_take

MIX = ChannelPolicy.parse("mix")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one core nobody works ahead, and tests run on any machine."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)


class PreparingEncoder(SpectrumEncoder):
    """Notes which waveforms it prepares, and which it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[Waveform] = []
        self.given: list[Waveform] = []
        self.threads: list[str] = []
        self.begun = threading.Event()

    def prepare(self, waveform: Waveform) -> None:
        self.prepared.append(waveform)
        self.threads.append(threading.current_thread().name)
        self.begun.set()

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        self.given += waveforms
        return super().embed_raw(waveforms)


class SlowDetector(LoudnessDetector):
    """Takes as long to find the speech as it takes others to begin."""

    def __init__(self, begun: threading.Event) -> None:
        super().__init__()
        self._begun = begun

    def stream(self, *, edges: bool = True) -> LoudnessStream:
        stream = super().stream(edges=edges)
        finish = stream.finish

        def finish_late() -> list[Region]:
            assert self._begun.wait(120)
            return finish()

        stream.finish = finish_late  # type: ignore[method-assign]
        return stream


def hear(path: Path, encoder: SpectrumEncoder, second: ReversedSpectrumEncoder | None = None) -> list[HeardVoice]:
    listening = plain_listening()
    is_short = soundfile.info(path).duration <= indexer.ahead._LONGEST_S
    if isinstance(encoder, PreparingEncoder) and is_short and not indexer.ahead._ALONE.locked():
        encoder.begun.clear()
        listening = replace(listening, detector=SlowDetector(encoder.begun))
    return hear_voices(EncoderSet(encoder, second), path, listening, channels=MIX, limits=AudioSettings())


def plain(voices: list[HeardVoice]) -> list[object]:
    return [(one.turns, one.quality, {key: row.tolist() for key, row in one.vectors.items()}) for one in voices]


@pytest.mark.parametrize(
    "parts",
    [[voice(0, 2.0)], [silence(2.5), voice(0, 2.0)], [voice(0, 4.0), silence(3.0), voice(1, 4.0)], [voice(0, 9.0)]],
    ids=["whole", "a part of it", "two voices", "long"],
)
def test_answers_are_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[Waveform]
) -> None:
    path = write_take(tmp_path / "a.wav", *parts)
    before = plain(hear(path, PreparingEncoder(), ReversedSpectrumEncoder()))
    monkeypatch.setattr(indexer.ahead, "_LONGEST_S", 0.0)
    assert plain(hear(path, SpectrumEncoder(), ReversedSpectrumEncoder())) == before


def test_a_short_recording_is_prepared_in_another_thread_as_the_array_that_is_embedded(tmp_path: Path) -> None:
    encoder = PreparingEncoder()
    hear(write_take(tmp_path / "a.wav", voice(0, 2.0)), encoder)
    assert encoder.threads[0].startswith("ahead")
    assert encoder.given[0] is encoder.prepared[0]


def test_where_several_are_heard_nobody_works_ahead(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 2.0))
    encoder = PreparingEncoder()
    with Ahead(EncoderSet(encoder)):
        hear(path, encoder)
        assert encoder.prepared == []
    hear(path, encoder)
    assert len(encoder.prepared) == 1


def test_the_next_probe_works_ahead_after_one_that_failed(tmp_path: Path) -> None:
    encoder = PreparingEncoder()
    with pytest.raises(NoSpeech):
        hear(write_take(tmp_path / "a.wav", np.float32(0.001) * voice(0, 2.0)), encoder)
    hear(write_take(tmp_path / "b.wav", voice(0, 2.0)), encoder)
    assert len(encoder.prepared) == 2


def test_work_that_fails_is_done_by_whoever_needs_it(tmp_path: Path) -> None:
    class FailingEncoder(PreparingEncoder):
        def prepare(self, waveform: Waveform) -> None:
            super().prepare(waveform)
            raise MemoryError

    path = write_take(tmp_path / "a.wav", voice(0, 2.0))
    assert plain(hear(path, FailingEncoder())) == plain(hear(path, SpectrumEncoder()))


def test_an_utterance_gets_the_spectra_of_its_own_samples(tmp_path: Path) -> None:
    take = Take(write_take(tmp_path / "a.wav", voice(0, 2.0)), channels=MIX, limits=AudioSettings())
    (block,) = list(take.blocks())
    encoder = PreparingEncoder()
    with Ahead(EncoderSet(encoder)) as ahead:
        ahead.begin(take)
        assert encoder.begun.wait(120)
        assert ahead.done(block[0][1:].copy())[1] is None
        assert ahead.done(block[0] * np.float32(0.5))[1] is None
        waveform, spectra = ahead.done(block[0].copy())
    assert spectra is not None
    assert np.array_equal(waveform, block[0])
    assert np.array_equal(spectra, power_spectra(block[0]))
