"""Labeled voices -> the trials that a calibration is fitted to."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors
from search.normalization import Cohort, as_norm

Floats = NDArray[np.float64]
_Any = TypeVar("_Any", bound=np.generic)

MOST_NONTARGETS = 300_000
"""Nontarget trials that a fit looks at, drawn at random; more change no figure and take longer."""

MOST_TARGETS = 100_000

ENROLLED_TOGETHER = 3
"""Recordings of a voiceprint, as far as the speaker has them."""

_NORMALIZED_AT_ONCE = 20_000
"""Trials, which takes 100 MB."""

MOST_PROBES = 1_000
MOST_STRANGERS = 1_000
"""Probes, and speakers for each of them, that show how the best of many strangers scores."""


OF_SEVERAL = -1
"""In place of an original: a voiceprint of several recordings."""

WEIGHT_OF_A_COPY = 0.1
"""What a copy (with noise, over a telephone, cut short) counts in a fit beside the recording as it is: copies are many,
and say how much worse an llr is to be trusted, but most recordings are as they are."""


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
    telephone
        (n,) share that came over a telephone, NaN where unknown.
    originals
        (n,) number of the recording that each is a copy of, its own where it is none: copies of one recording are
        never compared with each other, and the first that is listed is taken for the recording as it is.
    cohorts
        Whom scores are normalized by under each encoder; None: they stay cosines.
    """

    vectors: tuple[Vectors, ...]
    speakers: NDArray[np.str_]
    sessions: NDArray[np.str_]
    sets: NDArray[np.str_]
    net_speech_s: Floats
    snr_db: Floats
    telephone: Floats
    originals: NDArray[np.int64]
    cohorts: tuple[Cohort, ...] | None = None

    def __len__(self) -> int:
        return len(self.speakers)

    def take(self, rows: NDArray[np.int64]) -> "LabeledVoices":
        """Return some of the recordings."""
        each = [name for name in self.__slots__ if name not in ("vectors", "cohorts")]
        kept = {name: getattr(self, name)[rows] for name in each}
        return replace(self, vectors=tuple(vectors[rows] for vectors in self.vectors), **kept)


@dataclass(frozen=True, slots=True)
class ScoredTrials:
    """Scored pairs of voices with everything that calibration may look at.

    Attributes
    ----------
    scores
        (n, E) float64 cosines, a column for each encoder.
    is_target
        (n,) bool: whether both sides are one speaker.
    enrolled_speakers, probe_speakers, enrolled_sets, probe_sets
        (n,) labels.
    probes
        (n,) number of the probe recording, so that the scores of one probe are known as such.
    enrolled_speech_s, probe_speech_s
        (n,) net speech of both sides in seconds.
    snr_db
        (n,) of the noisier side, NaN where unknown.
    enrolled_telephone, probe_telephone
        (n,) share of both sides that came over a telephone, NaN where unknown.
    weights
        (n,) how much each counts in a fit.
    """

    scores: Floats
    is_target: NDArray[np.bool_]
    enrolled_speakers: NDArray[np.str_]
    probe_speakers: NDArray[np.str_]
    enrolled_sets: NDArray[np.str_]
    probe_sets: NDArray[np.str_]
    probes: NDArray[np.int64]
    enrolled_speech_s: Floats
    probe_speech_s: Floats
    snr_db: Floats
    enrolled_telephone: Floats
    probe_telephone: Floats
    weights: Floats

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
        np.clip(np.einsum("nd,nd->n", vectors[enrolled], vectors[probes], dtype=np.float64), -1.0, 1.0)
        for vectors in voices.vectors
    ]
    if voices.cohorts is not None:
        columns = [
            normalized_pairs(scores, cohort, vectors, voices.speakers, enrolled, probes)
            for scores, vectors, cohort in zip(columns, voices.vectors, voices.cohorts, strict=True)
        ]
    return ScoredTrials(
        scores=np.stack(columns, axis=1),
        is_target=voices.speakers[enrolled] == voices.speakers[probes],
        enrolled_speakers=voices.speakers[enrolled],
        probe_speakers=voices.speakers[probes],
        enrolled_sets=voices.sets[enrolled],
        probe_sets=voices.sets[probes],
        probes=probes,
        enrolled_speech_s=voices.net_speech_s[enrolled],
        probe_speech_s=voices.net_speech_s[probes],
        snr_db=np.fmin(voices.snr_db[enrolled], voices.snr_db[probes]),
        enrolled_telephone=voices.telephone[enrolled],
        probe_telephone=voices.telephone[probes],
        weights=_weights(voices)[enrolled] * _weights(voices)[probes],
    )


def _is_copy(voices: LabeledVoices) -> NDArray[np.bool_]:
    """Tell which are copies: all but the first of those that share an original; a voiceprint is none."""
    copies: NDArray[np.bool_] = voices.originals != OF_SEVERAL
    copies[np.unique(voices.originals, return_index=True)[1]] = False
    return copies


def _weights(voices: LabeledVoices) -> Floats:
    return np.where(_is_copy(voices), WEIGHT_OF_A_COPY, 1.0)


def normalized_pairs(
    scores: Floats,
    cohort: Cohort,
    vectors: Vectors,
    speakers: NDArray[np.str_],
    enrolled: NDArray[np.int64],
    probes: NDArray[np.int64],
) -> Floats:
    """Normalize the scores of pairs of voices; neither side's speaker counts as one of the cohort.

    Parameters
    ----------
    cohort
        Its speakers are names.
    vectors, speakers : (n, D), (n,) arrays
        The voices, and the names of their speakers.
    enrolled, probes : (p,) arrays
        Places of the voices of each pair.
    """
    _, numbers = np.unique(np.concatenate([cohort.speakers, speakers]), return_inverse=True)
    resemblance = Cohort(numbers[: len(cohort)], cohort.vectors).resemblance(vectors)
    own = numbers[len(cohort) :]
    normalized = np.empty(len(scores))
    for start in range(0, len(scores), _NORMALIZED_AT_ONCE):
        rows = slice(start, start + _NORMALIZED_AT_ONCE)
        first, second = enrolled[rows], probes[rows]
        without = np.stack([own[first], own[second]], axis=1)
        normalized[rows] = as_norm(scores[rows], resemblance.take(first), resemblance.take(second), without)
    return normalized


def all_trials(voices: LabeledVoices, *, seed: int = 20260101) -> ScoredTrials:
    """Compare every voice with every other of its set, and with voiceprints, or as many as a fit looks at.

    Strangers of two sets resemble each other less than strangers who were recorded alike: llrs fitted to them would be
    too sure of themselves among recordings of one kind, which are the rule. Copies of one recording are no trial, nor
    are two recordings of one session where the speaker has other sessions: they resemble each other for reasons that
    are not the voice.
    """
    rng = np.random.default_rng(seed)
    several = _with_several_sessions(voices)
    first, second = np.triu_indices(len(voices), 1)
    same = voices.speakers[first] == voices.speakers[second]
    apart = voices.sets[first] != voices.sets[second]
    alike = (voices.originals[first] == voices.originals[second]) | (
        same & several[first] & (voices.sessions[first] == voices.sessions[second])
    )
    targets = _some(np.flatnonzero(same & ~alike & ~apart), MOST_TARGETS, rng)
    nontargets = _some(np.flatnonzero(~same & ~apart), MOST_NONTARGETS, rng)
    chosen = np.sort(np.concatenate([targets, nontargets]))
    everything, members = _with_voiceprints(voices, rng)
    enrolled, probes = _against_voiceprints(everything, members, several)
    return score_pairs(everything, np.concatenate([first[chosen], enrolled]), np.concatenate([second[chosen], probes]))


def strangers(voices: LabeledVoices, *, seed: int = 20260101) -> ScoredTrials:
    """Compare probes with every other speaker, as an identification of somebody unknown does.

    A speaker is a voiceprint where there are recordings for one, else any one recording. Both sides are recordings as
    they are: copies of a few probes would be counted as so many strangers, and people of whom copies are enrolled are
    resembled less than people are.
    """
    rng = np.random.default_rng(seed)
    voices = voices.take(np.flatnonzero(~_is_copy(voices)))
    everything, _ = _with_voiceprints(voices, rng)
    probes = np.sort(_some(np.arange(len(voices)), MOST_PROBES, rng))
    names = _some(np.unique(voices.speakers), MOST_STRANGERS, rng)
    alone = {name: np.flatnonzero(voices.speakers == name) for name in names.tolist()}
    voiceprints: dict[str, list[int]] = {}
    for place in range(len(voices), len(everything)):
        voiceprints.setdefault(str(everything.speakers[place]), []).append(place)
    choices = {name: np.array(voiceprints.get(name) or alone[name], dtype=np.int64) for name in alone}
    enrolled, asked = [], []
    for probe in probes.tolist():
        others = [places for name, places in choices.items() if name != voices.speakers[probe]]
        enrolled.append(np.array([places[rng.integers(len(places))] for places in others], dtype=np.int64))
        asked.append(np.full(len(others), probe, dtype=np.int64))
    return score_pairs(everything, np.concatenate(enrolled), np.concatenate(asked))


def _with_voiceprints(voices: LabeledVoices, rng: np.random.Generator) -> tuple[LabeledVoices, list[NDArray[np.int64]]]:
    """Append a voiceprint of each speaker and set with recordings to spare; return the members of each too."""
    groups: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(zip(voices.speakers.tolist(), voices.sets.tolist(), strict=True)):
        groups.setdefault(key, []).append(place)
    members = []
    for places in groups.values():
        # One of the recordings at least stays a probe, with all of its copies.
        originals = np.unique(voices.originals[places])
        kept = originals[rng.permutation(len(originals))[: min(ENROLLED_TOGETHER, len(originals) - 1)]]
        chosen = [_one_of(np.intersect1d(np.flatnonzero(voices.originals == number), places), rng) for number in kept]
        if len(chosen) > 1:
            members.append(np.array(chosen, dtype=np.int64))
    if not members:
        return voices, []
    means = [
        np.stack([(vectors[one] * voices.net_speech_s[one, None]).sum(axis=0) for one in members])
        for vectors in voices.vectors
    ]
    heads = np.array([one[0] for one in members])
    return LabeledVoices(
        vectors=tuple(
            np.concatenate([vectors, (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)])
            for vectors, mean in zip(voices.vectors, means, strict=True)
        ),
        speakers=np.concatenate([voices.speakers, voices.speakers[heads]]),
        sessions=np.concatenate([voices.sessions, voices.sessions[heads]]),
        sets=np.concatenate([voices.sets, voices.sets[heads]]),
        net_speech_s=np.concatenate([voices.net_speech_s, [voices.net_speech_s[one].sum() for one in members]]),
        snr_db=np.concatenate([voices.snr_db, [_median(voices.snr_db[one]) for one in members]]),
        telephone=np.concatenate([voices.telephone, [voices.telephone[one].mean() for one in members]]),
        originals=np.concatenate([voices.originals, np.full(len(members), OF_SEVERAL)]),
        cohorts=voices.cohorts,
    ), members


def _one_of(versions: NDArray[np.int64], rng: np.random.Generator) -> int:
    """Choose the recording as it is, which comes first, as often as any of its copies together."""
    return int(versions[0] if rng.random() < 0.5 else rng.choice(versions))


def _against_voiceprints(
    everything: LabeledVoices, members: list[NDArray[np.int64]], several: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of voiceprints and of the probes that they are compared with."""
    count = len(several)
    enrolled, probes = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for number, parts in enumerate(members):
        place = count + number
        same = everything.speakers[:count] == everything.speakers[place]
        heard = same & np.isin(everything.originals[:count], everything.originals[parts])
        session = same & several & np.isin(everything.sessions[:count], everything.sessions[parts])
        asked = np.flatnonzero((everything.sets[:count] == everything.sets[place]) & ~heard & ~session)
        enrolled.append(np.full(len(asked), place, dtype=np.int64))
        probes.append(asked)
    return np.concatenate(enrolled), np.concatenate(probes)


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _with_several_sessions(voices: LabeledVoices) -> NDArray[np.bool_]:
    sessions: dict[str, set[str]] = {}
    for speaker, session in zip(voices.speakers.tolist(), voices.sessions.tolist(), strict=True):
        sessions.setdefault(speaker, set()).add(session)
    return np.array([len(sessions[speaker]) > 1 for speaker in voices.speakers.tolist()])


def _some(values: NDArray[_Any], most: int, rng: np.random.Generator) -> NDArray[_Any]:
    return values if len(values) <= most else rng.choice(values, most, replace=False)
