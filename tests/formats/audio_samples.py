"""Synthetic recordings, and files of every format made from them by encoders that the product's own wheels carry."""

import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import soundfile
from numpy.typing import NDArray

Signal = NDArray[np.float64]


class CannotEncodeError(Exception):
    """No encoder here writes this format; the test skips with the reason."""


def speech_like(duration_s: float, sample_rate_hz: int = 16_000, seed: int = 0) -> Signal:
    """Make (N,) samples that move like speech: a gliding voice with formants, syllables, pauses and a little breath.

    The band ends near 3.3 kHz, so that telephone codecs keep the whole of it.
    """
    rng = np.random.default_rng(seed)
    count = round(duration_s * sample_rate_hz)
    t = np.arange(count) / sample_rate_hz
    pitch_hz = 120 + 25 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6)) + 10 * np.sin(2 * np.pi * 2.3 * t)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate_hz
    voice = np.zeros(count)
    for formant_hz, width_hz, gain in ((600, 200, 1.0), (1300, 250, 0.5), (2500, 300, 0.25)):
        center = formant_hz * (1 + 0.15 * np.sin(2 * np.pi * 1.9 * t + rng.uniform(0, 6)))
        for harmonic in range(1, 24):
            level = np.exp(-0.5 * ((harmonic * pitch_hz - center) / width_hz) ** 2)
            voice += gain * level * (harmonic * pitch_hz < min(3300, 0.42 * sample_rate_hz)) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t + rng.uniform(0, 6)) + 0.4, 0, 1) ** 0.5
    samples = voice * syllables
    return 0.5 * samples / max(1e-9, float(np.abs(samples).max())) + 0.0005 * rng.standard_normal(count)


def stereo(left: Signal, right: Signal) -> Signal:
    """Put two signals side by side: (N, 2)."""
    return np.stack([left, right], axis=1)


def write_with_soundfile(path: Path, samples: Signal, rate: int, container: str, subtype: str) -> None:
    soundfile.write(path, samples, rate, format=container, subtype=subtype)


def write_with_pyav(
    path: Path, samples: Signal, rate: int, container: str, codec: str, options: dict[str, str] | None = None
) -> None:
    """Encode (N,) or (N, C) samples; raises CannotEncodeError where this FFmpeg build has no such encoder."""
    try:
        chosen = av.codec.Codec(codec, "w")
    except ValueError as error:  # av.codec.UnknownCodecError
        raise CannotEncodeError(f"PyAV's FFmpeg has no encoder {codec}") from error
    columns = samples.reshape(len(samples), -1)
    layout = {1: "mono", 2: "stereo"}[columns.shape[1]]
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        try:
            stream: Any = output.add_stream(codec, rate=rate, layout=layout)
            stream.codec_context.format = (chosen.audio_formats or [av.AudioFormat("s16")])[0]
            stream.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            raise CannotEncodeError(f"PyAV cannot encode {codec} at {rate} Hz ({error})") from error
        source = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(columns.astype(np.float32).reshape(1, -1)), format="flt", layout=layout
        )
        source.sample_rate = rate
        source.time_base = Fraction(1, rate)
        source.pts = 0
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate, frame_size=size)
        for frame in [*resampler.resample(source), *resampler.resample(None)]:
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_with_ffmpeg(path: Path, samples: Signal, rate: int, *options: str) -> None:
    """Encode with the `ffmpeg` program, for what PyAV's build cannot; raises CannotEncodeError without it."""
    try:
        program = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:  # the wheel of this platform carries none
        raise CannotEncodeError("no ffmpeg program on the PATH") from error
    source = path.with_suffix(".source.wav")
    soundfile.write(source, samples, rate, subtype="PCM_16")
    command = [program, "-nostdin", "-v", "error", "-y", "-i", str(source), *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    source.unlink()
    if done.returncode:
        raise CannotEncodeError(f"ffmpeg cannot encode {' '.join(options)}: {done.stderr.strip()[:200]}")


def shorten(samples: NDArray[np.int16], bits: int = 11, block: int = 256) -> bytes:
    """Compress (N,) samples as Shorten version 2, with its plainest predictor (Robinson, CUED/F-INFENG/TR.156, 1994).

    Every number is in Rice code: the high bits as so many zeros and a one, then `width` low bits.
    """
    out: list[str] = []

    def put(value: int, width: int) -> None:
        low = format(value & (1 << width) - 1, f"0{width}b") if width else ""
        out.append("0" * (value >> width) + "1" + low)

    def put_field(value: int) -> None:
        put(value.bit_length(), 2)
        put(value, value.bit_length())

    for field in (5, 1, block, 0, 0, 0):  # 16-bit little-endian, channels, block size, no prediction, means or skips
        put_field(field)
    for start in range(0, len(samples), block):
        piece = samples[start : start + block]
        if len(piece) < block:
            put(5, 2)  # a block of another size
            put_field(len(piece))
        put(0, 2)  # the samples as they are
        put(bits, 3)
        for sample in piece.tolist():
            put(sample << 1 if sample >= 0 else (~sample << 1) | 1, bits + 1)
    put(4, 2)  # the end
    stream = "".join(out)
    stream += "0" * (-len(stream) % 32)
    return b"ajkg\x02" + int(stream, 2).to_bytes(len(stream) // 8, "big")


def write_nist_shorten(path: Path, samples: Signal, rate: int) -> None:
    """Write the compressed SPHERE of older speech corpora."""
    fields = (
        f"sample_count -i {len(samples)}\nsample_rate -i {rate}\nchannel_count -i 1\nsample_n_bytes -i 2\n"
        "sample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    header = f"NIST_1A\n   1024\n{fields}".encode("ascii").ljust(1024)
    path.write_bytes(header + shorten((samples * 32767).astype(np.int16)))


def _sf(container: str, subtype: str) -> Callable[[Path, Signal, int], None]:
    return lambda path, samples, rate: write_with_soundfile(path, samples, rate, container, subtype)


def _av(container: str, codec: str, **options: str) -> Callable[[Path, Signal, int], None]:
    return lambda path, samples, rate: write_with_pyav(path, samples, rate, container, codec, options)


def _ff(*options: str) -> Callable[[Path, Signal, int], None]:
    return lambda path, samples, rate: write_with_ffmpeg(path, samples, rate, *options)


# kind: (file name, sampling rate of the file, writer)
FORMATS: dict[str, tuple[str, int, Callable[[Path, Signal, int], None]]] = {
    "wav-u8": ("a.wav", 16_000, _sf("WAV", "PCM_U8")),
    "wav-s16": ("a.wav", 16_000, _sf("WAV", "PCM_16")),
    "wav-s24": ("a.wav", 16_000, _sf("WAV", "PCM_24")),
    "wav-s32": ("a.wav", 16_000, _sf("WAV", "PCM_32")),
    "wav-f32": ("a.wav", 16_000, _sf("WAV", "FLOAT")),
    "wav-f64": ("a.wav", 16_000, _sf("WAV", "DOUBLE")),
    "wav-extensible": ("a.wav", 44_100, _sf("WAVEX", "PCM_24")),
    "wav-a-law": ("a.wav", 8_000, _sf("WAV", "ALAW")),
    "wav-mu-law": ("a.wav", 8_000, _sf("WAV", "ULAW")),
    "wav-ima-adpcm": ("a.wav", 16_000, _sf("WAV", "IMA_ADPCM")),
    "wav-ms-adpcm": ("a.wav", 16_000, _sf("WAV", "MS_ADPCM")),
    "wav-gsm": ("a.wav", 8_000, _sf("WAV", "GSM610")),
    "wav-mp3": ("a.wav", 16_000, _av("wav", "libmp3lame")),
    "rf64": ("a.wav", 16_000, _sf("RF64", "PCM_16")),
    "w64": ("a.w64", 16_000, _sf("W64", "PCM_16")),
    "flac": ("a.flac", 48_000, _sf("FLAC", "PCM_16")),
    "flac-24": ("a.flac", 96_000, _sf("FLAC", "PCM_24")),
    "ogg-vorbis": ("a.ogg", 16_000, _sf("OGG", "VORBIS")),
    "ogg-opus": ("a.opus", 48_000, _sf("OGG", "OPUS")),
    "ogg-opus-8k": ("a.opus", 8_000, _sf("OGG", "OPUS")),
    "ogg-opus-pyav": ("a.opus", 48_000, _av("ogg", "libopus")),
    "ogg-flac": ("a.oga", 16_000, _av("ogg", "flac")),
    "mp3": ("a.mp3", 44_100, _sf("MP3", "MPEG_LAYER_III")),
    "mp3-pyav": ("a.mp3", 16_000, _av("mp3", "libmp3lame")),
    "mp3-8k": ("a.mp3", 8_000, _av("mp3", "libmp3lame")),
    "mp3-no-tag": ("a.mp3", 16_000, _av("mp3", "libmp3lame", write_xing="0", id3v2_version="0")),
    "mp2": ("a.mp2", 16_000, _av("mp2", "mp2")),
    "ac3": ("a.ac3", 48_000, _av("ac3", "ac3")),
    "eac3": ("a.eac3", 48_000, _av("eac3", "eac3")),
    "m4a": ("a.m4a", 44_100, _av("ipod", "aac")),
    "m4a-faststart": ("a.m4a", 16_000, _av("ipod", "aac", movflags="+faststart")),
    "m4a-alac": ("a.m4a", 16_000, _av("ipod", "alac")),
    "mp4": ("a.mp4", 48_000, _av("mp4", "aac")),
    "aac-adts": ("a.aac", 16_000, _av("adts", "aac")),
    "webm-opus": ("a.webm", 48_000, _av("webm", "libopus")),
    "webm-vorbis": ("a.webm", 16_000, _ff("-c:a", "libvorbis")),
    "mka-flac": ("a.mka", 16_000, _av("matroska", "flac")),
    "aiff": ("a.aiff", 44_100, _sf("AIFF", "PCM_16")),
    "aiff-f32": ("a.aif", 16_000, _sf("AIFF", "FLOAT")),
    "au": ("a.au", 8_000, _sf("AU", "ULAW")),
    "caf": ("a.caf", 16_000, _sf("CAF", "PCM_24")),
    "nist-pcm": ("a.sph", 16_000, _sf("NIST", "PCM_16")),
    "nist-mu-law": ("a.sph", 8_000, _sf("NIST", "ULAW")),
    "nist-shorten": ("a.sph", 16_000, write_nist_shorten),
    "amr-nb": ("a.amr", 8_000, _av("amr", "libopencore_amrnb")),
    "amr-nb-3gp": ("a.3gp", 8_000, _av("3gp", "libopencore_amrnb")),
    "wma": ("a.wma", 44_100, _ff("-c:a", "wmav2")),
    "mpeg-ts": ("a.m2ts", 48_000, _av("mpegts", "aac")),
    "avi": ("a.avi", 16_000, _av("avi", "pcm_s16le")),
    "wavpack": ("a.wv", 16_000, _av("wv", "wavpack")),
    "tta": ("a.tta", 44_100, _av("tta", "tta")),
    "flv": ("a.flv", 44_100, _av("flv", "libmp3lame")),
}
"""Every format that must decode."""


def write_format(kind: str, folder: Path, duration_s: float = 3.0, seed: int = 0) -> tuple[Path, Signal, int]:
    """Write one recording in one format; gives the path, the (N,) original and its rate."""
    name, rate, write = FORMATS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    samples = speech_like(duration_s, rate, seed)
    write(path, samples, rate)
    return path, samples, rate
