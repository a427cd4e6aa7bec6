"""How the best of many strangers scores, learned from probes and speakers who are not the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.open_set import CROWD, RIVALS, OpenSetModel, best_of_strangers, tail_spreads

Floats = NDArray[np.float64]

MIN_STRANGERS = 50
MIN_PROBES = 100
"""Strangers for each probe, and probes, under which an error rate of 1 % cannot be learned."""

TRUST = 1.0
SPREAD_WEIGHT = 50.0
AMONG = 0.2
HALF_TRUST = 2.0
ALIKE = 225
"""See docs/decisions/0020 for what was tried."""

_LEAST_TAIL = 50
"""Speakers of a gallery from which on its rivals show how llrs are spread."""

_RATES = (0.01, 0.02, 0.05, 0.1)
_SIZES = (10, 20, 50, 100, 200, 500, 1000)
_DRAWS = 6_000
"""Probes looked up in galleries of each size, the same ones again among other strangers."""

_CROWD_RATE = 0.01
_CROWD_DRAWS = 20_000
_REAL_IN_A_CROWD = 100
_LEAST_OF_A_KIND = 20
"""Speakers of a set that show how a crowd of such would score."""


class Kinds(NamedTuple):
    """Of which set each probe is, and which set each of the speakers that it is compared with is of."""

    probes: NDArray[np.str_]
    speakers: Sequence[NDArray[np.str_]]


def fit_open_set(
    llrs: Sequence[Floats], slopes: Floats | None = None, kinds: Kinds | None = None, *, seed: int = 20260101
) -> OpenSetModel | None:
    """Fit thresholds for the best of a gallery, from each probe's llrs with strangers; None where there are too few.

    Parameters
    ----------
    llrs
        For each probe, its llrs with other speakers, one for each of them.
    slopes : (n,) array, optional
        How much the llr of each probe rises with its score; None: the same for all.
    kinds
        Sets of both sides, which show how crowds who were recorded otherwise score; None: unknown.
    """
    enough = np.array([len(row) >= MIN_STRANGERS for row in llrs], dtype=bool)
    usable = [row for row, kept in zip(llrs, enough, strict=True) if kept]
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
            tops.append(np.quantile(ranked[:, 0], 1.0 - rate))
    rise, level = _line(z, tops)
    own = np.ones(len(usable)) if slopes is None else slopes[enough]
    typical = float(own.mean())
    model = OpenSetModel(
        level,
        rise,
        0.0,
        SPREAD_WEIGHT,
        TRUST,
        among=AMONG,
        half_trust=HALF_TRUST,
        alike=ALIKE,
        slope=None if slopes is None else typical,
    )
    model = replace(model, spread=_tail_spread(model, galleries))
    heights, corrections = [], []
    for size, ranked in galleries.items():
        rivals = ranked[:, 1 : RIVALS + 1]
        share = model.share(min(rivals.shape[1], model.rivals_among(size)))
        each = np.tile(own, len(ranked) // len(usable))
        for rate in _RATES:
            thresholds = model.thresholds(rate, gallery_size=size, rivals=rivals, slopes=each)
            short = (ranked[:, 0] - thresholds) / (each / typical)
            heights.append(best_of_strangers(rate, min(size, ALIKE)))
            corrections.append(np.quantile(short, 1.0 - rate) / share)
    slope, offset = _line(heights, corrections)
    model = replace(model, correction=offset, correction_rise=slope)
    if kinds is None:
        return model
    usable_kinds = Kinds(kinds.probes[enough], [kinds.speakers[place] for place in np.flatnonzero(enough).tolist()])
    return replace(model, crowd=_crowd(model, usable, own, usable_kinds, rng))


def _tail_spread(model: OpenSetModel, galleries: Mapping[int, Floats]) -> float:
    """Return the mean spread that the rivals themselves show."""
    found = []
    for size, ranked in galleries.items():
        if size >= _LEAST_TAIL:
            alike = min(size, ALIKE)
            found.append(tail_spreads(ranked[:, 1 : model.rivals_among(alike) + 1], alike).mean())
    return float(np.mean(found))


def _looked_up(usable: Sequence[Floats], size: int, rng: np.random.Generator) -> Floats:
    """Return the llrs of the best speaker and the rivals, (n, k) best first, of probes in random galleries."""
    kept = min(size, RIVALS + 1)
    ranked = []
    for _ in range(max(1, _DRAWS // len(usable))):
        for row in usable:
            drawn = rng.choice(row, size, replace=False)
            ranked.append(np.sort(drawn)[::-1][:kept])
    return np.stack(ranked)


def _crowd(
    model: OpenSetModel, usable: Sequence[Floats], slopes: Floats, kinds: Kinds, rng: np.random.Generator
) -> float | None:
    """Return what thresholds among `CROWD` speakers need more, so that no kind of probe is named oftener than asked.

    Beside some real speakers stand so many with llrs as the probe has with speakers of another set than its own:
    normal, with their mean and spread. None where there are no speakers of other sets to make crowds of.
    """
    from scipy.special import ndtri

    likely = [
        _others(row, sets, own) for row, sets, own in zip(usable, kinds.speakers, kinds.probes.tolist(), strict=True)
    ]
    ranked, probes = [], []
    for _ in range(max(1, _CROWD_DRAWS // len(usable))):
        for place, (row, others) in enumerate(zip(usable, likely, strict=True)):
            if not others:
                continue
            mean, spread = others[rng.integers(len(others))]
            # The upper tail of so many uniform draws: a sum of exponential ones.
            tail = np.cumsum(rng.exponential(size=RIVALS + 1)) / (CROWD - _REAL_IN_A_CROWD)
            real = rng.choice(row, min(_REAL_IN_A_CROWD, len(row)), replace=False)
            everybody = np.concatenate([mean - spread * ndtri(tail), real])
            ranked.append(np.sort(everybody)[::-1][: RIVALS + 1])
            probes.append(place)
    if not ranked:
        return None
    among, each = np.stack(ranked), slopes[probes]
    thresholds = model.thresholds(_CROWD_RATE, gallery_size=CROWD, rivals=among[:, 1:], slopes=each)
    short = (among[:, 0] - thresholds) / (each / float(slopes.mean())) / model.share(model.rivals_among(CROWD))
    of_kind = kinds.probes[probes]
    counted = Counter(kinds.probes[np.unique(probes)].tolist())
    many = [name for name, count in counted.items() if count >= MIN_STRANGERS] or list(counted)
    return max(float(np.quantile(short[of_kind == name], 1.0 - _CROWD_RATE)) for name in many)


def _others(row: Floats, sets: NDArray[np.str_], own: str) -> list[tuple[float, float]]:
    """Return mean and standard deviation of a probe's llrs with the speakers of each other set that has enough."""
    found = []
    for name, count in zip(*np.unique(sets, return_counts=True), strict=True):
        if count >= _LEAST_OF_A_KIND and name != own:
            like = row[sets == name]
            found.append((float(like.mean()), float(like.std(ddof=1))))
    return found


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return slope and offset of the line nearest to the points."""
    slope, offset = np.polynomial.polynomial.Polynomial.fit(x, y, 1).convert().coef[::-1]
    return float(slope), float(offset)
