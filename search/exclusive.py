"""Two voices of one recording are not the same person: who is whom when each speaker is given to one voice at most."""

from collections.abc import Mapping, Sequence

import numpy as np

from indexer.types import SpeakerId


def assign_speakers(values: Sequence[Mapping[SpeakerId, float]]) -> list[SpeakerId | None]:
    """Give each voice a speaker of its own, so that together they are worth most.

    Parameters
    ----------
    values
        For each voice what each speaker is worth to it: how far the llr (or the cosine) is above the edge from which on
        somebody is named or possible. Whoever is not above it is given to nobody.

    Returns
    -------
    list of SpeakerId or None
        One for each voice; None where nobody is left who is worth anything to it.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 2 (1955).
    """
    speakers = sorted({speaker for worth in values for speaker, value in worth.items() if value > 0})
    if not speakers:
        return [None] * len(values)
    from scipy.optimize import linear_sum_assignment

    table = np.array([[max(0.0, worth.get(speaker, 0.0)) for speaker in speakers] for worth in values])
    given: list[SpeakerId | None] = [None] * len(values)
    for voice, place in zip(*linear_sum_assignment(table, maximize=True), strict=True):
        if table[voice, place] > 0:
            given[voice] = speakers[place]
    return given
