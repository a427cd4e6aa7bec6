"""Plain WAV files: told and read as libsndfile does, and left to it where anything is odd."""

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import indexer.audio.decode
from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import AudioInfo, AudioSource, open_audio
from indexer.audio.meter import Levels
from indexer.audio.plain_wav import plain_layout
from indexer.settings import AudioSettings

EACH = ChannelPolicy.parse("each")


def written(frames: int, channels: int = 1, rate: int = 16_000, seed: int = 0) -> bytes:
    """Write steps of 16 bits from end to end of their range, as the standard library does."""
    steps = np.random.default_rng(seed).integers(-32_768, 32_768, (frames, channels)).astype("<i2")
    steps.ravel()[:2] = (-32_768, 32_767)[: steps.size]
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(steps.tobytes())
    return file.getvalue()


def read(source: AudioSource) -> tuple[AudioInfo, Levels, tuple[str, ...], list[NDArray[np.float32]]]:
    with open_audio(source, channels=EACH, limits=AudioSettings(), name="a.wav") as reader:
        blocks = list(reader.blocks())
        return reader.info, reader.levels, reader.issues, blocks


@pytest.mark.parametrize("frames", [2, 160, 32_767, 32_768, 32_769, 100_001])
@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 8_000), (5, 44_100)])
def test_samples_and_all_that_is_told_are_those_of_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frames: int, channels: int, rate: int
) -> None:
    content = written(frames, channels, rate)
    assert plain_layout(content[:100], len(content)) == (frames, channels, rate)
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    plain = [read(content), read(path)]
    monkeypatch.setattr(indexer.audio.decode, "plain_layout", lambda head, size: None)
    for info, levels, issues, blocks in plain:
        expected = read(content)
        assert (info, levels, issues) == expected[:3]
        assert len(blocks) == len(expected[3])
        assert all(np.array_equal(*pair) for pair in zip(blocks, expected[3], strict=True))


def test_the_library_is_not_asked_for_a_plain_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(indexer.audio.decode, "SoundfileReader")
    assert read(written(16_000))[3][0].shape == (1, 16_000)


@pytest.mark.parametrize(
    ("place", "layout", "value"),
    [
        (4, "<I", 8),  # what the whole file is said to hold
        (16, "<I", 18),  # bytes of the format
        (20, "<H", 3),  # floating point
        (22, "<H", 0),  # channels
        (24, "<I", 0),  # rate
        (28, "<I", 1),  # bytes a second
        (32, "<H", 4),  # bytes of a frame
        (34, "<H", 24),  # bits
        (36, "<4s", b"LIST"),
        (40, "<I", 0),  # bytes of sound: written to a pipe
        (40, "<I", 0xFFFFFFFF),
    ],
)
def test_a_header_that_says_anything_else_is_left_to_the_library(place: int, layout: str, value: int | bytes) -> None:
    content = bytearray(written(1_000))
    struct.pack_into(layout, content, place, value)
    assert plain_layout(bytes(content), len(content)) is None


def test_a_file_that_is_longer_or_shorter_than_it_says_is_left_to_the_library() -> None:
    content = written(1_000)
    for other in (content[:-2], content[:-1], content + b"\0\0", content[:44], content[:20]):
        assert plain_layout(other[:100], len(other)) is None


def test_a_file_that_became_shorter_meanwhile_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(written(40_000))
    with open_audio(path, channels=EACH, limits=AudioSettings()) as reader:
        path.write_bytes(written(40_000)[: 44 + 2 * 10_000 + 1])
        (block,) = reader.blocks()
        assert block.shape == (1, 10_000)
        assert "decoded 0.6 s of the 2.5 s its header claims" in reader.issues[0]
