"""How wrong an answer to "who speaks when" is: diarization error rate with its parts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.audio.rttm import RttmTurn
from indexer.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class DiarizationError:
    """Seconds in which an answer is wrong, by kind; errors of several recordings are added.

    Attributes
    ----------
    speech_s
        Reference speech that was scored; overlapped speech counts once for each speaker.
    miss_s, false_alarm_s, confusion_s
        Speech of nobody's, nobody's speech, and speech of the wrong voice in the answer.
    speakers, voices
        How many the reference has, and how many were found, in one recording; sums over several.
    """

    speech_s: float
    miss_s: float
    false_alarm_s: float
    confusion_s: float
    speakers: int
    voices: int

    @property
    def rate(self) -> float:
        """The diarization error rate: wrong seconds by reference speech, which may exceed 1."""
        wrong_s = self.miss_s + self.false_alarm_s + self.confusion_s
        if self.speech_s == 0:
            return 0.0 if wrong_s == 0 else 1.0
        return wrong_s / self.speech_s

    def __add__(self, other: "DiarizationError") -> "DiarizationError":
        return DiarizationError(
            self.speech_s + other.speech_s,
            self.miss_s + other.miss_s,
            self.false_alarm_s + other.false_alarm_s,
            self.confusion_s + other.confusion_s,
            self.speakers + other.speakers,
            self.voices + other.voices,
        )


def measure_diarization(
    reference: Sequence[RttmTurn], found: Sequence[RttmTurn], *, collar_s: float = 0.0, skip_overlap: bool = False
) -> DiarizationError:
    """Compare the turns found in one recording with the true ones, under the best mapping of voices to speakers.

    Parameters
    ----------
    reference, found
        Turns of one recording; those of one speaker may touch or overlap, and count once.
    collar_s
        Seconds on either side of every reference boundary that are not scored, as `-c` of NIST's md-eval;
        pyannote.metrics calls twice this its collar.
    skip_overlap
        Leave out where the reference has several speakers at once.

    Raises
    ------
    InvalidRequest
        If the collar is negative.

    References
    ----------
    NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan"; the mapping maximizes the time
    that mapped pairs have in common (Kuhn and Munkres).
    """
    if collar_s < 0:
        raise InvalidRequest(f"collar {collar_s} s is negative: give the seconds that are not scored on either side")
    speakers = _by_speaker(reference)
    voices = _by_speaker(found)
    edges = np.unique([edge for spans in (*speakers.values(), *voices.values()) for span in spans for edge in span])
    boundaries = np.unique([edge for spans in speakers.values() for span in spans for edge in span])
    if collar_s > 0 and len(boundaries):
        edges = np.unique(np.concatenate([edges, boundaries - collar_s, boundaries + collar_s]))
    if len(edges) < 2:
        return DiarizationError(0.0, 0.0, 0.0, 0.0, len(speakers), len(voices))
    lengths_s = np.diff(edges)
    centers = edges[:-1] + lengths_s / 2
    speaking = _active(speakers.values(), centers)
    heard = _active(voices.values(), centers)
    said, answered = speaking.sum(axis=0), heard.sum(axis=0)
    if collar_s > 0 and len(boundaries):
        lengths_s = np.where(_distance(centers, boundaries) < collar_s, 0.0, lengths_s)
    if skip_overlap:
        lengths_s = np.where(said > 1, 0.0, lengths_s)
    right = _correct(speaking, heard, lengths_s)
    return DiarizationError(
        speech_s=float((said * lengths_s).sum()),
        miss_s=float((np.maximum(said - answered, 0) * lengths_s).sum()),
        false_alarm_s=float((np.maximum(answered - said, 0) * lengths_s).sum()),
        confusion_s=float(((np.minimum(said, answered) - right) * lengths_s).sum()),
        speakers=len(speakers),
        voices=len(voices),
    )


def _by_speaker(turns: Iterable[RttmTurn]) -> dict[str, list[tuple[float, float]]]:
    """Return each speaker's stretches, merged where they touch or overlap."""
    merged: dict[str, list[tuple[float, float]]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        if turn.duration_s <= 0:
            continue
        spans = merged.setdefault(turn.speaker, [])
        if spans and turn.start_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], turn.end_s))
        else:
            spans.append((turn.start_s, turn.end_s))
    return merged


def _active(speakers: Iterable[list[tuple[float, float]]], centers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (speakers, stretches): who speaks in which elementary stretch."""
    rows = []
    for spans in speakers:
        starts, ends = np.array(spans).T
        at = np.searchsorted(starts, centers, side="right") - 1
        rows.append((at >= 0) & (centers < ends[np.maximum(at, 0)]))
    return np.array(rows, dtype=bool).reshape(len(rows), len(centers))


def _distance(centers: NDArray[np.float64], boundaries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each center is from the nearest boundary."""
    after = np.searchsorted(boundaries, centers).clip(1, max(1, len(boundaries) - 1))
    left, right = boundaries[after - 1], boundaries[np.minimum(after, len(boundaries) - 1)]
    distance: NDArray[np.float64] = np.minimum(np.abs(centers - left), np.abs(right - centers))
    return distance


def _correct(
    speaking: NDArray[np.bool_], heard: NDArray[np.bool_], lengths_s: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how many speakers are rightly named in each stretch."""
    from scipy.optimize import linear_sum_assignment

    common_s = (speaking * lengths_s) @ heard.T.astype(np.float64)
    pairs = zip(*linear_sum_assignment(common_s, maximize=True), strict=True)
    right = np.zeros(len(lengths_s), dtype=np.int64)
    for speaker, voice in pairs:
        right += speaking[speaker] & heard[voice]
    return right
