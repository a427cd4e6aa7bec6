"""Recordings of which it is known whether one voice speaks or two, made from shared speech; seeds given."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from api.evaluation.copies import Sounds, add_noise, reverberate, through_telephone
from indexer.audio.regions import SpeechDetector, speech_s
from indexer.errors import InvalidAudio
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform
from tests.reports.conversations import decode_mono

SETS = ("librispeech_multi", "librispeech_testother", "librispeech_251", "an4", "telephony_8k")
LEAST_S = 3.0

_READ = SETS[:3]
_WORDS = "speech_commands"
_FIRST_S, _SECOND_S, _HALF_S, _LONG_S = (5.0, 8.0), (1.9, 3.2), 4.0, (20.0, 60.0)
_SEAM_S = 0.5
_NOISE_DB = 10.0
_ALIKE = 1.12
"""Two voices whose median pitches differ by less than two semitones."""

_PITCH_HZ, _FRAME_S, _VOICED = (70.0, 350.0), 0.04, 0.5


@dataclass(frozen=True)
class Made:
    """A recording whose number of voices is known.

    Attributes
    ----------
    kind
        How it was made.
    second_s
        Net speech of the second voice; None where there is none.
    """

    kind: str
    name: str
    waveform: Waveform
    second_s: float | None = None


@dataclass(frozen=True)
class Speech:
    """What recordings are made from.

    Attributes
    ----------
    rows
        Recordings of `SETS` of 3 s or more: set, speaker and path.
    words
        Words of each speaker of the set of words.
    """

    folder: Path
    rows: tuple[tuple[str, str, Path], ...]
    words: dict[str, list[Path]]

    @classmethod
    def read(cls, folder: Path) -> "Speech":
        """Read the manifest of a folder; what cannot be decoded is left out."""
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
            listed = list(csv.DictReader(stream))
        long = [row for row in listed if row["set"] in SETS and float(row["seconds"]) >= LEAST_S]
        rows = [(row["set"], row["speaker"], folder / row["path"]) for row in long if _sounds(folder / row["path"])]
        words: dict[str, list[Path]] = {}
        for row in listed:
            if row["set"] == _WORDS:
                words.setdefault(row["speaker"], []).append(folder / row["path"])
        return cls(folder, tuple(rows), words)

    def by_speaker(self, sets: Sequence[str] = SETS) -> dict[tuple[str, str], list[Path]]:
        """Return the recordings of each speaker, by set and name."""
        found: dict[tuple[str, str], list[Path]] = {}
        for of_set, speaker, path in self.rows:
            if of_set in sets:
                found.setdefault((of_set, speaker), []).append(path)
        return found


def make(
    speech: Speech, detector: SpeechDetector, *, seed: int, ones: int, doubles: int, copies: int, twos: int
) -> Iterator[Made]:
    """Draw recordings of one voice and of two."""
    rng, limits, rows = np.random.default_rng(seed), AudioSettings(), speech.rows
    by_speaker = speech.by_speaker()
    for place in rng.choice(len(rows), min(ones, len(rows)), replace=False):
        path = rows[place][2]
        yield Made("one", f"one {_named(path)}", _beginning(path, 20))
    several = [own for own in by_speaker.values() if len(own) > 1]
    for place in rng.integers(len(several), size=doubles):
        first, second = rng.choice(len(several[place]), 2, replace=False)
        pair = [several[place][number] for number in (first, second)]
        joined = np.concatenate([_beginning(path, 8) for path in pair])
        yield Made("double", f"double {pair[0].name} {pair[1].name}", joined)
    noises = Sounds.read(speech.folder / "noise", limits).waveforms
    rooms = Sounds.read(speech.folder / "rir", limits).waveforms
    for number, place in enumerate(rng.choice(len(rows), min(copies, len(rows)), replace=False)):
        path = rows[place][2]
        waveform = _beginning(path, 12)
        if number % 3 == 0:
            waveform = add_noise(waveform, noises[rng.integers(len(noises))], 5.0, rng)
        elif number % 3 == 1:
            waveform = reverberate(waveform, rooms[rng.integers(len(rooms))])
        else:
            waveform = through_telephone(waveform)
        kind = ("noise", "room", "telephone")[number % 3]
        yield Made(kind, f"{kind} {_named(path)}", waveform.astype(np.float32))
    sets = sorted({name for name, _ in by_speaker})
    for number in range(twos):
        of_set = sets[rng.integers(len(sets))]
        speakers = sorted(speaker for name, speaker in by_speaker if name == of_set)
        chosen = [by_speaker[of_set, speaker] for speaker in rng.choice(speakers, 2, replace=False)]
        first, second = (_beginning(own[rng.integers(len(own))], 8) for own in chosen)
        size = min(len(first), len(second)) if number % 2 == 0 else len(first)
        second = second[:size] if number % 2 == 0 else second[: size // 4]
        share = "equal" if number % 2 == 0 else "a fifth"
        name = f"two, {share}, {of_set} {number}"
        yield Made(f"two, {share}", name, np.concatenate([first[:size], second]), speech_s(detector.regions(second)))


def make_harder(speech: Speech, detector: SpeechDetector, *, seed: int, each: int) -> Iterator[Made]:
    """Draw as many of each kind of two voices that are harder to tell, and of one voice that they are to be told from.

    A short second voice (1.9 to 3.2 s) of like pitch at the beginning, in the middle and at the end of 5 to 8 s of the
    first; one that came over a telephone; half a second of both at once where they meet; 4 s of either; noise 10 dB
    below both; words of one second.
    """
    rng = np.random.default_rng([seed, 1])
    noises = Sounds.read(speech.folder / "noise", AudioSettings()).waveforms
    of_readers = speech.by_speaker(_READ)
    readers = sorted(of_readers)
    pitch = {key: _pitch_hz(_beginning(own[0], 6)) for key, own in sorted(of_readers.items())}

    def piece(key: tuple[str, str], seconds: tuple[float, float]) -> Waveform:
        own = of_readers[key]
        waveform = decode_mono(own[rng.integers(len(own))])
        size = min(len(waveform), round(rng.uniform(*seconds) * SAMPLE_RATE_HZ))
        first = int(rng.integers(len(waveform) - size + 1))
        return waveform[first : first + size]

    def two_readers(*, alike: bool) -> tuple[tuple[str, str], tuple[str, str]]:
        one = readers[rng.integers(len(readers))]
        others = [
            key for key in readers if key[1] != one[1] and (not alike or 1 / _ALIKE < pitch[key] / pitch[one] < _ALIKE)
        ]
        return one, (others or [key for key in readers if key[1] != one[1]])[rng.integers(len(others or readers) - 1)]

    def placed(where: float) -> tuple[Waveform, Waveform]:
        one, other = two_readers(alike=True)
        first, second = piece(one, _FIRST_S), piece(other, _SECOND_S)
        cut = round(len(first) * where)
        return np.concatenate([first[:cut], second, first[cut:]]), second

    def telephone() -> tuple[Waveform, Waveform]:
        one, other = two_readers(alike=False)
        second = through_telephone(piece(other, _SECOND_S)).astype(np.float32)
        return np.concatenate([piece(one, _FIRST_S), second]), second

    def overlapping() -> tuple[Waveform, Waveform]:
        one, other = two_readers(alike=False)
        first, second = piece(one, _FIRST_S), piece(other, _SECOND_S)
        seam = round(_SEAM_S * SAMPLE_RATE_HZ)
        both = first[-seam:] + second[:seam]
        return np.concatenate([first[:-seam], both, second[seam:]]), second[seam:]

    def halves() -> tuple[Waveform, Waveform]:
        one, other = two_readers(alike=True)
        first, second = piece(one, (_HALF_S, _HALF_S)), piece(other, (_HALF_S, _HALF_S))
        return np.concatenate([first, second]), second

    def noisy() -> tuple[Waveform, Waveform]:
        one, other = two_readers(alike=False)
        second = piece(other, _SECOND_S)
        return in_noise(np.concatenate([piece(one, _FIRST_S), second])), second

    def in_noise(waveform: Waveform) -> Waveform:
        return add_noise(waveform, noises[rng.integers(len(noises))], _NOISE_DB, rng).astype(np.float32)

    def words(of: str) -> Waveform:
        return np.concatenate([decode_mono(path) for path in speech.words[of]])

    def two_words() -> tuple[Waveform, Waveform]:
        one, other = rng.choice(sorted(speech.words), 2, replace=False)
        second = words(other)
        return np.concatenate([words(one), second]), second

    def one_read(*, noise: bool) -> Waveform:
        key = readers[rng.integers(len(readers))]
        waveform = piece(key, (7.0, 11.0))
        return in_noise(waveform) if noise else waveform

    def one_words() -> Waveform:
        return words(str(rng.choice(sorted(speech.words))))

    pairs: dict[str, Callable[[], tuple[Waveform, Waveform]]] = {
        "two, alike, first": lambda: placed(0.0),
        "two, alike, middle": lambda: placed(float(rng.uniform(0.3, 0.7))),
        "two, alike, last": lambda: placed(1.0),
        "two, one by telephone": telephone,
        "two, overlapping": overlapping,
        "two, alike, half and half": halves,
        "two, in noise": noisy,
        "two, words": two_words,
    }
    alone: dict[str, Callable[[], Waveform]] = {
        "one, any piece": lambda: one_read(noise=False),
        "one, noise 10 dB": lambda: one_read(noise=True),
        "one, words": one_words,
    }
    for number in range(each):
        for kind, pair in pairs.items():
            waveform, second = pair()
            yield Made(kind, f"{kind} {number}", waveform, speech_s(detector.regions(second)))
        for kind, single in alone.items():
            yield Made(kind, f"{kind} {number}", single())


def make_long(speech: Speech, detector: SpeechDetector, *, seed: int, each: int) -> Iterator[Made]:
    """Draw as many recordings of 20 to 60 s of a speaker's readings: as they are, in noise, with a short second voice.

    The second voice (1.9 to 3.2 s) may be anywhere, so also within a word.
    """
    rng = np.random.default_rng([seed, 2])
    noises = Sounds.read(speech.folder / "noise", AudioSettings()).waveforms
    several = {key: own for key, own in speech.by_speaker(_READ).items() if len(own) > 1}
    readers = sorted(several)
    for number in range(each):
        one, other = (readers[place] for place in rng.choice(len(readers), 2, replace=False))
        order = rng.permutation(len(several[one]))
        joined = np.concatenate([decode_mono(several[one][place]) for place in order])
        waveform = joined[: round(rng.uniform(*_LONG_S) * SAMPLE_RATE_HZ)]
        yield Made("one, long", f"one, long {number} {one[1]}", waveform)
        noisy = add_noise(waveform, noises[rng.integers(len(noises))], _NOISE_DB, rng).astype(np.float32)
        yield Made("one, long, noise 10 dB", f"one, long, noise 10 dB {number} {one[1]}", noisy)
        second = _beginning(several[other][rng.integers(len(several[other]))], rng.uniform(*_SECOND_S))
        cut = int(rng.integers(len(waveform) + 1))
        both = np.concatenate([waveform[:cut], second, waveform[cut:]])
        yield Made("two, long", f"two, long {number} {one[1]} {other[1]}", both, speech_s(detector.regions(second)))


def _pitch_hz(waveform: Waveform) -> float:
    """Return the median pitch of voiced frames, by autocorrelation."""
    size = round(_FRAME_S * SAMPLE_RATE_HZ)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size).astype(np.float64)
    loud = frames[np.square(frames).mean(axis=1) > np.square(frames).mean() / 2]
    spectra = np.fft.rfft(loud, 2 * size)
    correlations = np.fft.irfft(np.abs(spectra) ** 2)[:, :size]
    low, high = (round(SAMPLE_RATE_HZ / hz) for hz in reversed(_PITCH_HZ))
    lags = correlations[:, low:high].argmax(axis=1) + low
    strength = correlations[np.arange(len(loud)), lags] / correlations[:, 0]
    voiced = strength > _VOICED * (1 - lags / size)
    return float(np.median(SAMPLE_RATE_HZ / lags[voiced])) if voiced.any() else 150.0


def _named(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _beginning(path: Path, seconds: float) -> Waveform:
    return decode_mono(path)[: round(seconds * SAMPLE_RATE_HZ)]


def _sounds(path: Path) -> bool:
    try:
        decode_mono(path)
    except InvalidAudio:
        return False
    return True
