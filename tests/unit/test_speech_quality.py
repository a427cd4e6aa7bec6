"""How good an utterance is: measures with known answers, on made sounds and on real speech."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.audio.gates import SpeechGate, needed_of_probe_s
from indexer.audio.quality import (
    LEAST_LEVEL_DBFS,
    LEAST_SNR_DB,
    MOST_SNR_DB,
    TELEPHONE_BANDWIDTH_HZ,
    Quality,
    measure_quality,
    pooled_quality,
)
from indexer.audio.regions import Region
from indexer.audio.resample import BlockResampler
from indexer.audio.speech import SileroDetector
from indexer.errors import NotEnoughSpeech, TooNoisy
from indexer.settings import AudioSettings, SpeechSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

GOOD_BUT_SILENT = Quality(net_speech_s=0.0, snr_db=None, clipped_share=0.0, bandwidth_hz=0.0, level_dbfs=-24.0)
GOOD = Quality(net_speech_s=8.0, snr_db=25.0, clipped_share=0.0, bandwidth_hz=7900.0, level_dbfs=-24.0)


def noise(seconds: float, dbfs: float, seed: int = 1) -> Waveform:
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    return (drawn * 10 ** (dbfs / 20)).astype(np.float32)


def bursts(snr_db: float) -> tuple[Waveform, list[Region]]:
    """Return noise of -50 dBFS in which louder noise, the speech, is heard twice for a second."""
    regions = [Region(1.0, 2.0), Region(3.0, 4.0)]
    sound = noise(5.0, -50.0)
    for region in regions:
        sound[round(region.start_s * 16_000) : round(region.end_s * 16_000)] += noise(1.0, -50.0 + snr_db, seed=2)
    return sound, regions


def read(path: Path) -> Waveform:
    with open_audio(path, channels=ChannelPolicy.parse("mix"), limits=AudioSettings()) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)[0].astype(np.float32)


def laid_behind(speech: Waveform, regions: Sequence[Region], sound: Waveform, snr_db: float) -> Waveform:
    """Return a sound, repeated where it is short, so many decibels below the speech."""
    inside = np.concatenate([speech[round(one.start_s * 16_000) : round(one.end_s * 16_000)] for one in regions])
    behind: Waveform = np.resize(sound, len(speech))
    behind *= np.sqrt(np.mean(inside**2) / np.mean(behind**2)) * 10 ** (-snr_db / 20)
    return behind


def test_net_speech_is_what_the_regions_cover_of_the_utterance() -> None:
    regions = [Region(0.5, 1.0), Region(1.5, 9.0)]
    assert measure_quality(noise(2.0, -20), regions).net_speech_s == pytest.approx(1.0)


@pytest.mark.parametrize("snr_db", [0.0, 5.0, 10.0, 20.0, 40.0])
def test_noise_around_the_speech_gives_its_ratio(snr_db: float) -> None:
    sound, regions = bursts(snr_db)
    assert measure_quality(sound, regions).snr_db == pytest.approx(snr_db, abs=1.0)


def test_speech_between_digital_silence_has_the_highest_ratio() -> None:
    sound = np.concatenate((np.zeros(16_000, np.float32), noise(1.0, -20), np.zeros(16_000, np.float32)))
    assert measure_quality(sound, [Region(1.0, 2.0)]).snr_db == MOST_SNR_DB


@pytest.mark.parametrize("dbfs", [-60.0, -20.0])
def test_level_is_that_of_the_speech_whatever_the_offset(dbfs: float) -> None:
    sound = np.concatenate((np.zeros(16_000, np.float32), noise(1.0, dbfs))) + np.float32(0.1)
    assert measure_quality(sound, [Region(1.0, 2.0)]).level_dbfs == pytest.approx(dbfs, abs=0.2)


def test_clipping_is_the_share_of_samples_at_full_scale() -> None:
    sound = noise(1.0, -30)
    sound[:1600] = 1.0
    assert measure_quality(sound, [Region(0.0, 1.0)]).clipped_share == pytest.approx(0.1)


@pytest.mark.parametrize(("rate_hz", "telephone"), [(8_000, True), (11_025, False), (16_000, False)])
def test_bandwidth_is_where_the_spectrum_ends(rate_hz: int, telephone: bool) -> None:
    resampler = BlockResampler(rate_hz, 1)
    first = resampler.push(noise(2.0, -20)[: 2 * rate_hz, None].astype(np.float64))
    sound = np.concatenate((first, resampler.finish()))[:, 0].astype(np.float32)
    quality = measure_quality(sound, [Region(0.0, 2.0)])
    assert quality.bandwidth_hz == pytest.approx(rate_hz / 2, rel=0.06)
    assert quality.is_telephone is telephone


def syllables(seconds: float, *, rate_hz: int, sibilants: bool = False) -> Waveform:
    """Return noise that rises and falls four times a second, at -20 dBFS; every other time, sibilants end it."""
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sound = noise(seconds, -20, seed=3) * np.sin(np.pi * 4 * times) ** 4
    spectrum = np.fft.rfft(sound)
    spectrum *= np.minimum(1.0, 500 / np.maximum(1, np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ)))
    voiced = np.fft.irfft(spectrum, len(sound))
    if sibilants:
        hissed = noise(seconds, -30, seed=4) * ((times % 0.5) > 0.45)
        voiced += np.diff(hissed, prepend=0)
    resampler = BlockResampler(rate_hz, 1)
    first = resampler.push(voiced[:: SAMPLE_RATE_HZ // rate_hz, None].astype(np.float64))
    return np.concatenate((first, resampler.finish()))[: len(sound), 0].astype(np.float32)


def measured_whole(sound: Waveform) -> Quality:
    return measure_quality(sound, [Region(0.0, len(sound) / SAMPLE_RATE_HZ)])


def test_telephone_speech_is_told_beneath_noise_that_goes_on_above_it() -> None:
    telephone = syllables(3.0, rate_hz=8_000)
    assert measured_whole(telephone).is_telephone
    noisy = measured_whole(telephone + noise(3.0, -50)[: len(telephone)])
    assert noisy.bandwidth_hz == TELEPHONE_BANDWIDTH_HZ
    assert noisy.is_telephone


def test_speech_with_sibilants_is_not_taken_for_telephone_beneath_noise() -> None:
    wide = syllables(3.0, rate_hz=16_000, sibilants=True)
    assert not measured_whole(wide + noise(3.0, -50)[: len(wide)]).is_telephone


def test_noise_hides_the_end_where_it_is_loud_or_moves_with_the_speech_or_there_is_little_speech() -> None:
    telephone = syllables(3.0, rate_hz=8_000)
    times = np.arange(len(telephone)) / SAMPLE_RATE_HZ
    moving = noise(3.0, -50)[: len(telephone)] * (0.1 + np.sin(np.pi * 4 * times) ** 4).astype(np.float32)
    loud = noise(3.0, -25)[: len(telephone)]
    steady = noise(3.0, -50)[: len(telephone)]
    word = round(0.9 * SAMPLE_RATE_HZ)
    for sound in (telephone + moving, telephone + loud, (telephone + steady)[:word]):
        assert measured_whole(sound).bandwidth_hz == pytest.approx(8000, rel=0.01)


@pytest.mark.parametrize("samples", [0, 1, 100, 511, 513])
@pytest.mark.parametrize("regions", [[], [Region(0.0, 9.0)]])
def test_next_to_nothing_is_measured_too(samples: int, regions: Sequence[Region]) -> None:
    quality = measure_quality(np.zeros(samples, dtype=np.float32), regions)
    assert quality.level_dbfs == LEAST_LEVEL_DBFS
    assert quality.clipped_share == 0.0
    assert quality.net_speech_s == (samples / SAMPLE_RATE_HZ if regions else 0.0)
    assert not quality.is_telephone


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 20_000),
    places=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1)), max_size=3),
    dbfs=st.floats(-90, 20),
    seed=st.integers(0, 100),
)
def test_measures_stay_in_their_range(samples: int, places: list[tuple[float, float]], dbfs: float, seed: int) -> None:
    regions = [Region(start_s, start_s + length_s) for start_s, length_s in places]
    quality = measure_quality(noise(2.0, dbfs, seed)[:samples], regions)
    assert 0 <= quality.net_speech_s <= samples / SAMPLE_RATE_HZ
    assert quality.snr_db is None or -10 <= quality.snr_db <= 60
    assert 0 <= quality.clipped_share <= 1
    assert 0 <= quality.bandwidth_hz <= 8000
    assert LEAST_LEVEL_DBFS <= quality.level_dbfs <= 40


def test_one_utterance_is_pooled_as_several_are_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    for speech_s, snr_db in [
        *zip(rng.uniform(0.01, 9.0, 300), rng.uniform(-10.0, 60.0, 300), strict=True),
        (0.0, None),
    ]:
        clipped, band_hz, level_dbfs = rng.uniform([0.0, 100.0, -120.0], [1.0, 8000.0, 0.0])
        part = Quality(float(speech_s), snr_db, float(clipped), float(band_hz), float(level_dbfs))
        # An utterance without any speech weighs nothing beside it.
        beside = [part, GOOD_BUT_SILENT] if part.net_speech_s else [part, part]
        assert pooled_quality([part]) == pooled_quality(beside)


def test_real_recordings_are_told_from_telephone_ones(speech_dir: Path) -> None:
    detector = SileroDetector(SpeechSettings())
    found = {
        folder: [
            measure_quality(sound, detector.regions(sound)).is_telephone
            for sound in map(read, sorted((speech_dir / folder).rglob("*.flac"))[1:60:10])
        ]
        for folder in ("telephony_8k", "an4", "librispeech_testother")
    }
    assert [sum(telephone) / len(telephone) for telephone in found.values()] == [1.0, 0.0, 0.0]


def test_real_telephone_prompts_are_told_in_noise_and_wideband_speech_is_not_taken_for_one(speech_dir: Path) -> None:
    helicopter = read(speech_dir / "noise" / "007_-_Helicopter.flac")
    detector = SileroDetector(SpeechSettings())
    found: dict[str, list[bool]] = {}
    for folder in ("telephony_8k", "an4", "librispeech_testother"):
        for file in sorted((speech_dir / folder).rglob("*.flac"))[1:60:4]:
            speech = read(file)
            regions = detector.regions(speech)
            noisy = speech + laid_behind(speech, regions, helicopter, 15.0)
            found.setdefault(folder, []).append(measure_quality(noisy, regions).is_telephone)
    assert np.mean(found["telephony_8k"]) > 0.8
    assert not any(found["an4"] + found["librispeech_testother"])


@pytest.mark.parametrize("added_db", [5.0, 10.0])
def test_noise_added_to_real_speech_is_found_again(speech_dir: Path, added_db: float) -> None:
    speech = read(speech_dir / "librispeech_multi" / "LS4088" / "4088-158077-0085.flac")
    rain = read(speech_dir / "noise" / "002_-_Rain.flac")
    regions = SileroDetector(SpeechSettings()).regions(speech)
    behind = laid_behind(speech, regions, rain, added_db)
    for marked in (regions, [Region(0.0, len(speech) / 16_000)]):
        assert measure_quality(speech + behind, marked).snr_db == pytest.approx(added_db, abs=3.0)


def test_too_little_speech_says_how_much_there_was_and_how_much_is_needed() -> None:
    gate = SpeechGate(needed_s=3.0, setting="VOXDEX_SPEECH__MIN_ENROLL_S")
    with pytest.raises(NotEnoughSpeech, match=r"^a\.wav: 1\.2 s of speech, needed are 3 s") as refused:
        gate.require(Quality(1.234, 20.0, 0.0, 8000.0, -20.0), "a.wav")
    assert (refused.value.speech_s, refused.value.needed_s, refused.value.code) == (1.234, 3.0, "not-enough-speech")
    gate.require(GOOD, "a.wav")


@pytest.mark.parametrize(
    ("net_speech_s", "duration_s", "snr_db", "needed_s"),
    [
        (0.35, 1.0, 20.0, 0.3),
        (0.35, 1.0, None, 0.3),
        (0.30, 0.3, 20.0, 0.4),
        (2.00, 2.0, 20.0, 0.4),
        (0.60, 1.0, 0.0, 0.3),
        (0.60, 1.0, -3.0, 0.5986),
        (0.60, 0.6, -10 * math.log10(2), 0.8),
        (0.60, 1.0, LEAST_SNR_DB, 0.3),
    ],
)
def test_a_piece_of_speech_or_speech_under_noise_needs_more_of_it(
    net_speech_s: float, duration_s: float, snr_db: float | None, needed_s: float
) -> None:
    found = needed_of_probe_s(0.3, net_speech_s=net_speech_s, duration_s=duration_s, snr_db=snr_db)
    assert found == pytest.approx(needed_s, abs=1e-4)


def test_a_refusal_names_the_limit_and_what_this_recording_needs() -> None:
    gate = SpeechGate(needed_s=0.3, setting="SETTING")
    piece = Quality(0.3, 20.0, 0.0, 8000.0, -20.0)
    refused = gate.refusal(piece, "a.wav", 0.4)
    assert isinstance(refused, NotEnoughSpeech)
    assert "0.3 s of speech, needed are 0.3 s (SETTING), and 0.4 s where speech is cut out" in str(refused)
    assert (refused.speech_s, refused.needed_s) == (0.3, 0.4)
    assert gate.refusal(piece, "a.wav") is None


def test_more_noise_than_allowed_is_refused_with_both_figures() -> None:
    noisy = Quality(8.0, 4.0, 0.02, 8000.0, -20.0)
    with pytest.raises(TooNoisy, match="4 dB above the noise, asked for are 10 dB"):
        SpeechGate(needed_s=1.0, setting="x", min_snr_db=10.0).require(noisy, "a.wav")
    SpeechGate(needed_s=1.0, setting="x", min_snr_db=4.0).require(noisy, "a.wav")
    SpeechGate(needed_s=1.0, setting="x").require(noisy, "a.wav")
