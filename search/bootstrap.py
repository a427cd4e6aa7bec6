"""Confidence intervals by drawing speakers again: trials of one speaker are not independent, speakers are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest

Measure = Callable[[NDArray[np.float64] | None], Mapping[str, float]]
"""Figures by name under weights; None: each item weighs one."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure with its confidence interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made: percentile bootstrap over speakers.

    Attributes
    ----------
    draws
        Resamples; 0: no intervals.
    level
        Share of resamples inside the interval.
    seed
        Of the draws; equal seeds give equal intervals.
    """

    draws: int = 200
    level: float = 0.95
    seed: int = 20260101

    def speaker_weights(self, speakers: Sequence[object]) -> Iterator[NDArray[np.float64]]:
        """Yield weights of items that belong to one speaker each: how often that speaker was drawn."""
        names, index = _numbered(speakers)
        for counts in self._counts(names):
            yield counts[index]

    def trial_weights(self, first: Sequence[object], second: Sequence[object]) -> Iterator[NDArray[np.float64]]:
        """Yield weights of trials: a pair counts as often as both of its speakers were drawn together.

        A target trial, whose two sides are one speaker, counts as often as that speaker was drawn; two draws of one
        speaker are no nontarget trial.
        """
        names, index = _numbered([*first, *second])
        a, b = index[: len(first)], index[len(first) :]
        same = a == b
        for counts in self._counts(names):
            yield np.where(same, counts[a], counts[a] * counts[b])

    def estimate(self, measure: Measure, weights: Iterator[NDArray[np.float64]]) -> dict[str, Estimate]:
        """Measure figures on the data, and on every resample for their intervals.

        A resample in which the figures have no value (no speaker of one kind was drawn) is left out.
        """
        values = measure(None)
        drawn: dict[str, list[float]] = {name: [] for name in values}
        for weight in weights:
            try:
                resampled = measure(weight)
            except (InvalidRequest, ZeroDivisionError):
                continue
            for name in values:
                drawn[name].append(resampled[name])
        return {name: self._interval(value, drawn[name]) for name, value in values.items()}

    def _interval(self, value: float, drawn: list[float]) -> Estimate:
        if len(drawn) < max(2, self.draws // 2):
            return Estimate(value, None, None)
        tail = (1 - self.level) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Estimate(value, float(low), float(high))

    def _counts(self, speakers: int) -> Iterator[NDArray[np.float64]]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.draws if speakers > 1 else 0):
            drawn = rng.integers(0, speakers, speakers)
            yield np.bincount(drawn, minlength=speakers).astype(np.float64)


def _numbered(labels: Sequence[object]) -> tuple[int, NDArray[np.int64]]:
    """Return how many labels there are, and each item's number."""
    numbers: dict[object, int] = {}
    index = np.fromiter(
        (numbers.setdefault(label, len(numbers)) for label in labels), dtype=np.int64, count=len(labels)
    )
    return len(numbers), index
