"""Short recordings of one voice each, no two alike: cut out of labeled speech where there is some, else made."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.formats.audio_samples import speech_like

RATE_HZ = 16_000


@dataclass(frozen=True)
class Cut:
    """One recording: its bytes as a 16-bit WAV file, and who speaks."""

    name: str
    speaker: str
    wav: bytes


def cut_speech(speech: Path | None, seconds: float, *, of_each: int | None = None) -> Iterator[Cut]:
    """Yield different recordings of `seconds`: of real speech first, then synthetic ones without end.

    Parameters
    ----------
    speech
        Folder with a manifest.csv (path, speaker, seconds, sample_rate_hz), or None.
    of_each
        Most recordings of one speaker; None: all that there are.
    """
    taken: dict[str, int] = {}
    for row in _manifest(speech):
        if int(row["sample_rate_hz"]) != RATE_HZ or float(row["seconds"]) < seconds or not row["speaker"]:
            continue
        assert speech is not None
        samples, _ = soundfile.read(speech / row["path"], dtype="float32")
        size = round(seconds * RATE_HZ)
        for number in range(len(samples) // size):
            if of_each is not None and taken.get(row["speaker"], 0) >= of_each:
                break
            taken[row["speaker"]] = taken.get(row["speaker"], 0) + 1
            part = samples[number * size : (number + 1) * size]
            yield Cut(f"{Path(row['path']).stem}-{number}.wav", row["speaker"], _wav(part))
    number = 0
    while True:
        yield Cut(f"synthetic-{number:05}.wav", f"synthetic-{number:05}", _wav(speech_like(seconds, seed=number)))
        number += 1


def write_cuts(folder: Path, count: int, seconds: float, speech: Path | None) -> None:
    """Write `count` recordings of different content into a new folder, a hundred to a subfolder."""
    for number, cut in enumerate(cut_speech(speech, seconds)):
        if number == count:
            return
        place = folder / f"{number // 100:02}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}-{cut.name}").write_bytes(cut.wav)


def _manifest(speech: Path | None) -> list[dict[str, str]]:
    if speech is None or not (speech / "manifest.csv").is_file():
        return []
    with (speech / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
