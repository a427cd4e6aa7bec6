"""How far every format moves a voice: `python -m tests.reports.formats RECORDING`.

The recording is converted into each format that the tests know and, where ffmpeg is on the PATH, by ffmpeg too; each
copy is embedded through the same code as a user's file, and its cosine to the original is printed: what the format
costs. Beside it, the cosine to the same copy decoded by ffmpeg: what our decoding costs, which should be nothing.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from api.comparison import Comparison
from api.dependencies import Services
from indexer.audio.decode import decode
from indexer.errors import VoxdexError
from indexer.settings import load_settings
from indexer.types import SAMPLE_RATE_HZ
from tests.formats.audio_samples import FORMATS

FFMPEG: dict[str, tuple[str, ...]] = {
    "u8.wav": ("-c:a", "pcm_u8"),
    "s16.wav": ("-c:a", "pcm_s16le"),
    "s24.wav": ("-c:a", "pcm_s24le"),
    "s32.wav": ("-c:a", "pcm_s32le"),
    "f32.wav": ("-c:a", "pcm_f32le"),
    "f64.wav": ("-c:a", "pcm_f64le"),
    "alaw-8k.wav": ("-ar", "8000", "-c:a", "pcm_alaw"),
    "alaw-16k.wav": ("-c:a", "pcm_alaw"),
    "mulaw-8k.wav": ("-ar", "8000", "-c:a", "pcm_mulaw"),
    "mulaw-16k.wav": ("-c:a", "pcm_mulaw"),
    "ima-adpcm.wav": ("-c:a", "adpcm_ima_wav"),
    "ms-adpcm.wav": ("-c:a", "adpcm_ms"),
    "gsm-8k.wav": ("-ar", "8000", "-c:a", "libgsm_ms"),
    "a.flac": (),
    "vorbis.ogg": ("-c:a", "libvorbis"),
    "opus.ogg": ("-c:a", "libopus"),
    "opus-24k.opus": ("-c:a", "libopus", "-b:a", "24k"),
    "a.mp3": (),
    "64k.mp3": ("-b:a", "64k"),
    "a.m4a": (),
    "a.mp4": (),
    "a.aac": (),
    "a.webm": (),
    "a.aiff": (),
    "a.au": (),
    "a.caf": (),
    **{f"{rate}.wav": ("-ar", str(rate)) for rate in (8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000)},
    "stereo.wav": ("-ac", "2"),
    "six-channels.flac": ("-ac", "6"),
    "half-band-8k.flac": ("-ar", "8000"),
}


def copies(recording: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every copy with what made it."""
    samples = decode(recording).waveforms[0].astype(np.float64)
    for kind, (name, rate, write) in FORMATS.items():
        path = folder / kind / name
        path.parent.mkdir()
        try:
            write(path, soxr.resample(samples, SAMPLE_RATE_HZ, rate, quality="HQ").clip(-1, 1), rate)
        except Exception as error:  # An encoder that this machine lacks is no finding about decoding.
            sys.stdout.write(f"{kind:24} cannot be written here: {error}\n")
            continue
        yield kind, path
    if shutil.which("ffmpeg"):
        for name, options in FFMPEG.items():
            path = folder / f"ffmpeg-{name}"
            command = ["ffmpeg", "-v", "error", "-i", str(recording), *options, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.stdout.write(f"ffmpeg {name:17} cannot be written here: {done.stderr.strip().splitlines()[-1]}\n")
            else:
                yield f"ffmpeg {name}", path


def decoded_by_ffmpeg(comparison: Comparison, path: Path) -> NDArray[np.float32] | None:
    """Embed what ffmpeg makes of the copy; None where ffmpeg is missing or cannot read it."""
    wav = path.with_name(f"{path.name}.decoded.wav")
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(path), "-c:a", "pcm_f32le", str(wav)]
    if not shutil.which("ffmpeg") or subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    return comparison.probe(wav)[0].vector


def main() -> None:
    """Print a line for each copy, and the lowest cosine of those that keep the whole band."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    recording: Path = parser.parse_args().recording
    wide: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory(prefix="voxdex-formats-") as folder:
        services = Services(load_settings())
        comparison = services.comparison(None)
        (original,) = comparison.probe(recording)
        for kind, path in copies(recording, Path(folder)):
            try:
                (probe,) = comparison.probe(path)
            except VoxdexError as error:
                sys.stdout.write(f"{kind:24} {error.code}: {error}\n")
                continue
            cosine = float(probe.vector @ original.vector)
            narrow = probe.info.sample_rate_hz == 8000 or "8k" in kind
            if not narrow:
                wide.append((cosine, kind))
            peer = decoded_by_ffmpeg(comparison, path)
            beside = "" if peer is None else f"{float(probe.vector @ peer):.4f}"
            notes = (["8 kHz"] if narrow else []) + list(probe.issues)
            sys.stdout.write(
                f"{kind:24} {cosine:.4f} {beside:7} {probe.info.decoder:9} {probe.info.sample_rate_hz:6} Hz "
                f"{probe.duration_s:7.3f} s  {'; '.join(notes)}\n"
            )
        services.close()
    sys.stdout.write(f"{len(wide)} copies with the whole band: lowest cosine {min(wide)[0]:.4f} ({min(wide)[1]})\n")


if __name__ == "__main__":
    main()
