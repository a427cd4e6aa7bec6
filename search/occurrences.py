"""Where else in the archive a voice speaks: hits -> recordings and stretches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.types import EmbeddingId, RecordingId

# Utterances are cut end to end; more than this between two of them means that something else was said there.
_JOIN_GAP_S = 0.5

MOST_STRETCHES = 100
"""Stretches given of one recording; a threshold that everything reaches must not give thousands."""


@dataclass(frozen=True, slots=True)
class ScoredUtterance:
    """An utterance of the archive with its exact cosine to the probe."""

    embedding_id: EmbeddingId
    recording_id: RecordingId
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    score: float
    speakers: tuple[str, ...] = ()
    llr: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive utterances in which the voice occurs; `score` is the best of them, `speakers` are those of all."""

    channel: int | None
    start_s: float
    end_s: float
    score: float
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A recording in which the voice occurs, with its stretches in order of time.

    Attributes
    ----------
    llr
        Highest of its utterances; None where uncalibrated.
    truncated
        Whether it has more stretches than these, the best `MOST_STRETCHES`.
    """

    recording_id: RecordingId
    uri: str
    score: float
    speakers: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    truncated: bool = False
    llr: float | None = None


def group_occurrences(utterances: Iterable[ScoredUtterance]) -> list[Occurrence]:
    """Group hits by recording, join those that touch, and rank recordings by their best score."""
    by_recording: dict[RecordingId, list[ScoredUtterance]] = {}
    for utterance in utterances:
        by_recording.setdefault(utterance.recording_id, []).append(utterance)
    occurrences = [_occurrence(recording_id, found) for recording_id, found in by_recording.items()]
    return sorted(occurrences, key=lambda occurrence: (-occurrence.score, occurrence.recording_id))


def _occurrence(recording_id: RecordingId, found: Sequence[ScoredUtterance]) -> Occurrence:
    stretches = _join(found)
    best = sorted(range(len(stretches)), key=lambda place: -stretches[place].score)[:MOST_STRETCHES]
    return Occurrence(
        recording_id=recording_id,
        uri=found[0].uri,
        score=max(utterance.score for utterance in found),
        speakers=tuple(sorted({speaker for utterance in found for speaker in utterance.speakers})),
        stretches=tuple(stretches[place] for place in sorted(best)),
        truncated=len(stretches) > MOST_STRETCHES,
        llr=max((utterance.llr for utterance in found if utterance.llr is not None), default=None),
    )


def _join(utterances: Sequence[ScoredUtterance]) -> list[Stretch]:
    ordered = sorted(utterances, key=lambda u: (-1 if u.channel is None else u.channel, u.start_s))
    stretches: list[Stretch] = []
    for utterance in ordered:
        last = stretches[-1] if stretches else None
        if last and last.channel == utterance.channel and utterance.start_s - last.end_s <= _JOIN_GAP_S:
            end_s, score = max(last.end_s, utterance.end_s), max(last.score, utterance.score)
            speakers = tuple(sorted({*last.speakers, *utterance.speakers}))
            stretches[-1] = Stretch(last.channel, last.start_s, end_s, score, speakers)
        else:
            stretches.append(
                Stretch(utterance.channel, utterance.start_s, utterance.end_s, utterance.score, utterance.speakers)
            )
    return stretches
