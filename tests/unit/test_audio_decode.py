"""Decoding: exact samples, exact lengths, channels, streams, silence and bounded memory."""

import io
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import AudioReader, decode, open_audio
from indexer.audio.resample import BlockResampler
from indexer.errors import (
    AudioTooLarge,
    InvalidAudio,
    InvalidRequest,
    NotFound,
    SilentAudio,
    Unavailable,
    UnsupportedFormat,
)
from indexer.settings import AudioSettings

REPOSITORY = Path(__file__).parents[2]
MIX = ChannelPolicy.parse("mix")


def wav(samples: NDArray[np.float64], rate: int = 16_000, subtype: str = "DOUBLE") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def noise(count: int, channels: int = 1, seed: int = 0) -> NDArray[np.float64]:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, channels))
    return samples[:, 0] if channels == 1 else samples


def whole(samples: NDArray[np.float64], rate: int) -> NDArray[np.float32]:
    """What librosa 0.11's `resample(y, res_type='soxr_hq')` gives for the whole signal."""
    resampled = soxr.resample(samples, rate, 16_000, quality="HQ") if rate != 16_000 else samples
    length = math.ceil(len(samples) * (float(16_000) / rate))
    fixed = np.zeros(length)
    fixed[: min(length, len(resampled))] = resampled[:length]
    return fixed.astype(np.float32)


# Samples and lengths


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_a_16_khz_mono_file_keeps_every_sample_as_it_is(subtype: str) -> None:
    data = wav(noise(40_001), subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float64")
    audio = decode(data)
    assert np.array_equal(audio.waveforms, expected.astype(np.float32)[np.newaxis])
    assert audio.waveforms.dtype == np.float32
    assert audio.duration_s == 40_001 / 16_000


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_resampling_in_blocks_equals_resampling_the_whole(rate: int) -> None:
    samples = noise(rate + 37, seed=rate)
    expected = whole(samples, rate)
    found = decode(wav(samples, rate)).waveforms[0]
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=0, atol=1e-7)


@given(
    rate=st.sampled_from([8_000, 11_025, 44_100, 48_000]),
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_the_sizes_of_the_blocks_do_not_change_a_sample(rate: int, sizes: list[int]) -> None:
    samples = noise(sum(sizes) + 1, seed=rate).reshape(-1, 1)
    resampler = BlockResampler(rate, 1)
    ends = [*np.cumsum(sizes), len(samples)]
    pieces = [resampler.push(samples[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    found = np.concatenate([*pieces, resampler.finish()])[:, 0].astype(np.float32)
    assert np.allclose(found, whole(samples[:, 0], rate), rtol=0, atol=1e-7)


@given(rate=st.integers(4_000, 192_000), count=st.integers(2, 6_000))
@settings(max_examples=60, deadline=None)
def test_any_sampling_rate_decodes_to_the_right_duration(rate: int, count: int) -> None:
    samples = np.where(np.arange(count) % 2, 0.5, 0.0) + 0.25 * np.sin(np.arange(count) / 9)
    try:
        audio = decode(wav(samples, rate))
    except SilentAudio:
        pytest.fail("a signal that swings by half of full scale was called silent")
    assert audio.waveforms.shape == (1, math.ceil(count * (16_000.0 / rate)))
    assert audio.info.sample_rate_hz == rate


@pytest.mark.parametrize("rate", [3_999, 192_001])
def test_rates_out_of_range_are_refused_by_name(rate: int) -> None:
    with pytest.raises(UnsupportedFormat, match=f"sampling rate {rate} Hz is outside 4000 to 192000 Hz"):
        decode(wav(noise(1000), rate))


def test_blocks_have_the_asked_length_and_add_up() -> None:
    data = wav(noise(50_000), 22_050)
    expected = decode(data).waveforms
    with open_audio(data, channels=MIX, limits=AudioSettings(block_s=0.7)) as reader:
        blocks = list(reader.blocks())
        assert reader.decoded_s == expected.shape[1] / 16_000
        assert reader.issues == ()
    assert [block.shape[1] for block in blocks[:-1]] == [11_200] * (len(blocks) - 1)
    assert 0 < blocks[-1].shape[1] <= 11_200
    assert np.array_equal(np.concatenate(blocks, axis=1), expected)


def test_a_recording_is_decoded_once() -> None:
    with open_audio(wav(noise(100)), channels=MIX, limits=AudioSettings()) as reader:
        list(reader.blocks())
        with pytest.raises(RuntimeError, match="decodes once"):
            next(iter(reader.blocks()))


# Channels


def test_mixing_averages_and_picking_picks() -> None:
    samples = noise(20_000, channels=3)
    data = wav(samples)
    cases = {"mix": samples.mean(axis=1), "left": samples[:, 0], "right": samples[:, 1], "2": samples[:, 2]}
    for policy, expected in cases.items():
        found = decode(data, channels=ChannelPolicy.parse(policy)).waveforms
        assert np.array_equal(found[0], expected.astype(np.float32)), policy
    each = decode(data, channels=ChannelPolicy.parse("each"))
    assert np.array_equal(each.waveforms, samples.T.astype(np.float32))


def test_each_channel_is_resampled_as_if_it_were_alone() -> None:
    samples = noise(8_000, channels=2)
    both = decode(wav(samples, 8_000), channels=ChannelPolicy.parse("each")).waveforms
    for side in range(2):
        assert np.allclose(both[side], whole(samples[:, side], 8_000), rtol=0, atol=1e-7)


def test_a_channel_that_is_not_there_is_refused_with_the_channels_there_are() -> None:
    with pytest.raises(InvalidAudio, match=r"channel right was asked for and the recording has 1 \(0 to 0\)"):
        decode(wav(noise(1000)), channels=ChannelPolicy.parse("right"))


@pytest.mark.parametrize("text", ["mix", "left", "right", "0", "63", "each"])
def test_a_channel_policy_gives_its_text_back(text: str) -> None:
    assert str(ChannelPolicy.parse(text)) == text


@pytest.mark.parametrize("text", ["", "both", "-1", "64", "1.5", "²", "99999999999"])
def test_anything_else_is_no_channel_policy(text: str) -> None:
    with pytest.raises(InvalidRequest, match="use mix, left, right, each, or a channel number from 0 to 63"):
        ChannelPolicy.parse(text)


# Silence


def test_one_sample_is_silence_and_names_its_length() -> None:
    with pytest.raises(SilentAudio, match=r"silent for all of its 0\.0 s"):
        decode(wav(np.array([0.5])))


def test_silence_is_known_only_at_the_end_and_an_offset_is_no_sound() -> None:
    quiet = np.full(48_000, 0.3)
    with open_audio(wav(quiet), channels=MIX, limits=AudioSettings(block_s=1)) as reader:
        blocks = reader.blocks()
        assert next(blocks).shape == (1, 16_000)
        with pytest.raises(SilentAudio):
            list(blocks)
    quiet[40_000] += 0.0003  # -70.5 dBFS: above the limit
    assert decode(wav(quiet)).issues == ()


def test_one_sounding_channel_of_each_is_enough() -> None:
    samples = np.zeros((20_000, 2))
    samples[:, 1] = noise(20_000)
    data = wav(samples)
    assert decode(data, channels=ChannelPolicy.parse("each")).waveforms.shape[0] == 2
    with pytest.raises(SilentAudio, match=r"silent with channels = left .* while channel 1 of 2 holds sound"):
        decode(data, channels=ChannelPolicy.parse("left"))


# Sources


class OneWayStream:
    """A stream that cannot seek and hands out a little at a time, like a socket."""

    def __init__(self, data: bytes, fails_after: int | None = None) -> None:
        self._data = io.BytesIO(data)
        self._fails_after = fails_after

    def read(self, count: int = -1) -> bytes:
        if self._fails_after is not None and self._data.tell() >= self._fails_after:
            raise ConnectionResetError("connection reset")
        return self._data.read(min(count, 1000))


def as_stream(stream: Any) -> Any:
    return stream


def test_a_stream_that_cannot_seek_decodes_like_its_bytes() -> None:
    data = wav(noise(30_000), 8_000)
    assert np.array_equal(decode(as_stream(OneWayStream(data))).waveforms, decode(data).waveforms)


def test_a_stream_is_read_from_where_it_stands() -> None:
    data = wav(noise(5_000))
    stream = io.BytesIO(b"preamble" + data)
    stream.seek(8)
    assert np.array_equal(decode(stream).waveforms, decode(data).waveforms)


def test_a_stream_over_the_limit_is_refused_before_it_is_stored_whole() -> None:
    with pytest.raises(AudioTooLarge, match="over the limit of 5000 bytes"):
        decode(as_stream(OneWayStream(wav(noise(30_000)))), limits=AudioSettings(max_bytes=5_000))


def test_a_stream_that_fails_may_be_tried_again() -> None:
    with pytest.raises(Unavailable, match=r"upload\.wav: reading the stream failed after 2000 bytes"):
        decode(as_stream(OneWayStream(wav(noise(30_000)), fails_after=2_000)), name="upload.wav")


def test_a_text_stream_is_refused() -> None:
    with pytest.raises(InvalidAudio, match="open it in binary mode"):
        decode(as_stream(io.StringIO("text")))


def test_names_that_would_break_a_line_or_a_terminal_are_escaped(tmp_path: Path) -> None:
    for name, shown in ((b"two\nlines.wav", "two\\nlines.wav"), (b"latin\xf1.wav", "latin\\xf1.wav")):
        path = Path(str(tmp_path), name.decode("utf-8", "surrogateescape"))
        with pytest.raises(NotFound) as caught:
            decode(path)
        assert shown in str(caught.value)
        path.write_bytes(wav(noise(1000)))
        assert decode(path).duration_s == 1000 / 16_000


def test_files_are_closed_whatever_happens(tmp_path: Path) -> None:
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("this system does not list open files in /proc")
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    good.write_bytes(wav(noise(1000)))
    bad.write_bytes(wav(noise(1000))[:30])
    before = len(list(handles.iterdir()))
    for _ in range(5):
        decode(good)
        with pytest.raises(InvalidAudio):
            decode(bad)
        with pytest.raises(InvalidAudio):
            decode(good, channels=ChannelPolicy.parse("right"))
        with pytest.raises(NotFound):
            decode(tmp_path / "none.wav")
    assert len(list(handles.iterdir())) == before


# Memory


def peak_megabytes(path: Path) -> float:
    program = (
        "import resource, sys; from pathlib import Path;"
        "from indexer.audio.decode import ChannelPolicy, open_audio; from indexer.settings import AudioSettings\n"
        "with open_audio(Path(sys.argv[1]), channels=ChannelPolicy.parse('mix'), limits=AudioSettings()) as reader:\n"
        "    for block in reader.blocks(): assert block.shape[1] <= 480_000\n"
        "    assert reader.issues == ()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_memory_does_not_grow_with_the_recording(container: str, tmp_path: Path) -> None:
    minute = noise(60 * 8_000)

    def write(path: Path, minutes: int) -> Path:
        subtype = "ULAW" if container == "WAV" else "PCM_16"
        with soundfile.SoundFile(path, "w", 8_000, 1, subtype, format=container) as file:
            for _ in range(minutes):
                file.write(minute)
        return path

    short = peak_megabytes(write(tmp_path / "short", 2))
    long = peak_megabytes(write(tmp_path / "long", 40))  # 154 MB of float32 at 16 kHz
    assert long - short < 30


def test_reader_is_what_open_audio_gives() -> None:
    def rates(readers: Iterator[AudioReader]) -> list[int]:
        return [reader.info.sample_rate_hz for reader in readers]

    with open_audio(wav(noise(100), 8_000), channels=MIX, limits=AudioSettings(), name="call 7") as reader:
        assert rates(iter([reader])) == [8_000]
        assert (reader.info.name, reader.info.container, reader.info.codec) == ("call 7", "wav", "double")
        assert (reader.info.channels, reader.info.decoder, reader.tracks) == (1, "soundfile", 1)
        assert reader.info.declared_duration_s == pytest.approx(100 / 8_000)
