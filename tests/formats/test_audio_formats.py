"""Every format decodes to the recording that was encoded, complete and at its place in time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from indexer.audio.decode import ChannelPolicy, decode
from indexer.audio.sniff import looks_like_audio
from tests.conftest import unavailable
from tests.formats.audio_samples import (
    FORMATS,
    CannotEncodeError,
    speech_like,
    stereo,
    write_format,
    write_with_pyav,
)

DURATION_S = 3.0
# What encoders add at the ends: one ADPCM block, an MP3 frame and decoder delay, AAC priming that ADTS cannot mark.
PADDING_S = 0.11
# WMA as ffmpeg writes it lacks its last frame.
LOST_S = {"wma": 0.05}
# Waveform correlation; the vocoders do not keep the waveform well, the transparent codecs do.
LEAST_CORRELATION = {"wav-gsm": 0.95, "amr-nb": 0.85, "amr-nb-3gp": 0.85, "mp3-8k": 0.85, "mpeg-ts": 0.97}


def aligned_correlation(found: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[float, int]:
    """Correlation at the best lag, and that lag in samples (positive: the decoded signal starts later)."""
    size = 1 << (len(found) + len(expected)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size)))
    lag = int(np.argmax(cross))
    lag = lag - size if lag > size // 2 else lag
    late, early = (found[lag:], expected) if lag >= 0 else (found, expected[-lag:])
    count = min(len(late), len(early))
    return float(np.corrcoef(late[:count], early[:count])[0, 1]), lag


@pytest.mark.parametrize("kind", FORMATS)
def test_a_recording_in_any_format_decodes_to_what_was_encoded(kind: str, tmp_path: Path) -> None:
    try:
        path, samples, rate = write_format(kind, tmp_path, DURATION_S)
    except CannotEncodeError as error:
        unavailable(str(error))
    audio = decode(path)
    expected = soxr.resample(samples, rate, 16_000)
    correlation, lag = aligned_correlation(audio.waveforms[0].astype(np.float64), expected)
    assert audio.issues == ()
    assert audio.waveforms.shape[0] == 1
    assert DURATION_S - LOST_S.get(kind, 0.001) <= audio.duration_s <= DURATION_S + PADDING_S
    assert correlation >= LEAST_CORRELATION.get(kind, 0.985)
    assert abs(lag) <= 0.08 * 16_000
    assert looks_like_audio(path)


@pytest.mark.parametrize("kind", ["wav-s16", "flac", "ogg-opus", "mp3-pyav", "m4a", "webm-opus", "aiff"])
def test_bytes_and_a_misleading_name_decode_like_the_file(kind: str, tmp_path: Path) -> None:
    path, _, _ = write_format(kind, tmp_path, 1.0)
    renamed = path.rename(tmp_path / "document.pdf")
    from_file, from_bytes = decode(renamed), decode(renamed.read_bytes())
    assert np.array_equal(from_file.waveforms, from_bytes.waveforms)
    assert from_file.info.container == from_bytes.info.container
    assert from_bytes.info.name == "<bytes>"


def test_wav_steps_have_their_exact_values(tmp_path: Path) -> None:
    # 16-bit full scale is -1; half of it must be exactly -0.5, whichever decoder reads it.
    samples = np.tile([0.0, 0.5, -0.5, -1.0], 4000)
    for container, codec in (("wav", "pcm_s16le"), ("matroska", "flac"), ("matroska", "pcm_s16le")):
        path = tmp_path / f"{codec}.{container}"
        write_with_pyav(path, samples, 16_000, container, codec)
        assert np.array_equal(decode(path).waveforms[0], samples.astype(np.float32))


def test_stereo_of_a_compressed_file_keeps_its_sides_apart(tmp_path: Path) -> None:
    left, right = speech_like(2.0, seed=1), speech_like(2.0, seed=2)
    path = tmp_path / "call.m4a"
    write_with_pyav(path, stereo(left, right), 16_000, "ipod", "aac")
    both = decode(path, channels=ChannelPolicy.parse("each")).waveforms.astype(np.float64)
    assert both.shape[0] == 2
    assert aligned_correlation(both[0], left)[0] > 0.98
    assert aligned_correlation(both[1], right)[0] > 0.98
    only_right = decode(path, channels=ChannelPolicy.parse("right")).waveforms
    assert np.array_equal(only_right[0], both[1].astype(np.float32))


def test_eight_channels_of_aac_are_all_there_and_do_not_crash(tmp_path: Path) -> None:
    # PyAV 18 reads past its list of planes from the eighth on; this crashed the process.
    import av

    t = np.arange(48_000) / 48_000
    tones = np.stack([0.3 * np.sin(2 * np.pi * (200 + 100 * i) * t) for i in range(8)], axis=1).astype(np.float32)
    path = tmp_path / "surround.mka"
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("libopus", rate=48_000, layout="7.1")
        source = av.AudioFrame.from_ndarray(np.ascontiguousarray(tones.reshape(1, -1)), format="flt", layout="7.1")
        source.sample_rate, source.pts = 48_000, 0
        to_codec = av.AudioResampler(stream.codec_context.format, "7.1", 48_000, stream.codec_context.frame_size)
        for frame in [*to_codec.resample(source), *to_codec.resample(None)]:
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    found = decode(path, channels=ChannelPolicy.parse("each")).waveforms
    assert found.shape[0] == 8
    peaks = np.abs(np.fft.rfft(found, axis=1)).argmax(axis=1) * 16_000 / found.shape[1]
    wanted = [200, 300, 400, 500, 600, 700, 800, 900]
    assert np.allclose([peaks[i] for i in range(8) if i != 3], [wanted[i] for i in range(8) if i != 3], atol=2)


def test_ogg_recordings_in_a_row_are_decoded_to_the_last(tmp_path: Path) -> None:
    one, _, _ = write_format("ogg-vorbis", tmp_path / "one", 1.0, seed=1)
    two, _, _ = write_format("ogg-vorbis", tmp_path / "two", 2.0, seed=2)
    assert decode(one.read_bytes() + two.read_bytes()).duration_s == pytest.approx(3.0, abs=0.05)


def test_a_tag_behind_the_last_sample_costs_nothing(tmp_path: Path) -> None:
    for kind in ("flac", "ogg-vorbis", "mp3-pyav", "aac-adts"):
        path, _, _ = write_format(kind, tmp_path / kind, 1.0)
        plain, tagged = decode(path), decode(path.read_bytes() + b"TAG" + bytes(125))
        assert tagged.issues == ()
        assert np.array_equal(tagged.waveforms, plain.waveforms)


def test_a_flac_that_is_cut_off_is_heard_up_to_its_last_whole_frame(tmp_path: Path) -> None:
    # Noise, so that half of the bytes are half of the time; a frame is 4096 samples.
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, 5 * 16_000)
    path = tmp_path / "cut.flac"
    soundfile.write(path, noise, 16_000, subtype="PCM_16")
    whole, samples = decode(path).waveforms, path.read_bytes()
    for source in (samples[: len(samples) // 2], path):
        path.write_bytes(samples[: len(samples) // 2])
        cut = decode(source)
        heard = cut.waveforms.shape[1]
        assert 2.5 * 16_000 - 2 * 4096 < heard <= 2.5 * 16_000
        assert np.array_equal(cut.waveforms, whole[:, :heard])
        assert "decoding stopped at 2." in cut.issues[0]


def test_a_recording_that_changes_its_rate_says_where_it_was_left(tmp_path: Path) -> None:
    one, _, _ = write_format("mp3-pyav", tmp_path / "one", 1.0)
    two, _, _ = write_format("mp3", tmp_path / "two", 1.0)
    audio = decode(one.read_bytes() + two.read_bytes())
    assert audio.duration_s == pytest.approx(1.1, abs=0.1)
    assert "the recording changes to 44100 Hz" in audio.issues[0]
