"""How the best of many strangers scores, learned from probes and speakers who are not the same."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from search.open_set import RIVALS, OpenSetModel, best_of_strangers

Floats = NDArray[np.float64]

MIN_STRANGERS = 50
MIN_PROBES = 100
"""Strangers for each probe, and probes, under which an error rate of 1 % cannot be learned."""

TRUST = 1.0
SPREAD_WEIGHT = 50.0
AMONG = 0.2
HALF_TRUST = 2.0
"""See docs/decisions/0020 for what was tried."""

_AIM = 0.8
"""Share of the asked rate that is aimed at: "at most" is a promise, and other recordings differ from these."""

_RATES = (0.01, 0.02, 0.05, 0.1)
_SIZES = (10, 20, 50, 100, 200, 500, 1000)
_DRAWS = 6_000
"""Probes looked up in galleries of each size, the same ones again among other strangers."""


def fit_open_set(llrs: Sequence[Floats], *, seed: int = 20260101) -> OpenSetModel | None:
    """Fit thresholds for the best of a gallery, from each probe's llrs with strangers; None where there are too few.

    Parameters
    ----------
    llrs
        For each probe, its llrs with other speakers, one for each of them.
    """
    usable = [row for row in llrs if len(row) >= MIN_STRANGERS]
    if len(usable) < MIN_PROBES:
        return None
    rng = np.random.default_rng(seed)
    least = min(len(row) for row in usable)
    sizes = [size for size in _SIZES if size < least] + [least]
    galleries = {size: _looked_up(usable, size, rng) for size in sizes}
    z, tops = [], []
    for size, ranked in galleries.items():
        for rate in _RATES:
            z.append(best_of_strangers(rate, size))
            tops.append(np.quantile(ranked[:, 0], 1.0 - _AIM * rate))
    rise, level = _line(z, tops)
    spread = float(np.mean([np.std(row) for row in usable]))
    model = OpenSetModel(level, rise, spread, SPREAD_WEIGHT, TRUST, among=AMONG, half_trust=HALF_TRUST)
    corrections = []
    for size, ranked in galleries.items():
        rivals = ranked[:, 1 : RIVALS + 1]
        share = model.share(min(rivals.shape[1], model.rivals_among(size)))
        for rate in _RATES:
            short = ranked[:, 0] - model.thresholds(rate, gallery_size=size, rivals=rivals)
            corrections.append(np.quantile(short, 1.0 - _AIM * rate) / share)
    slope, offset = _line(z, corrections)
    return replace(model, correction=offset, correction_rise=slope)


def _looked_up(usable: Sequence[Floats], size: int, rng: np.random.Generator) -> Floats:
    """Return the llrs of the best speaker and the rivals, (n, k) best first, of probes in random galleries."""
    kept = min(size, RIVALS + 1)
    ranked = []
    for _ in range(max(1, _DRAWS // len(usable))):
        for row in usable:
            drawn = rng.choice(row, size, replace=False)
            ranked.append(np.sort(drawn)[::-1][:kept])
    return np.stack(ranked)


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return slope and offset of the line nearest to the points."""
    slope, offset = np.polynomial.polynomial.Polynomial.fit(x, y, 1).convert().coef[::-1]
    return float(slope), float(offset)
