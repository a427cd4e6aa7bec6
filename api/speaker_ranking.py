"""Who of the enrolled a probe resembles most, under one encoder or under two."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from api.enrolled import EnrolledView
from indexer.types import EncoderId, SpeakerId
from search.identification import ScoredSpeaker
from search.normalization import Normalization, as_norm

ProbeVectors = Mapping[EncoderId, NDArray[np.float32]]
"""The unit vector of one voice under each encoder."""


class SpeakerRanking:
    """The enrolled speakers of one gallery, scored under each of its encoders.

    Parameters
    ----------
    views
        Who is enrolled under each encoder, the gallery's own first.
    normalization
        What scores are normalized by, with other people of the gallery as cohort; None: by nothing.
    """

    def __init__(
        self, views: Sequence[tuple[EncoderId, EnrolledView]], normalization: Normalization | None = None
    ) -> None:
        self._views = views
        self._normalization = normalization

    def count(self) -> int:
        """Count the speakers who may be named."""
        return self._views[0][1].count()

    def nearest(self, probe: ProbeVectors, k: int) -> list[ScoredSpeaker]:
        """Return the speakers who score highest, or all there are.

        Under one encoder these are k of them. Under two these are the k best of either, each scored under both;
        whoever is not embedded under both is left out, for nothing could be said of them.

        Raises
        ------
        InvalidRequest
            If scores are to be normalized, and too few speakers are enrolled for that.
        """
        return self._normalized(probe, self._nearest(probe, k))

    def _nearest(self, probe: ProbeVectors, k: int) -> list[ScoredSpeaker]:
        encoder_id, first = self._views[0]
        found = first.nearest(probe[encoder_id], k)
        if len(self._views) == 1:
            return found
        second_id, second = self._views[1]
        others = second.nearest(probe[second_id], k)
        firsts = _completed(found, others, first, probe[encoder_id])
        seconds = _completed(others, found, second, probe[second_id])
        both = sorted(firsts.keys() & seconds.keys(), key=lambda number: (-firsts[number].score, number))
        return [replace(firsts[number], second_score=seconds[number].score) for number in both]

    def of(self, probe: ProbeVectors, speaker_id: SpeakerId) -> ScoredSpeaker | None:
        """Score one speaker, whatever their labels; None where there is no voiceprint of them; see `nearest`."""
        scored = []
        for encoder_id, view in self._views:
            voiceprint = view.voiceprint(speaker_id)
            if voiceprint is None:
                return None
            scored.append(voiceprint.scored(probe[encoder_id]))
        one = scored[0] if len(scored) == 1 else replace(scored[0], second_score=scored[1].score)
        return next(iter(self._normalized(probe, [one])), None)

    def _normalized(self, probe: ProbeVectors, found: list[ScoredSpeaker]) -> list[ScoredSpeaker]:
        """Add normalized scores; whoever was taken out of the gallery meanwhile is left out."""
        if self._normalization is None or not found:
            return found
        numbers = [speaker.speaker_id for speaker in found]
        held = [view.vectors(numbers) for _, view in self._views]
        left = [speaker for speaker in found if all(speaker.speaker_id in vectors for vectors in held)]
        if not left:
            return []
        ids = [speaker.speaker_id for speaker in left]
        columns = []
        for (encoder_id, view), vectors, scores in zip(self._views, held, _columns(left), strict=True):
            cohort = view.cohort(self._normalization.cohort)
            rows = np.stack([vectors[number] for number in ids])
            top_n = self._normalization.top_n
            heard = cohort.resemblance(probe[encoder_id][None, :], top_n)
            columns.append(as_norm(scores, cohort.resemblance(rows, top_n), heard, np.array(ids)[:, None]))
        return [
            replace(speaker, normalized=tuple(own))
            for speaker, own in zip(left, np.stack(columns, axis=1).tolist(), strict=True)
        ]


def _columns(found: Sequence[ScoredSpeaker]) -> list[list[float]]:
    """Return the scores under each encoder; of the second one where there is one."""
    columns = [[speaker.score for speaker in found]]
    seconds = [speaker.second_score for speaker in found if speaker.second_score is not None]
    return columns + ([seconds] if seconds else [])


def _completed(
    own: Sequence[ScoredSpeaker], others: Sequence[ScoredSpeaker], view: EnrolledView, probe: NDArray[np.float32]
) -> dict[SpeakerId, ScoredSpeaker]:
    """Score those whom only the other encoder proposed."""
    known = {speaker.speaker_id: speaker for speaker in own}
    missing = [speaker.speaker_id for speaker in others if speaker.speaker_id not in known]
    return known | {speaker.speaker_id: speaker for speaker in view.scored(probe, missing)}
