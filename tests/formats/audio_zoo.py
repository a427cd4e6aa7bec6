"""Generates broken, hostile and merely odd recordings, each with what decoding it must come to."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from indexer.errors import (
    AudioTooLarge,
    CorruptAudio,
    InvalidAudio,
    NotFound,
    SilentAudio,
    UnsupportedFormat,
    VoxdexError,
)
from tests.formats.audio_samples import Signal, speech_like, stereo, write_format

Outcome = type[VoxdexError] | Literal["partial", "ok"]
"""The error (or one of its subclasses), a result that says it is partial, or a complete result."""

RATE = 16_000


def wav_bytes(samples: Signal, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    """Make a WAV file in memory."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def raw_wav(
    data: bytes, *, channels: int = 1, rate: int = RATE, bits: int = 16, claimed: int | None = None, tag: int = 1
) -> bytes:
    """Make a WAV file by hand, with any header at all."""
    align = min(0xFFFF, channels * bits // 8)
    fmt = struct.pack("<HHIIHH", tag, channels, rate & 0xFFFFFFFF, rate * align & 0xFFFFFFFF, align, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(0xFFFFFFFF, 28 + 8 + size)) + body


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")
    )


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.wav", wav_bytes(speech_like(0.5)))
    return buffer.getvalue()


def _with(samples: Signal, at: int, value: float) -> Signal:
    changed = samples.copy()
    changed[at] = value
    return changed


def _id3_only() -> bytes:
    return b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)


def _flac_with_frames(flac: bytes, frames: int) -> bytes:
    """Rewrite STREAMINFO's 36-bit count of samples."""
    packed = int.from_bytes(flac[18:26], "big")
    packed = packed >> 36 << 36 | frames
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


def build_zoo(folder: Path) -> dict[str, tuple[Path, Outcome]]:
    """Write every kind into the folder, and say what each must come to under the default limits.

    Kinds that one system cannot make (a pipe, unreadable files for the superuser) are left out there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    voice = speech_like(4.0)
    pcm = (voice * 32767).astype("<i2").tobytes()
    wav = wav_bytes(voice)
    rng = np.random.default_rng(1)
    noise_bytes = rng.integers(0, 256, 200_000, dtype=np.uint8).tobytes()
    encoded = {
        kind: write_format(kind, folder / "sources" / kind, 4.0)[0].read_bytes()
        for kind in (
            "mp3-pyav",
            "mp3-no-tag",
            "flac",
            "ogg-vorbis",
            "ogg-opus",
            "m4a",
            "m4a-faststart",
            "webm-opus",
            "aiff",
            "aac-adts",
            "nist-pcm",
            "wav-gsm",
            "w64",
        )
    }
    mp3, flac, fast = encoded["mp3-pyav"], encoded["flac"], encoded["m4a-faststart"]
    damaged = bytearray(mp3)
    damaged[len(mp3) // 3 : len(mp3) * 2 // 3] = noise_bytes[: len(mp3) * 2 // 3 - len(mp3) // 3]
    buzz = 0.3 * np.sin(np.arange(4 * RATE) / 9)
    kinds: dict[str, tuple[str, bytes, Outcome]] = {
        # nothing, or nothing audible
        "empty": ("empty.wav", b"", CorruptAudio),
        "one byte": ("one.wav", b"R", UnsupportedFormat),
        "header only": ("header.wav", raw_wav(b""), CorruptAudio),
        "half a header": ("half.wav", wav[:20], CorruptAudio),
        "header that claims samples it lacks": ("claims.wav", raw_wav(b"", claimed=320_000), CorruptAudio),
        "flac header only": ("header.flac", flac[:42], CorruptAudio),
        "ogg first page only": ("first.ogg", encoded["ogg-vorbis"][:58], CorruptAudio),
        "silent": ("silent.wav", wav_bytes(np.zeros(3 * RATE)), SilentAudio),
        "dither": ("dither.wav", wav_bytes(rng.choice([-1, 0, 1], 3 * RATE) / 32768), SilentAudio),
        "constant offset": ("offset.wav", wav_bytes(np.full(3 * RATE, 0.25)), SilentAudio),
        "channels that cancel": ("cancel.wav", wav_bytes(stereo(buzz, -buzz), subtype="DOUBLE"), SilentAudio),
        # no numbers
        "nan": ("nan.wav", wav_bytes(_with(voice, 20_000, np.nan), subtype="FLOAT"), CorruptAudio),
        "infinity": ("inf.wav", wav_bytes(_with(voice, 63_999, np.inf), subtype="FLOAT"), CorruptAudio),
        "absurd value": ("huge.wav", wav_bytes(_with(voice, 0, 1e30), subtype="FLOAT"), CorruptAudio),
        # not audio
        "text": ("text.wav", b"This is no recording.\n" * 400, UnsupportedFormat),
        "text named mp3": ("text.mp3", b"This is no recording.\n" * 400, UnsupportedFormat),
        "pdf": ("paper.mp3", b"%PDF-1.7\n" + noise_bytes[:5000] + b"\n%%EOF\n", UnsupportedFormat),
        "zip": ("archive.flac", _zip(), UnsupportedFormat),
        "png": ("picture.ogg", _png(), UnsupportedFormat),
        "random bytes": ("random.aac", noise_bytes, UnsupportedFormat),
        "zeros": ("zeros.wav", bytes(100_000), UnsupportedFormat),
        "a tag and nothing else": ("tag.mp3", _id3_only(), CorruptAudio),
        "playlist that opens a file": (
            "list.m3u8",
            b"#EXTM3U\n#EXTINF:1,\nok.wav\n#EXT-X-ENDLIST\n",
            UnsupportedFormat,
        ),
        "list of files to join": ("list.ffconcat", b"ffconcat version 1.0\nfile 'ok.wav'\n", UnsupportedFormat),
        # misnamed: content decides
        "wav named mp3": ("wave.mp3", wav, "ok"),
        "mp3 named wav": ("mpeg.wav", mp3, "ok"),
        "flac named txt": ("free.txt", flac, "ok"),
        "m4a without a name": ("nameless", encoded["m4a"], "ok"),
        # absurd headers
        "claims 10^9 frames": ("billion.wav", raw_wav(pcm, claimed=2_000_000_000), "partial"),
        "flac that claims 2^36 frames": ("many.flac", _flac_with_frames(flac, (1 << 36) - 1), "partial"),
        "65535 channels": ("channels.wav", raw_wav(pcm, channels=65_535), AudioTooLarge),
        "0 channels": ("none.wav", raw_wav(pcm, channels=0), CorruptAudio),
        "rate 0": ("rate0.wav", raw_wav(pcm, rate=0), CorruptAudio),
        "rate 4 GHz": ("rate4g.wav", raw_wav(pcm, rate=4_000_000_000), UnsupportedFormat),
        "rate 1 Hz": ("rate1.wav", raw_wav(pcm, rate=1), UnsupportedFormat),
        "0 bits": ("bits0.wav", raw_wav(pcm, bits=0), InvalidAudio),
        "unknown codec": ("codec.wav", raw_wav(pcm, tag=0x7777), InvalidAudio),
        # cut off
        "truncated wav": ("cut.wav", wav[: len(wav) * 3 // 5], "partial"),
        "truncated w64": ("cut.w64", encoded["w64"][: len(encoded["w64"]) // 2], "partial"),
        "truncated gsm": ("cutgsm.wav", encoded["wav-gsm"][: len(encoded["wav-gsm"]) // 2], "partial"),
        "truncated aiff": ("cut.aiff", encoded["aiff"][: len(encoded["aiff"]) // 2], "partial"),
        "truncated sphere": ("cut.sph", encoded["nist-pcm"][: len(encoded["nist-pcm"]) // 2], "partial"),
        "truncated flac": ("cut.flac", flac[: len(flac) // 2], "partial"),
        "truncated ogg vorbis": ("cut.ogg", encoded["ogg-vorbis"][: len(encoded["ogg-vorbis"]) // 2], "partial"),
        "truncated opus": ("cut.opus", encoded["ogg-opus"][: len(encoded["ogg-opus"]) // 2], "partial"),
        "truncated mp3": ("cut.mp3", mp3[: len(mp3) // 2], "partial"),
        "truncated webm": ("cut.webm", encoded["webm-opus"][: len(encoded["webm-opus"]) // 2], "partial"),
        "truncated m4a, index first": ("cutfast.m4a", fast[: len(fast) * 3 // 4], "partial"),
        "truncated m4a, index lost": ("cut.m4a", encoded["m4a"][: len(encoded["m4a"]) // 2], CorruptAudio),
        "mp3 damaged in the middle": ("damaged.mp3", bytes(damaged), "partial"),
        # odd, and whole
        "wav from a pipe (size 2^32 - 1)": ("pipe.wav", raw_wav(pcm, claimed=0xFFFFFFFF), "ok"),
        "wav from a pipe (size 0)": ("pipe0.wav", raw_wav(pcm, claimed=0), "ok"),
        "flac from a pipe (0 samples claimed)": ("pipe.flac", _flac_with_frames(flac, 0), "ok"),
        "mp3 without a tag": ("bare.mp3", encoded["mp3-no-tag"], "ok"),
        "mp3 with a tag at its end": ("tail.mp3", mp3 + b"TAG" + bytes(125), "ok"),
        "adts": ("bare.aac", encoded["aac-adts"], "ok"),
        "plain": ("ok.wav", wav, "ok"),
    }
    zoo: dict[str, tuple[Path, Outcome]] = {}
    for kind, (name, data, outcome) in kinds.items():
        path = folder / name
        path.write_bytes(data)
        zoo[kind] = (path, outcome)
    video = folder / "mute.mkv"
    _write_video_without_sound(video)
    zoo["video without sound"] = (video, UnsupportedFormat)
    zoo |= _odd_paths(folder)
    return zoo


def _write_video_without_sound(path: Path) -> None:
    import av

    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))


def _odd_paths(folder: Path) -> dict[str, tuple[Path, Outcome]]:
    zoo: dict[str, tuple[Path, Outcome]] = {"missing file": (folder / "missing.wav", NotFound)}
    inner = folder / "folder.wav"
    inner.mkdir(exist_ok=True)
    zoo["directory"] = (inner, UnsupportedFormat)
    loop = folder / "loop.wav"
    if not loop.is_symlink():
        loop.symlink_to(loop.name)
    zoo["loop of links"] = (loop, InvalidAudio)
    zoo["link to nothing"] = (folder / "dangling.wav", NotFound)
    if not (folder / "dangling.wav").is_symlink():
        (folder / "dangling.wav").symlink_to("nowhere.wav")
    if hasattr(os, "mkfifo"):
        pipe = folder / "fifo.wav"
        if not pipe.exists():
            os.mkfifo(pipe)
        zoo["pipe that nobody writes to"] = (pipe, UnsupportedFormat)
    if Path("/dev/zero").exists():
        zoo["device"] = (Path("/dev/zero"), UnsupportedFormat)
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        locked = folder / "locked.wav"
        locked.write_bytes(wav_bytes(speech_like(1.0)))
        locked.chmod(0)
        zoo["no permission"] = (locked, InvalidAudio)
    return zoo
