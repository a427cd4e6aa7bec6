"""Copies of labeled speech as it comes in life: `python -m tests.reports.copies FOLDER OUTPUT`.

FOLDER holds a manifest.csv (path, speaker, session, set) and sets `noise` and `rir`. OUTPUT gets WAV files and a
manifest.csv whose column `original` names the recording that each is a copy of. The same folder gives the same bytes.
"""

import argparse
import csv
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import open_audio
from indexer.errors import InvalidAudio
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

TELEPHONE_RATE_HZ = 8_000
MU = 255.0


@dataclass(frozen=True)
class Sounds:
    """What is added to speech."""

    noises: tuple[Waveform, ...]
    rooms: tuple[Waveform, ...]


def cut(speech: Waveform, seconds: float, rng: np.random.Generator) -> Waveform:
    """Return a stretch from anywhere; all of it where it is not longer."""
    samples = round(seconds * SAMPLE_RATE_HZ)
    if len(speech) <= samples:
        return speech
    start = int(rng.integers(0, len(speech) - samples))
    return speech[start : start + samples]


def with_noise(speech: Waveform, noise: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """Add noise, repeated as needed, at this ratio of mean powers."""
    start = int(rng.integers(0, len(noise)))
    behind = np.resize(np.roll(noise, -start), len(speech))
    powers = float(np.mean(speech**2)), float(np.mean(behind**2)) + 1e-12
    mixed = speech + behind * np.sqrt(powers[0] / powers[1] / 10 ** (snr_db / 10))
    return _within_range(mixed)


def in_room(speech: Waveform, response: Waveform) -> Waveform:
    """Let speech sound in the room of an impulse response, at its own level and length."""
    size = len(speech) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)
    wet = wet[int(np.argmax(np.abs(response))) :][: len(speech)]
    return _within_range(wet * np.sqrt(np.mean(speech**2) / (np.mean(wet**2) + 1e-12)))


def over_telephone(speech: Waveform) -> Waveform:
    """Send speech through 300 to 3400 Hz at 8 kHz and 8-bit mu-law, as G.711 does."""
    narrow = soxr.resample(speech, SAMPLE_RATE_HZ, TELEPHONE_RATE_HZ)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE_HZ)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    band = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    compressed = np.sign(band) * np.log1p(MU * np.abs(band)) / np.log1p(MU)
    coded = np.round((compressed + 1) / 2 * MU) / MU * 2 - 1
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(MU)) / MU
    return _within_range(soxr.resample(decoded, TELEPHONE_RATE_HZ, SAMPLE_RATE_HZ))


def _within_range(waveform: np.ndarray) -> Waveform:
    return (waveform / max(1.0, float(np.abs(waveform).max()))).astype(np.float32)


Copy = Callable[[Waveform, np.random.Generator, Sounds], Waveform]

COPIES: dict[str, Copy] = {
    "crop-1s": lambda speech, rng, sounds: cut(speech, 1.0, rng),
    "crop-2s": lambda speech, rng, sounds: cut(speech, 2.0, rng),
    "crop-4s": lambda speech, rng, sounds: cut(speech, 4.0, rng),
    "noise-5db": lambda speech, rng, sounds: with_noise(speech, _one(sounds.noises, rng), 5.0, rng),
    "noise-10db": lambda speech, rng, sounds: with_noise(speech, _one(sounds.noises, rng), 10.0, rng),
    "room": lambda speech, rng, sounds: in_room(speech, _one(sounds.rooms, rng)),
    "telephone": lambda speech, rng, sounds: over_telephone(speech),
}


def _one(sounds: Sequence[Waveform], rng: np.random.Generator) -> Waveform:
    return sounds[int(rng.integers(len(sounds)))]


def read(file: Path) -> Waveform:
    """Decode a recording as the product does."""
    with open_audio(file, channels=ChannelPolicy.parse("mix"), limits=AudioSettings()) as reader:
        return np.concatenate([block[0] for block in reader.blocks()])


def sounds_of(folder: Path) -> Sounds:
    """Read the noises and rooms of a folder of labeled speech."""
    rows = manifest_of(folder)
    noises, rooms = (
        tuple(read(folder / row["path"]) for row in rows if row["set"] == name) for name in ("noise", "rir")
    )
    return Sounds(noises, rooms)


def manifest_of(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a folder's manifest."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make_copies(
    folder: Path, output: Path, kinds: Sequence[str], rows: Sequence[dict[str, str]], *, most_s: float = 60.0
) -> Iterator[dict[str, str]]:
    """Write the copies of these recordings and yield their manifest rows.

    Parameters
    ----------
    most_s
        Longer copies are cut to this.
    """
    sounds = sounds_of(folder)
    for row in rows:
        try:
            speech = read(folder / row["path"])
        except InvalidAudio:
            continue  # A silent recording has no copies.
        for kind in kinds:
            seed = hashlib.sha256(f"{kind} {row['path']}".encode()).digest()[:8]
            rng = np.random.default_rng(int.from_bytes(seed, "big"))
            if kind.startswith("crop") and len(speech) < 1.2 * SAMPLE_RATE_HZ * float(kind[5:-1]):
                continue  # It would be nearly the same recording.
            copy = cut(COPIES[kind](speech, rng, sounds), most_s, rng)
            path = Path(kind) / Path(row["path"]).with_suffix(".wav")
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(output / path, copy, SAMPLE_RATE_HZ, subtype="PCM_16")
            yield {
                "path": str(path),
                "speaker": row["speaker"],
                "session": row.get("session", ""),
                "set": f"{row['set']}.{kind}",
                "original": row["path"],
            }


def main() -> None:
    """Write copies of every recording of a folder, with a manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kind", action="append", choices=sorted(COPIES), help="default: all")
    parser.add_argument("--set", action="append", help="default: all but noise and rir")
    parser.add_argument("--most-s", type=float, default=60.0, help="longer copies are cut to this")
    given = parser.parse_args()
    rows = [row for row in manifest_of(given.folder) if row["set"] not in ("noise", "rir")]
    rows = [row for row in rows if not given.set or row["set"] in given.set]
    copies = list(make_copies(given.folder, given.output, given.kind or list(COPIES), rows, most_s=given.most_s))
    with (given.output / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["path", "speaker", "session", "set", "original"])
        writer.writeheader()
        writer.writerows(copies)
    sys.stdout.write(f"{len(copies)} copies in {given.output}\n")


if __name__ == "__main__":
    main()
