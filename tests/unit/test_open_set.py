"""Thresholds for the best of a gallery: they hold for galleries of any size, and follow the probe."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from indexer.errors import InvalidRequest
from search.open_set import RIVALS, OpenSetModel, best_of_strangers
from search.open_set_fit import Kinds, fit_open_set


def _probes(count: int, strangers: int, *, seed: int, shift: float = 0.0) -> list[np.ndarray]:
    """The llrs of probes with strangers: normal, around a mean of each probe's own."""
    rng = np.random.default_rng(seed)
    return list(rng.normal(-8 + shift + rng.normal(0, 1.5, (count, 1)), 3.0, (count, strangers)))


@pytest.fixture(scope="module")
def model() -> OpenSetModel:
    fitted = fit_open_set(_probes(600, 400, seed=1))
    assert fitted is not None
    return fitted


def _named(model: OpenSetModel, fpir: float, size: int, *, probes: int = 4000, shift: float = 0.0) -> float:
    rows = np.sort(np.stack(_probes(probes, size, seed=2, shift=shift)), axis=1)[:, ::-1]
    thresholds = model.thresholds(fpir, gallery_size=size, rivals=rows[:, 1 : RIVALS + 1])
    return float(np.mean(rows[:, 0] >= thresholds))


def test_the_best_of_one_is_as_high_as_one() -> None:
    assert best_of_strangers(0.01, 1) == pytest.approx(2.3263, abs=1e-4)
    # P(best of 100 < z) = Phi(z)^100 = 0.99
    assert best_of_strangers(0.01, 100) == pytest.approx(3.7176, abs=1e-3)
    assert best_of_strangers(1e-6, 10_000_000) == pytest.approx(7.3487, abs=1e-3)


@pytest.mark.parametrize("size", [1, 5, 20, 100, 380, 2_000])
def test_as_many_unknown_voices_are_named_as_was_asked_for(model: OpenSetModel, size: int) -> None:
    assert 0.003 <= _named(model, 0.01, size) <= 0.02
    assert 0.03 <= _named(model, 0.1, size) <= 0.15


def test_the_rate_holds_in_galleries_far_larger_than_those_of_the_fit(model: OpenSetModel) -> None:
    assert 0.003 <= _named(model, 0.01, 50_000, probes=600) <= 0.025


def test_probes_that_resemble_everybody_more_are_named_hardly_more_often(model: OpenSetModel) -> None:
    # As over a channel that the calibration has not seen: a fixed threshold names a third of them.
    assert _named(model, 0.01, 200, shift=3.0) < 0.04


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(60, 10**6),
    more=st.integers(1, 10**6),
    fpir=st.floats(1e-4, 0.2),
    rarer=st.floats(0.05, 0.9),
    middle=st.floats(-20, 5),
)
def test_a_stricter_rate_never_lowers_the_threshold(
    model: OpenSetModel, size: int, more: int, fpir: float, rarer: float, middle: float
) -> None:
    rivals = middle + np.linspace(3, -3, 50)
    loose = model.threshold(fpir, gallery_size=size, rivals=rivals)
    assert model.threshold(fpir * rarer, gallery_size=size, rivals=rivals) >= loose
    nobody = model.threshold(fpir, gallery_size=size, rivals=[])
    assert model.threshold(fpir, gallery_size=size + more, rivals=[]) >= nobody


@settings(max_examples=50, deadline=None)
@given(shift=st.floats(0.01, 10))
def test_stronger_rivals_raise_the_threshold(model: OpenSetModel, shift: float) -> None:
    rivals = np.linspace(1, -4, 30)
    low, high = model.thresholds(0.01, gallery_size=200, rivals=np.stack([rivals, rivals + shift]))
    assert high > low


@pytest.mark.parametrize("fpir", [0.0, 1.0, -1.0, math.nan])
def test_a_rate_that_is_none_is_refused(model: OpenSetModel, fpir: float) -> None:
    with pytest.raises(InvalidRequest, match="fpir"):
        model.threshold(fpir, gallery_size=10, rivals=[])


def test_more_rivals_than_speakers_are_refused(model: OpenSetModel) -> None:
    with pytest.raises(InvalidRequest, match="3 rivals in a gallery of 3"):
        model.threshold(0.01, gallery_size=3, rivals=[1.0, 0.5, 0.0])
    with pytest.raises(InvalidRequest, match="gallery of 0"):
        model.threshold(0.01, gallery_size=0, rivals=[])


def test_a_gallery_of_one_has_a_threshold(model: OpenSetModel) -> None:
    assert math.isfinite(model.threshold(0.01, gallery_size=1, rivals=[]))


def test_too_few_probes_or_strangers_fit_nothing() -> None:
    assert fit_open_set(_probes(99, 400, seed=1)) is None
    assert fit_open_set(_probes(600, 49, seed=1)) is None
    assert fit_open_set([]) is None


def test_people_of_another_kind_in_a_small_gallery_do_not_make_it_lenient(model: OpenSetModel) -> None:
    # Three in four are recorded otherwise, and resemble the probe far less than the model's normal draws would.
    rows = np.stack(_probes(4000, 60, seed=5))
    rows[:, 15:] -= 8.0
    ranked = np.sort(rows, axis=1)[:, ::-1]
    named = ranked[:, 0] >= model.thresholds(0.01, gallery_size=60, rivals=ranked[:, 1 : RIVALS + 1])
    assert float(named.mean()) < 0.025


def test_a_model_of_before_looks_at_everybody_and_is_written_as_it_was(model: OpenSetModel) -> None:
    earlier = OpenSetModel(level=-7.0, rise=3.2, spread=2.6, spread_weight=50.0, trust=0.7, correction_rise=0.1)
    assert earlier.unwritten == ("among", "half_trust", "alike", "slope", "crowd")
    assert model.unwritten == ("slope", "crowd")
    assert (earlier.rivals_among(40), earlier.rivals_among(10**6)) == (40, RIVALS)
    assert [model.rivals_among(size) for size in (3, 40, 225, 10**6)] == [5, 8, 45, 45]


@settings(max_examples=50, deadline=None)
@given(
    people=st.lists(st.floats(-15, 3), min_size=300, max_size=400),
    more=st.lists(st.floats(-15, 3), max_size=300),
    spread=st.floats(0, 10),
)
def test_from_some_hundreds_on_the_threshold_falls_with_nobody_who_is_added(
    model: OpenSetModel, people: list[float], more: list[float], spread: float
) -> None:
    # With the spread that is known beforehand: the rivals' own falls as people of another kind fill up the ranks.
    steady = replace(model, spread=spread, spread_weight=1e9)
    before, after = (np.sort(llrs)[::-1][1 : RIVALS + 1] for llrs in (people, people + more))
    few = steady.threshold(0.01, gallery_size=len(people), rivals=before)
    assert steady.threshold(0.01, gallery_size=len(people) + len(more), rivals=after) >= few - 1e-9


def test_a_crowd_recorded_otherwise_does_not_make_a_gallery_lenient(model: OpenSetModel) -> None:
    # A hundred people are recorded as the probe is, 20,000 are not: the best of the hundred is the best of all.
    rng = np.random.default_rng(6)
    alike, crowd = np.stack(_probes(400, 100, seed=7)), rng.normal(-11.0, 2.0, (400, 20_000))
    ranked = -np.sort(-np.concatenate([alike, crowd], axis=1), axis=1)[:, : RIVALS + 1]

    def named(judge: OpenSetModel) -> float:
        return float(np.mean(ranked[:, 0] >= judge.thresholds(0.01, gallery_size=20_100, rivals=ranked[:, 1:])))

    assert named(model) <= 0.02 < named(replace(model, alike=None))


def test_probes_whose_llrs_rise_more_with_the_score_need_more_of_it() -> None:
    rng = np.random.default_rng(8)
    slopes = np.repeat([15.0, 30.0], 300)
    llrs = list(rng.normal(-6.0, 0.1 * slopes[:, None], (600, 300)))
    fitted = fit_open_set(llrs, slopes)
    assert fitted is not None
    assert fitted.slope == pytest.approx(22.5)
    assert fitted.spread == pytest.approx(2.25, abs=0.3)
    for slope in (15.0, 30.0):
        rows = -np.sort(-rng.normal(-6.0, 0.1 * slope, (4000, 100)), axis=1)
        thresholds = fitted.thresholds(0.01, gallery_size=100, rivals=rows[:, 1:51], slopes=np.full(4000, slope))
        assert 0.003 <= float(np.mean(rows[:, 0] >= thresholds)) <= 0.02
    typical = fitted.threshold(0.01, gallery_size=100, rivals=rows[0, 1:51])
    assert typical == fitted.threshold(0.01, gallery_size=100, rivals=rows[0, 1:51], slope=22.5)


def _kinds(count: int, strangers: int) -> Kinds:
    """Half of the probes and of the speakers are words, half are readings."""
    sets = np.array(["words", "readings"])
    return Kinds(sets[np.arange(count) % 2], [sets[np.arange(strangers) % 2]] * count)


def test_a_crowd_of_very_many_is_learned_from_speakers_of_other_sets() -> None:
    rng = np.random.default_rng(9)
    kinds = _kinds(600, 400)
    # People of one set resemble each other by one and a half spreads more than people of two.
    alike = np.stack(kinds.speakers) == kinds.probes[:, None]
    llrs = list(rng.normal(-8.0 + 3.0 * alike, 2.0))
    crowded, plain = fit_open_set(llrs, kinds=kinds), fit_open_set(llrs)
    assert crowded is not None
    assert plain is not None
    assert plain.crowd is None
    assert crowded.crowd is not None

    # The highest 51 of 99,950, by their uniform order statistics.
    tail = np.cumsum(rng.exponential(size=(1500, 51)), axis=1) / 99_950
    people, crowd = rng.normal(-5.0, 2.0, (1500, 50)), -8.0 - 2.0 * ndtri(tail)
    ranked = -np.sort(-np.concatenate([people, crowd], axis=1), axis=1)[:, : RIVALS + 1]

    def named(judge: OpenSetModel) -> float:
        thresholds = judge.thresholds(0.01, gallery_size=100_000, rivals=ranked[:, 1:])
        return float(np.mean(ranked[:, 0] >= thresholds))

    assert named(plain) < 0.003 <= named(crowded) <= 0.02
    rivals = ranked[0, 1:]
    sizes = (225, 1_000, 10_000, 100_000, 10**7)
    added = [
        crowded.threshold(0.01, gallery_size=size, rivals=rivals)
        - replace(crowded, crowd=None).threshold(0.01, gallery_size=size, rivals=rivals)
        for size in sizes
    ]
    assert added[0] == 0.0
    assert added[3:] == pytest.approx([crowded.crowd * crowded.share(45)] * 2)
    assert np.all(np.diff(added) * np.sign(crowded.crowd) >= 0)


def test_where_all_were_recorded_alike_no_crowd_is_made_up() -> None:
    kinds = Kinds(np.full(600, "words"), [np.full(400, "words")] * 600)
    fitted = fit_open_set(_probes(600, 400, seed=1), kinds=kinds)
    assert fitted is not None
    assert fitted.crowd is None
