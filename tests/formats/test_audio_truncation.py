"""A recording that was cut off is refused or says that it is partial; a whole one with something behind it is whole."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from indexer.audio.decode import decode
from indexer.audio.endings import find_cut
from indexer.audio.sniff import mpeg_frame_bytes
from indexer.errors import CorruptAudio
from tests.conftest import unavailable
from tests.formats.audio_samples import FORMATS, CannotEncodeError, speech_like, write_format, write_with_pyav

EXEMPT: dict[str, str] = {}
"""Formats whose truncation in the middle of a frame cannot be noticed, and why. There is none."""

FRAMED = ("mp3-no-tag", "mp2", "aac-adts", "amr-nb", "ac3", "eac3", "mpeg-ts")
"""Streams of frames that state no length of the whole."""


def encoded(kind: str, folder: Path, duration_s: float = 3.0) -> bytes:
    try:
        return write_format(kind, folder, duration_s)[0].read_bytes()
    except CannotEncodeError as error:
        unavailable(str(error))


def outcome(data: bytes) -> str:
    """Give the issues, or the error; empty where the recording passes for whole."""
    try:
        return "; ".join(decode(data).issues)
    except CorruptAudio as error:
        return str(error)


def apev2() -> bytes:
    """Make an APEv2 tag by hand: header, one item, footer."""
    item = struct.pack("<II", 5, 0) + b"Title\x00hello"
    return b"".join(
        b"APETAGEX" + struct.pack("<IIII8x", 2000, len(item) + 32, 1, flags) + rest
        for flags, rest in ((0xA000_0000, item), (0x8000_0000, b""))
    )


def wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, speech_like(1.0), 16_000, "PCM_16", format="WAV")
    return buffer.getvalue()


LYRICS = b"LYRICSBEGININD0000200LYR00005hello000034LYRICS200"
TAILS = {
    "ID3v1": b"TAG" + bytes(125),
    "APEv2": apev2(),
    "Lyrics3 and ID3v1": LYRICS + b"TAG" + bytes(125),
    "zeros": bytes(3001),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_recording_of_any_format_that_was_cut_off_does_not_pass_for_whole(kind: str, tmp_path: Path) -> None:
    data = encoded(kind, tmp_path)
    for part in (0.6, 0.95):
        found = outcome(data[: int(len(data) * part) | 1])  # an odd offset: in the middle of a sample or a packet
        assert found or kind in EXEMPT, part


@pytest.mark.parametrize("kind", FRAMED)
def test_a_stream_that_ends_inside_its_last_frame_says_so(kind: str, tmp_path: Path) -> None:
    data = encoded(kind, tmp_path, 1.0)
    for lost in (1, 3, 25):
        assert "that it ends in the middle of a" in outcome(data[:-lost]), lost


@pytest.mark.parametrize("kind", ["mp3-no-tag", "mp2", "aac-adts", "ac3", "eac3"])
@pytest.mark.parametrize("tail", TAILS)
def test_a_tag_or_zeros_behind_a_stream_are_no_truncation(kind: str, tail: str, tmp_path: Path) -> None:
    assert decode(encoded(kind, tmp_path, 1.0) + TAILS[tail]).issues == ()


@pytest.mark.parametrize("kind", ["wav-ms-adpcm", "wav-ima-adpcm", "wav-gsm"])
def test_a_wav_file_that_ends_inside_a_block_of_its_codec_says_so(kind: str, tmp_path: Path) -> None:
    assert "truncated" in outcome(encoded(kind, tmp_path)[:-3])


def test_zeros_behind_amr_are_no_truncation(tmp_path: Path) -> None:
    assert decode(encoded("amr-nb", tmp_path, 1.0) + bytes(3001)).issues == ()


def test_a_frame_that_a_tag_cuts_short_is_noticed(tmp_path: Path) -> None:
    data = encoded("mp3-no-tag", tmp_path, 1.0)
    for tail in ("ID3v1", "APEv2", "Lyrics3 and ID3v1"):
        assert "in the middle of a frame" in outcome(data[:-30] + TAILS[tail]), tail


def test_a_cut_between_two_frames_leaves_no_trace(tmp_path: Path) -> None:
    # The limit that docs/audio.md names: the bytes are those of a shorter recording.
    data = encoded("mp3-no-tag", tmp_path)
    at = 0
    while at < len(data) * 0.6:
        at += mpeg_frame_bytes(data[at:]) or 1
    assert decode(data[:at]).issues == ()


def test_the_end_of_a_long_stream_is_found_without_reading_its_beginning(tmp_path: Path) -> None:
    data = encoded("mp3-no-tag", tmp_path) * 60
    assert len(data) > 2 * (1 << 18)
    assert find_cut(io.BytesIO(data), len(data), "mp3") is None
    assert find_cut(io.BytesIO(data[:-7]), len(data) - 7, "mp3") == "that it ends in the middle of a frame"


def test_a_live_webm_without_any_length_is_whole_until_it_ends_inside_a_block(tmp_path: Path) -> None:
    path = tmp_path / "live.webm"
    write_with_pyav(path, speech_like(2.0, 48_000), 48_000, "webm", "libopus", {"live": "1"})
    data = path.read_bytes()
    assert decode(data).issues == ()
    assert "in the middle of a block" in outcome(data[: int(len(data) * 0.6)])


def test_a_long_wavpack_file_gives_what_is_left_of_it(tmp_path: Path) -> None:
    data = encoded("wavpack", tmp_path, 12.0)
    audio = decode(data[: int(len(data) * 0.6)])
    assert 1 < audio.duration_s < 11
    assert "of the 12.0 s its header claims" in audio.issues[-1]


@pytest.mark.parametrize("kind", ["wavpack", "tta", "m4a", "mka-flac", "flv", "wma", "avi"])
def test_a_tag_behind_a_container_is_no_truncation(kind: str, tmp_path: Path) -> None:
    assert decode(encoded(kind, tmp_path) + TAILS["ID3v1"]).issues == ()


def test_a_second_flac_file_behind_the_first_is_mentioned(tmp_path: Path) -> None:
    data = encoded("flac", tmp_path, 1.0)
    joined = tmp_path / "joined.flac"
    joined.write_bytes(data + data)
    for source in (joined, joined.read_bytes()):
        assert decode(source).issues == ("another FLAC recording follows in the same file and was not decoded",)


def test_headers_that_lie_about_frames_end_the_look_quietly() -> None:
    for container, data in {
        "tta": b"TTA1" + bytes(200),
        "mp4": b"\x00\x00\x00\x08free" * 1000,
        "matroska": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + bytes(50),
        "asf": bytes(16) + b"\x00" * 50,
        "amr": b"#!AMR\n" + b"\xff" * 50,
        "mp3": b"\xff\xfb" * 5000,
        "flv": b"FLV\x01\x05\xff\xff\xff\xff",
        "mpeg-ts": b"no packet" * 100,
    }.items():
        assert find_cut(io.BytesIO(data), len(data), container) is None, container


@pytest.mark.parametrize(("bits", "channels"), [(3, 1), (8, 1), (32, 1), (16, 2)])
def test_a_wav_header_whose_samples_do_not_fit_their_bytes_is_refused_and_not_decoded_as_noise(
    bits: int, channels: int
) -> None:
    data = bytearray(wav())
    data[22:24], data[34:36] = struct.pack("<H", channels), struct.pack("<H", bits)
    with pytest.raises(CorruptAudio, match=f"claims samples of {bits} bits, {channels} of them in 2 bytes; export it"):
        decode(bytes(data))


@pytest.mark.parametrize("place", [slice(28, 32), slice(32, 34)])
def test_one_wrong_statement_about_bytes_in_a_wav_header_changes_nothing(place: slice) -> None:
    whole = wav()
    data = bytearray(whole)
    data[place] = bytes(b"\x03\x01\x00\x00"[: place.stop - place.start])
    assert np.array_equal(decode(bytes(data)).waveforms, decode(whole).waveforms)
