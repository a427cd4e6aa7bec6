"""Labeled voices -> the trials that a calibration is fitted to."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors

Floats = NDArray[np.float64]
_Any = TypeVar("_Any", bound=np.generic)

MOST_NONTARGETS = 300_000
"""Nontarget trials that a fit looks at, drawn at random; more change no figure and take longer."""

MOST_TARGETS = 100_000

MOST_PROBES = 1_000
MOST_STRANGERS = 1_000
"""Probes, and speakers for each of them, that show how the best of many strangers scores."""


@dataclass(frozen=True, slots=True)
class LabeledVoices:
    """Recordings of which it is known who speaks, as they were heard.

    Attributes
    ----------
    vectors
        (n, D) unit rows under each encoder.
    speakers, sessions, sets
        (n,) labels; sessions and sets may be empty strings.
    net_speech_s
        (n,) seconds.
    snr_db
        (n,), NaN where unknown.
    originals
        (n,) number of the recording that each is a copy of, its own where it is none: copies of one recording are
        never compared with each other.
    """

    vectors: tuple[Vectors, ...]
    speakers: NDArray[np.str_]
    sessions: NDArray[np.str_]
    sets: NDArray[np.str_]
    net_speech_s: Floats
    snr_db: Floats
    originals: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.speakers)


@dataclass(frozen=True, slots=True)
class ScoredTrials:
    """Scored pairs of voices with everything that calibration may look at.

    Attributes
    ----------
    scores
        (n, E) float64 cosines, a column for each encoder.
    is_target
        (n,) bool: whether both sides are one speaker.
    enrolled_speakers, probe_speakers
        (n,) labels.
    probes
        (n,) number of the probe recording, so that the scores of one probe are known as such.
    enrolled_speech_s, probe_speech_s
        (n,) net speech of both sides in seconds.
    snr_db
        (n,) of the noisier side, NaN where unknown.
    """

    scores: Floats
    is_target: NDArray[np.bool_]
    enrolled_speakers: NDArray[np.str_]
    probe_speakers: NDArray[np.str_]
    probes: NDArray[np.int64]
    enrolled_speech_s: Floats
    probe_speech_s: Floats
    snr_db: Floats

    def __len__(self) -> int:
        return len(self.is_target)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "ScoredTrials":
        """Return some of the trials."""
        return ScoredTrials(*(getattr(self, name)[rows] for name in self.__slots__))

    @property
    def speakers(self) -> list[str]:
        """Everybody on either side, sorted."""
        return sorted({*self.enrolled_speakers.tolist(), *self.probe_speakers.tolist()})


def score_pairs(voices: LabeledVoices, enrolled: NDArray[np.int64], probes: NDArray[np.int64]) -> ScoredTrials:
    """Compare the voices at these places, each pair under every encoder."""
    columns = [
        np.einsum("nd,nd->n", vectors[enrolled], vectors[probes], dtype=np.float64) for vectors in voices.vectors
    ]
    return ScoredTrials(
        scores=np.clip(np.stack(columns, axis=1), -1.0, 1.0),
        is_target=voices.speakers[enrolled] == voices.speakers[probes],
        enrolled_speakers=voices.speakers[enrolled],
        probe_speakers=voices.speakers[probes],
        probes=probes,
        enrolled_speech_s=voices.net_speech_s[enrolled],
        probe_speech_s=voices.net_speech_s[probes],
        snr_db=np.fmin(voices.snr_db[enrolled], voices.snr_db[probes]),
    )


def all_trials(voices: LabeledVoices, *, seed: int = 20260101) -> ScoredTrials:
    """Compare every voice with every other of its set, or as many as a fit looks at.

    Strangers of two sets resemble each other less than strangers who were recorded alike: llrs fitted to them would be
    too sure of themselves among recordings of one kind, which are the rule. Copies of one recording are no trial, nor
    are two recordings of one session where the speaker has other sessions: they resemble each other for reasons that
    are not the voice.
    """
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(len(voices), 1)
    same = voices.speakers[first] == voices.speakers[second]
    several = _with_several_sessions(voices)
    apart = voices.sets[first] != voices.sets[second]
    alike = (voices.originals[first] == voices.originals[second]) | (
        same & several[first] & (voices.sessions[first] == voices.sessions[second])
    )
    targets = _some(np.flatnonzero(same & ~alike & ~apart), MOST_TARGETS, rng)
    nontargets = _some(np.flatnonzero(~same & ~apart), MOST_NONTARGETS, rng)
    chosen = np.sort(np.concatenate([targets, nontargets]))
    return score_pairs(voices, first[chosen], second[chosen])


def strangers(voices: LabeledVoices, *, seed: int = 20260101) -> ScoredTrials:
    """Compare probes with one recording of every other speaker, as an identification of somebody unknown does."""
    rng = np.random.default_rng(seed)
    probes = np.sort(_some(np.arange(len(voices)), MOST_PROBES, rng))
    names = _some(np.unique(voices.speakers), MOST_STRANGERS, rng)
    by_speaker = {name: np.flatnonzero(voices.speakers == name) for name in names.tolist()}
    enrolled, asked = [], []
    for probe in probes.tolist():
        others = [places for name, places in by_speaker.items() if name != voices.speakers[probe]]
        enrolled.append(np.array([places[rng.integers(len(places))] for places in others], dtype=np.int64))
        asked.append(np.full(len(others), probe, dtype=np.int64))
    return score_pairs(voices, np.concatenate(enrolled), np.concatenate(asked))


def _with_several_sessions(voices: LabeledVoices) -> NDArray[np.bool_]:
    sessions: dict[str, set[str]] = {}
    for speaker, session in zip(voices.speakers.tolist(), voices.sessions.tolist(), strict=True):
        sessions.setdefault(speaker, set()).add(session)
    return np.array([len(sessions[speaker]) > 1 for speaker in voices.speakers.tolist()])


def _some(values: NDArray[_Any], most: int, rng: np.random.Generator) -> NDArray[_Any]:
    return values if len(values) <= most else rng.choice(values, most, replace=False)
