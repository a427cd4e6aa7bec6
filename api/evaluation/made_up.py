"""Made-up voices that fill a gallery: how often strangers are named among 100,000, where a few hundred are at hand.

A made-up voice is a real one, moved at random along the differences between real ones. Under every encoder the same
voice is moved along the same differences, so that whoever resembles a probe under one may do so under the other.
Made-up voices resemble a probe less often than as many real ones would: what holds among them is the least that must.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from api.evaluation.protocols import Numbers, Protocol
from indexer.errors import InvalidRequest

SPREAD = 0.67
"""Length of what is added to a unit vector: two made of one voice have a cosine of 0.69, as a voice has with itself."""

MIN_BASES = 50
"""Voices to make others of under which they would all be alike."""

_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class MadeUp:
    """So many voices beside those that are enrolled.

    Attributes
    ----------
    bases
        Places of the recordings that they are made of, which are neither enrolled nor looked up.
    count
        How many there are.
    seed
        Of how each is moved.
    """

    bases: Numbers
    count: int
    seed: int

    def originals(self, usable: NDArray[np.bool_]) -> Numbers:
        """Return the (count,) recordings that they are made of.

        Raises
        ------
        InvalidRequest
            If there are too few that can be used.
        """
        bases = self.bases[usable[self.bases]]
        if len(bases) < MIN_BASES:
            raise InvalidRequest(
                f"--made-up: {len(bases)} speakers with a single recording, of whom voices could be made up; give "
                f"{MIN_BASES} or more"
            )
        return np.resize(bases, self.count)

    def voiceprints(self, vectors: NDArray[np.float32], originals: Numbers) -> NDArray[np.float32]:
        """Return their (count, D) unit vectors, of those of all recordings."""
        bases = np.unique(originals)
        deviations = vectors[bases] - vectors[bases].mean(axis=0)
        length = SPREAD / np.sqrt((deviations**2).sum(axis=1).mean() * len(bases))
        made = np.empty((len(originals), vectors.shape[1]), dtype=np.float32)
        rng = np.random.default_rng(self.seed)
        for start in range(0, len(originals), _AT_ONCE):
            part = originals[start : start + _AT_ONCE]
            moved = vectors[part] + length * (rng.standard_normal((len(part), len(bases)), np.float32) @ deviations)
            made[start : start + _AT_ONCE] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return made


def set_aside(protocol: Protocol, count: int, seed: int) -> tuple[Protocol, MadeUp]:
    """Take the speakers with nothing but one recording out of a protocol, to make voices of them."""
    asked = set(protocol.own.tolist())
    alone = [place for place, numbers in enumerate(protocol.enrolled) if len(numbers) == 1 and place not in asked]
    kept = [place for place in range(len(protocol.speakers)) if place not in set(alone)]
    number = {place: new for new, place in enumerate(kept)}
    rest = replace(
        protocol,
        speakers=tuple(protocol.speakers[place] for place in kept),
        enrolled=tuple(protocol.enrolled[place] for place in kept),
        own=np.array([number.get(place, -1) for place in protocol.own.tolist()], dtype=np.int64),
    )
    bases = np.array([protocol.enrolled[place][0] for place in alone], dtype=np.int64)
    return rest, MadeUp(bases, count, seed)
