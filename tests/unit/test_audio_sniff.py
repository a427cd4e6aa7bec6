"""Telling audio by its content: cheap, conservative, and without a decoder or a network library."""

import subprocess
import sys
from pathlib import Path

import pytest

from indexer.audio.sniff import looks_like_audio, mpeg_frame_bytes, sniff_container

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"RIFF\x24\x00\x00\x00AVI LIST", "avi"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", None),
        (b"FORM\x00\x00\x00\x24AIFFCOMM", "aiff"),
        (b"FORM\x00\x00\x00\x24ILBMBMHD", None),
        (b"fLaC\x00\x00\x00\x22", "flac"),
        (b"OggS\x00\x02", "ogg"),
        (b"\x00\x00\x00\x20ftypM4A ", "mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86", "matroska"),
        (b"NIST_1A\n   1024\n", "nist"),
        (b"#!AMR\n", "amr"),
        (b"ID3\x04\x00\x00", "id3"),
        (b"%PDF-1.7", None),
        (b"\xff\xfb\x90\x00" + bytes(60), None),  # one MPEG header proves nothing
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_container(head: bytes, container: str | None) -> None:
    assert sniff_container(head) == container


def test_an_mpeg_frame_has_the_length_worked_out_by_hand() -> None:
    # MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 144 * 128000 / 44100 = 417.96 bytes, rounded down, and one of padding.
    assert mpeg_frame_bytes(b"\xff\xfb\x90\x00") == 417
    assert mpeg_frame_bytes(b"\xff\xfb\x92\x00") == 418
    # MPEG-2 layer III, 64 kbit/s, 16 kHz: 72 * 64000 / 16000 = 288 bytes.
    assert mpeg_frame_bytes(b"\xff\xf3\x88\x00") == 288
    assert mpeg_frame_bytes(b"\xff\xff\xff\xff") is None


def test_two_mpeg_frames_in_a_row_are_mp3() -> None:
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    assert sniff_container(frame + frame) == "mp3"


def test_an_archive_is_sifted_by_name_or_content(tmp_path: Path) -> None:
    contents = {
        "talk.MP3": (b"anything", True),
        "clip.mov": (b"anything", True),
        "no-extension": (b"fLaC\x00\x00\x00\x22", True),
        "notes.txt": (b"fLaC is a format", True),  # it claims to be FLAC; decoding will tell
        "manifest.csv": (b"path,speaker\n", False),
        "code.ts": (b"export const a = 1\n", False),
        "empty": (b"", False),
    }
    for name, (data, expected) in contents.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert looks_like_audio(path) is expected, name
    (tmp_path / "folder").mkdir()
    assert not looks_like_audio(tmp_path / "folder")
    assert not looks_like_audio(tmp_path / "missing")


def test_decoding_loads_no_torch() -> None:
    program = (
        "import indexer.audio.decode, sys; print([m for m in ('torch', 'faiss', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
