"""Where somebody speaks: the network is the published one, blocks do not matter, and no word is lost."""

import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.audio.regions import Region, SpeechDetector, speech_s
from indexer.audio.silero import load_silero
from indexer.audio.speech import FRAME_S, FRAME_SAMPLES, RegionMaker, SileroDetector, SoundDetector, make_detector
from indexer.settings import AudioSettings, SpeechSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

PLAIN = SpeechSettings(min_speech_s=0.0, min_silence_s=0.0, padding_s=0.0)
FRAMES = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), max_size=80)


@pytest.fixture(scope="module")
def silero() -> SileroDetector:
    return SileroDetector(SpeechSettings())


@pytest.fixture(scope="module")
def sentence(speech_dir: Path) -> Waveform:
    return read(speech_dir / "librispeech_multi" / "LS4088" / "4088-158077-0085.flac")


def read(path: Path) -> Waveform:
    with open_audio(path, channels=ChannelPolicy.parse("mix"), limits=AudioSettings()) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)[0].astype(np.float32)


def at_level(waveform: Waveform, dbfs: float) -> Waveform:
    level = np.sqrt(np.mean(np.square(waveform)))
    return (waveform * (10 ** (dbfs / 20) / level)).astype(np.float32)


def made(probabilities: list[float], chosen: SpeechSettings, duration_s: float | None = None) -> list[Region]:
    maker = RegionMaker(chosen)
    found = maker.push(probabilities)
    return [*found, *maker.finish(len(probabilities) * FRAME_S if duration_s is None else duration_s)]


def in_frames(regions: list[Region]) -> list[tuple[float, float]]:
    return [(round(start_s / FRAME_S, 3), round(end_s / FRAME_S, 3)) for start_s, end_s in regions]


def in_blocks(detector: SpeechDetector, waveform: Waveform, cuts: list[int]) -> list[Region]:
    stream = detector.stream()
    places = sorted({0, *(cut % (len(waveform) + 1) for cut in cuts), len(waveform)})
    found = [region for start, end in pairwise(places) for region in stream.push(waveform[start:end])]
    return [*found, *stream.finish()]


def test_speech_begins_at_one_threshold_and_ends_below_the_other() -> None:
    assert in_frames(made([0.4, 0.6, 0.4, 0.4, 0.2, 0.4], PLAIN)) == [(1, 4)]


def test_a_release_threshold_above_the_threshold_counts_as_that() -> None:
    chosen = PLAIN.model_copy(update={"threshold": 0.3, "release_threshold": 0.9})
    assert in_frames(made([0.4, 0.4, 0.2], chosen)) == [(0, 2)]


def test_a_short_pause_belongs_to_the_speech_around_and_a_long_one_ends_it() -> None:
    chosen = PLAIN.model_copy(update={"min_silence_s": 3 * FRAME_S})
    assert in_frames(made([1, 0, 0, 1, 0, 0, 0, 1], chosen)) == [(0, 4), (7, 8)]


def test_a_sound_shorter_than_the_least_speech_is_none() -> None:
    chosen = PLAIN.model_copy(update={"min_speech_s": 3 * FRAME_S})
    assert in_frames(made([1, 1, 0, 1, 1, 1, 0], chosen)) == [(3, 6)]


def test_padding_stays_inside_the_track_and_joins_what_it_makes_touch() -> None:
    chosen = PLAIN.model_copy(update={"padding_s": 2 * FRAME_S})
    assert in_frames(made([0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1], chosen)) == [(0, 9), (11, 14)]


def test_speech_that_lasts_to_the_end_ends_with_the_last_sample() -> None:
    assert made([0, 1, 1], PLAIN, duration_s=2.5 * FRAME_S) == [Region(FRAME_S, 2.5 * FRAME_S)]


@given(
    frames=FRAMES,
    least=st.integers(0, 6),
    pause=st.integers(0, 6),
    padding=st.integers(0, 4),
    cut=st.integers(0, 80),
)
def test_regions_rise_and_are_apart_however_probabilities_come_in(
    frames: list[float], least: int, pause: int, padding: int, cut: int
) -> None:
    chosen = SpeechSettings(
        min_speech_s=least * FRAME_S, min_silence_s=pause * FRAME_S, padding_s=min(2.0, padding * FRAME_S)
    )
    whole = made(frames, chosen)
    maker = RegionMaker(chosen)
    parts = [*maker.push(frames[:cut]), *maker.push(frames[cut:]), *maker.finish(len(frames) * FRAME_S)]
    assert parts == whole
    assert all(0 <= region.start_s < region.end_s <= len(frames) * FRAME_S + 1e-9 for region in whole)
    assert all(one.end_s < other.start_s for one, other in pairwise(whole))


def test_the_network_gives_the_probabilities_of_the_published_model(
    silero: SileroDetector, sentence: Waveform, published: torch.nn.Module
) -> None:
    waveform = np.concatenate((sentence[:80_000], at_level(sentence[:40_000], -50), np.zeros(700, dtype=np.float32)))
    with torch.no_grad():
        expected = [
            float(published(torch.from_numpy(padded(waveform[start : start + FRAME_SAMPLES])), SAMPLE_RATE_HZ))
            for start in range(0, len(waveform), FRAME_SAMPLES)
        ]
    assert np.abs(silero.probabilities(waveform) - np.array(expected)).max() < 1e-5


def padded(frame: Waveform) -> NDArray[np.float32]:
    return np.pad(frame, (0, FRAME_SAMPLES - len(frame)))


@pytest.fixture
def published() -> torch.nn.Module:
    import importlib.util

    found = importlib.util.find_spec("silero_vad")
    assert found is not None
    assert found.origin is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model: torch.nn.Module = torch.jit.load(Path(found.origin).parent / "data" / "silero_vad.jit")
    model.reset_states()  # type: ignore[operator]
    return model


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 10**6), max_size=12))
def test_regions_do_not_depend_on_how_the_audio_comes_in(
    silero: SileroDetector, sentence: Waveform, cuts: list[int]
) -> None:
    waveform = np.concatenate((np.zeros(50_000, dtype=np.float32), sentence[:100_000], np.zeros(33_333, np.float32)))
    assert in_blocks(silero, waveform, cuts) == silero.regions(waveform)


def test_every_sample_by_itself_gives_the_same(silero: SileroDetector, sentence: Waveform) -> None:
    waveform = sentence[:40_000]
    assert in_blocks(silero, waveform, list(range(0, len(waveform), 97))) == silero.regions(waveform)


def test_a_stream_holds_no_more_than_a_few_seconds_of_audio(silero: SileroDetector, sentence: Waveform) -> None:
    stream = silero.stream()
    for _ in range(5):
        stream.push(sentence)
    held = stream._frames._held  # type: ignore[attr-defined]
    assert held.base is None
    assert len(held) < 4.2 * SAMPLE_RATE_HZ


@pytest.mark.parametrize("dbfs", [-15.0, -30.0, -50.0, -60.0])
@pytest.mark.parametrize(
    "recording", ["librispeech_multi/LS4088/4088-158077-0085.flac", "telephony_8k/asterisk-core-sounds-fr-wav/*.flac"]
)
def test_quiet_speech_is_found_like_loud_speech(
    silero: SileroDetector, speech_dir: Path, recording: str, dbfs: float
) -> None:
    speech = read(sorted(speech_dir.glob(recording))[0])
    loud, other = silero.regions(at_level(speech, -20)), silero.regions(at_level(speech, dbfs))
    assert speech_s(other) == pytest.approx(speech_s(loud), rel=0.06)


@pytest.mark.parametrize("dbfs", [-30.0, -65.0])
def test_quiet_noise_is_not_raised_to_speech(silero: SileroDetector, speech_dir: Path, dbfs: float) -> None:
    for name in ("002_-_Rain", "007_-_Helicopter", "010_-_Fire_crackling", "001_-_Dog_bark"):
        assert silero.regions(at_level(read(speech_dir / "noise" / f"{name}.flac"), dbfs)) == []


def test_silence_noise_and_tones_are_no_speech(silero: SileroDetector) -> None:
    seconds = 6
    time_s = np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    noise = np.random.default_rng(5).standard_normal(len(time_s)).astype(np.float32)
    chord = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (261.6, 329.6, 392.0))
    beats = chord * (np.mod(time_s, 0.5) < 0.3)
    sounds = [
        np.zeros_like(noise),
        0.1 * noise,
        np.cumsum(noise) / 500,
        np.sin(2 * np.pi * 440 * time_s) / 4,
        beats / 9,
    ]
    for sound in sounds:
        assert speech_s(silero.regions(sound.astype(np.float32))) <= 0.5
    assert silero.regions(np.zeros(0, dtype=np.float32)) == []


def test_steps_between_constant_frames_are_no_speech(silero: SileroDetector) -> None:
    steps = np.repeat(np.array([0.0, 0.5, -0.5, 0.1], dtype=np.float32), FRAME_SAMPLES)
    assert silero.regions(steps) == []


def test_one_second_words_are_not_lost(silero: SileroDetector, speech_dir: Path) -> None:
    words = sorted((speech_dir / "speech_commands").rglob("*.flac"))[::10]
    assert len(words) == 30
    found = [speech_s(silero.regions(read(word))) for word in words]
    assert sum(seconds >= 0.2 for seconds in found) >= 29


def test_without_a_detector_all_that_sounds_is_speech() -> None:
    detector = make_detector(SpeechSettings(detector="off"))
    sound = np.zeros(20_000, dtype=np.float32)
    sound[9_000] = 0.01
    assert detector.regions(sound) == [Region(0.0, 1.25)]
    assert detector.regions(np.full(20_000, 0.3, dtype=np.float32)) == []
    assert detector.regions(np.zeros(0, dtype=np.float32)) == []


@given(cuts=st.lists(st.integers(0, 10**6), max_size=12), peak=st.sampled_from([0.0, 1e-4, 1e-3, 0.5]))
def test_whether_all_is_silent_does_not_depend_on_blocks(cuts: list[int], peak: float) -> None:
    sound = np.zeros(5_000, dtype=np.float32)
    sound[4_000] = peak
    assert in_blocks(SoundDetector(), sound, cuts) == SoundDetector().regions(sound)


def test_a_detector_is_made_without_loading_torch() -> None:
    program = (
        "import sys; from indexer.audio.speech import make_detector; from indexer.settings import SpeechSettings; "
        "make_detector(SpeechSettings()); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_silero_vad_is_not_imported_for_it_would_take_the_threads_of_torch_away() -> None:
    program = (
        "import sys, torch; torch.set_num_threads(2); from indexer.audio.silero import load_silero; load_silero(); "
        "sys.exit('silero_vad' in sys.modules or torch.get_num_threads() != 2)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert load_silero() is load_silero()
