"""Who of the enrolled a probe resembles most, under one encoder or under two."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from api.enrolled import EnrolledView
from indexer.types import EncoderId, SpeakerId
from search.identification import ScoredSpeaker

ProbeVectors = Mapping[EncoderId, NDArray[np.float32]]
"""The unit vector of one voice under each encoder."""


class SpeakerRanking:
    """The enrolled speakers of one gallery, scored under each of its encoders.

    Parameters
    ----------
    views
        Who is enrolled under each encoder, the gallery's own first.
    """

    def __init__(self, views: Sequence[tuple[EncoderId, EnrolledView]]) -> None:
        self._views = views

    def count(self) -> int:
        """Count the speakers who may be named."""
        return self._views[0][1].count()

    def nearest(self, probe: ProbeVectors, k: int) -> list[ScoredSpeaker]:
        """Return the speakers who score highest, or all there are.

        Under one encoder these are k of them. Under two these are the k best of either, each scored under both;
        whoever is not embedded under both is left out, for nothing could be said of them.
        """
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
        """Score one speaker, whatever their labels; None where there is no voiceprint of them."""
        scored = []
        for encoder_id, view in self._views:
            voiceprint = view.voiceprint(speaker_id)
            if voiceprint is None:
                return None
            scored.append(voiceprint.scored(probe[encoder_id]))
        return scored[0] if len(scored) == 1 else replace(scored[0], second_score=scored[1].score)


def _completed(
    own: Sequence[ScoredSpeaker], others: Sequence[ScoredSpeaker], view: EnrolledView, probe: NDArray[np.float32]
) -> dict[SpeakerId, ScoredSpeaker]:
    """Score those whom only the other encoder proposed."""
    known = {speaker.speaker_id: speaker for speaker in own}
    missing = [speaker.speaker_id for speaker in others if speaker.speaker_id not in known]
    return known | {speaker.speaker_id: speaker for speaker in view.scored(probe, missing)}
