"""How well compressed codes find what an exhaustive comparison finds, measured on the vectors themselves."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from indexer.index.scans import Positions
from indexer.types import Vectors

NEIGHBORS = 10
"""k of the recall that is measured."""

TARGET_RECALL = 0.999

PROBES = 384
"""Vectors that are searched with, each left out of what it may find: 3,840 neighbors in all."""

MISSED = 4e-4
"""Share of the nearest that the margin is to leave out: less than `TARGET_RECALL` allows, so that chance has room."""

_SHOWN = (0.9, 0.99)
"""Shares of shortfalls that say where the largest lie, as those of a normal distribution would.

The largest itself says it badly. Of 256 probes at a time, half of them strangers, drawn from 1,000 at 1,000,000
clustered vectors, this gave 0.082 with a standard deviation of 0.003, and 1.1 times the largest of 128 gave 0.092 with
one of 0.009 to 0.016, where 0.077 left out 5 of 10,000. Each 0.01 more has a third more rows scored."""

_ROOM = 1.1
"""How much wider than the largest shortfall of probes that showed it to be too narrow the margin is made."""

_WIDENINGS = 3
"""How often the margin is widened at most, each time for what new probes were found to need."""

_COUNTED = 128
"""Probes for which the rows that the margin calls for are counted: 64 of them of voices that are not there."""

_SUFFICES = 0.98
"""Share of strangers whose first fetch is to suffice: a second is one more pass over the codes."""

SAME_VOICE = 0.5
"""Cosine from which on two vectors are taken for one voice, when a probe is to stand for a voice that is not there.

Far below what one voice's vectors reach (about 0.7) and far above any two strangers' (0.3 among a million)."""

DEEPEST = 16_384
"""Most candidates that are fetched at first."""


@dataclass(frozen=True)
class Calibration:
    """What turns the scores of codes into estimates of cosines, and how much they may be off."""

    gain: float = 1.0
    """Factor that makes the scores of codes estimates of cosines."""
    margin: float = 2.0
    """By which all but a few of the ten nearest are estimated below the tenth of them at most."""
    candidates: int = DEEPEST
    """First fetch that suffices for nearly all probes of voices that are not there, which need most."""
    recall_at_10: float = 1.0
    """Share of the ten nearest, of probes that did not choose the margin, that lie within it."""
    mean_reranked: float = 0.0
    """Vectors that were scored exactly for a probe."""
    trained_on: int = 0
    """Vectors in the training sample."""
    trained_at_count: int = 0
    """Vectors in the index when it was trained."""
    measured_at_count: int = 0
    """Vectors in the index when it was measured."""

    @classmethod
    def read(cls, body: dict[str, Any]) -> Self:
        """Take it from a snapshot."""
        return cls(**body)

    def body(self) -> dict[str, Any]:
        """Write it for a snapshot."""
        return asdict(self)

    def details(self) -> dict[str, str | int | float]:
        """Show it to users."""
        shown: dict[str, str | int | float] = asdict(self)
        return {name: round(value, 5) if isinstance(value, float) else value for name, value in shown.items()}


@dataclass(frozen=True, eq=False)
class Truth:
    """The nearest vectors of probes that are vectors of the index themselves."""

    probes: Vectors
    """(P, D)."""
    scores: NDArray[np.float32]
    """(P, 10) falling; -inf where fewer were there."""
    positions: Positions
    """(P, 10); -1 likewise."""

    def part(self, some: slice) -> "Truth":
        """Those of some probes; it must begin with an even number."""
        return Truth(self.probes[some], self.scores[some], self.positions[some])


class Measured(Protocol):
    """A scan whose estimates are measured: before `gain` and `margin` are known, too."""

    def raw_search(self, probes: Vectors, fetch: int) -> tuple[NDArray[np.float32], Positions]:
        """Best (Q, F) scores of codes and their positions."""
        ...

    def raw_scores(self, probes: Vectors, positions: Positions) -> NDArray[np.float32]:
        """Scores of the codes at (Q, m) positions, one row a probe."""
        ...


class RowSource(Protocol):
    """Where the vectors are."""

    @property
    def order(self) -> Positions:
        """(n,) positions of all vectors."""
        ...

    def rows_at(self, positions: Positions) -> NDArray[Any]:
        """(m, D) vectors at positions."""
        ...


@dataclass(frozen=True, eq=False)
class _Draw:
    """Probes, what is nearest to them, and how the codes of that score."""

    truth: Truth
    raw: NDArray[np.float32]

    def part(self, some: slice) -> "_Draw":
        return _Draw(self.truth.part(some), self.raw[some])

    def shortfalls(self, gain: float) -> NDArray[np.float64]:
        return shortfalls(self.truth, self.raw * gain)

    def recall(self, gain: float, margin: float) -> float:
        missing = self.shortfalls(gain)
        return float((missing <= margin).mean()) if len(missing) else 1.0


Blocks = Callable[[], Iterator[tuple[Positions, Vectors]]]
"""Begins a pass over all vectors, some thousands at a time, with their positions."""


def measure(
    scan: Measured,
    source: RowSource,
    blocks: Blocks,
    random: np.random.Generator,
    known: Calibration | None = None,
) -> Calibration:
    """Measure how well a scan finds the ten nearest, and choose what it needs for that.

    Two thirds of the probes choose gain and margin, the others say what recall that gives. If it is too little, the
    margin is widened by what they need, and new probes say what recall that gives: no probe measures a margin that it
    chose. It is left at that after some times, whatever recall was found last.

    Parameters
    ----------
    blocks : callable
        Begins a pass over all vectors.
    known : Calibration, optional
        What was chosen before: its gain is kept, and its margin, as long as that is found to be wide enough.
    """
    first = draw = _draw(scan, source, blocks, random, PROBES)
    if known is None:
        fitted = max(2 * len(draw.raw) // 3 // 2 * 2, 2)
        chosen = draw.part(slice(0, fitted))
        gain, margin = fit(chosen.truth, chosen.raw)
        draw = draw.part(slice(fitted, len(draw.raw)))
    else:
        gain, margin = known.gain, known.margin
    recall = draw.recall(gain, margin)
    for _ in range(_WIDENINGS):
        if recall >= TARGET_RECALL:
            break
        margin = max(margin, _ROOM * float(np.max(draw.shortfalls(gain))))
        draw = _draw(scan, source, blocks, random, PROBES // 2)
        recall = draw.recall(gain, margin)
    needed = _needed(scan, first.truth, gain, margin)
    of_strangers = needed[1::2] if len(needed) > 1 else needed
    return Calibration(
        gain=gain,
        margin=margin,
        candidates=int(np.clip(np.quantile(of_strangers, _SUFFICES), 64, DEEPEST)),
        recall_at_10=recall,
        mean_reranked=float(needed.mean()),
    )


def _draw(scan: Measured, source: RowSource, blocks: Blocks, random: np.random.Generator, count: int) -> _Draw:
    own = np.sort(random.choice(source.order, min(count, len(source.order)), replace=False))
    random.shuffle(own)
    probes = source.rows_at(own).astype(np.float32, copy=False)
    truth = find_truth(probes, own, blocks())
    return _Draw(truth, scan.raw_scores(probes, truth.positions))


def _needed(scan: Measured, truth: Truth, gain: float, margin: float) -> NDArray[np.float64]:
    """Count the rows that the margin calls for, for some of the probes."""
    some = truth.part(slice(0, _COUNTED))
    scores, _ = scan.raw_search(some.probes, DEEPEST)
    estimates = scores * gain
    last = np.min(np.where(some.positions >= 0, some.scores, np.inf), axis=1, keepdims=True)
    wanted = estimates >= last - margin
    unknown = np.arange(len(wanted)) % 2 == 1
    wanted[unknown] &= estimates[unknown] < SAME_VOICE
    counts: NDArray[np.float64] = wanted.sum(axis=1).astype(np.float64)
    return counts


def find_truth(probes: Vectors, own: Positions, blocks: Iterator[tuple[Positions, Vectors]]) -> Truth:
    """Compare probes with everything.

    Parameters
    ----------
    probes : (P, D) float32 array
        Vectors of the index; every second one stands for a voice of which the index has nothing.
    own : (P,) int64 array
        Where they are: none finds itself.
    blocks : iterator of (positions, vectors)
        The whole index.
    """
    best = np.full((len(probes), NEIGHBORS), -np.inf, dtype=np.float32)
    places = np.full((len(probes), NEIGHBORS), -1, dtype=np.int64)
    unknown = np.arange(len(probes)) % 2 == 1
    for positions, vectors in blocks:
        scores = probes @ vectors.T  # (P, D) x (D, n) -> (P, n)
        scores[unknown] = np.where(scores[unknown] >= SAME_VOICE, -np.inf, scores[unknown])
        itself = np.searchsorted(positions, own)
        here = np.flatnonzero((itself < len(positions)) & (positions[np.minimum(itself, len(positions) - 1)] == own))
        scores[here, itself[here]] = -np.inf
        # Nearly nothing is better than the ten best so far: only that is sorted in.
        for probe in np.flatnonzero((scores > best[:, -1:]).any(axis=1)):
            better = np.flatnonzero(scores[probe] > best[probe, -1])
            merged = np.concatenate([best[probe], scores[probe, better]])
            order = np.argsort(-merged, kind="stable")[:NEIGHBORS]
            best[probe], places[probe] = merged[order], np.concatenate([places[probe], positions[better]])[order]
    return Truth(probes, best, places)


def fit(truth: Truth, estimates: NDArray[np.float32]) -> tuple[float, float]:
    """Choose gain and margin.

    Parameters
    ----------
    estimates : (P, 10) float32 array
        Scores of the codes of the nearest, as the scan makes them.

    Returns
    -------
    gain, margin : float
        The margin is what all but `MISSED` of the nearest are estimated too low by at most: a row is fetched if its
        estimate reaches the tenth best cosine less the margin.
    """
    there = truth.positions >= 0
    exact, raw = truth.scores[there].astype(np.float64), estimates[there].astype(np.float64)
    gain = float((exact * raw).sum() / max((raw * raw).sum(), 1e-12))
    missing = shortfalls(truth, estimates * gain)
    return gain, max(_reached_by(missing, MISSED), 0.0) if len(missing) else 0.0


def _reached_by(numbers: NDArray[np.float64], share: float) -> float:
    """Say which number so small a share of such numbers is above that hardly one of those that are there is."""
    normal = NormalDist()
    low, high = np.quantile(numbers, _SHOWN)
    z_low, z_high = map(normal.inv_cdf, _SHOWN)
    spread = (high - low) / (z_high - z_low)
    return float(high + spread * (normal.inv_cdf(1.0 - share) - z_high))


def shortfalls(truth: Truth, estimates: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """By how much each of the nearest is estimated below the last of its ten: (P, 10) -> (m,) of those there are."""
    there = truth.positions >= 0
    last = np.min(np.where(there, truth.scores, np.inf), axis=1, keepdims=True)
    missing: NDArray[np.float64] = (last - estimates)[there].astype(np.float64)
    return missing
