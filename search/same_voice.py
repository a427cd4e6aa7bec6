"""One voice under two names: which other speakers of a gallery sound like the one who was just enrolled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.identification import ProbeQuality, Rules, ScoredSpeaker, probe_slope, speaker_llrs
from search.open_set import RIVALS
from search.operating_point import identification_point, verification_point


@dataclass(frozen=True, slots=True)
class SameVoice:
    """Another speaker whose voice this seems to be, with what speaks for it; `llr` is None where uncalibrated."""

    speaker: str
    score: float
    llr: float | None


def same_voices(
    found: Sequence[ScoredSpeaker], *, gallery_size: int, quality: ProbeQuality, claim: Rules, naming: Rules
) -> list[SameVoice]:
    """Return the speakers who would be accepted as this one, likeliest first.

    Each must pass as a claim, and be more than the best of so many strangers is by chance: in a gallery of a thousand
    speakers somebody passes as nearly everybody, at one false claim in a thousand.

    Parameters
    ----------
    found
        The speakers whom this one's voiceprint resembles most, without itself: `RIVALS` and a few, or all there are.
    gallery_size
        Speakers it was compared with.
    quality
        Of what the voiceprint is made of.
    claim, naming
        Who decides about a claim, and about the best of a gallery.

    Raises
    ------
    InvalidRequest
        If a threshold or a rate is asked for and cannot be had.
    """
    if not found:
        return []
    llrs = speaker_llrs(found, quality, claim.calibration)
    known = [None] * len(found) if llrs is None else llrs.tolist()
    point = verification_point(claim.calibration, claim.layers, encoder=claim.encoder)
    accepted = [point.band(speaker.score, llr) == "identified" for speaker, llr in zip(found, known, strict=True)]
    # Others of the same voice are no strangers: they say nothing of how high strangers score.
    rivals = np.empty(0) if llrs is None else np.sort(llrs[~np.array(accepted)])[::-1][:RIVALS]
    bar = identification_point(
        naming.calibration,
        naming.layers,
        gallery_size=max(gallery_size, len(rivals) + 1),
        rivals=rivals,
        slope=probe_slope(quality, naming.calibration),
        encoder=naming.encoder,
    )
    same = [
        SameVoice(speaker.speaker, speaker.score, llr)
        for speaker, llr, passes in zip(found, known, accepted, strict=True)
        if passes and bar.band(speaker.score, llr) != "unknown"
    ]
    return sorted(same, key=lambda one: -(one.score if one.llr is None else one.llr))
