"""Error rates, costs and their intervals: by hand, by law, and as scikit-learn has them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import InvalidRequest
from search import metrics
from search.bootstrap import Resampling

_INF = math.inf


def _normal_trials(seed: int, targets: int = 200, nontargets: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are natural-log llrs: two normal distributions 2 apart, of variance 4 (d' = 2, so mean = ±2)."""
    rng = np.random.default_rng(seed)
    scores = np.r_[rng.normal(2, 2, targets), rng.normal(-2, 2, nontargets)]
    return scores, np.arange(len(scores)) < targets


def test_rates_at_each_threshold_are_counts() -> None:
    curve = metrics.det_curve([0.1, 0.4, 0.4, 0.8], [False, True, False, True])
    np.testing.assert_array_equal(curve.thresholds, [0.1, 0.4, 0.8, _INF])
    np.testing.assert_allclose(curve.p_miss, [0.0, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(curve.p_fa, [1.0, 0.5, 0.0, 0.0])


def test_the_curve_is_the_one_of_scikit_learn() -> None:
    published = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not here")
    scores, target = _normal_trials(1)
    scores = scores.round(1)  # With ties.
    p_fa, p_miss, thresholds = published.det_curve(target, scores)
    ours = metrics.det_curve(scores, target)
    at = np.searchsorted(ours.thresholds, thresholds)
    np.testing.assert_allclose(ours.p_fa[at], p_fa, atol=1e-12)
    np.testing.assert_allclose(ours.p_miss[at], p_miss, atol=1e-12)


def test_the_equal_error_rate_lies_on_the_line_between_two_points() -> None:
    # At 0.4: p_miss 0, p_fa 1/2; at 0.8: p_miss 1/2, p_fa 0: the line crosses p_miss = p_fa at 1/4.
    assert metrics.equal_error_rate([0.1, 0.4, 0.4, 0.8], [False, True, False, True]) == pytest.approx(0.25)
    assert metrics.equal_error_rate([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == 0.0
    assert metrics.equal_error_rate([0.9, 0.8, 0.2, 0.1], [False, False, True, True]) == 1.0
    assert metrics.equal_error_rate([0.5, 0.5], [False, True]) == pytest.approx(0.5)


def test_the_equal_error_rate_is_that_of_the_interpolated_roc() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not here")
    published = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not here")
    scores, target = _normal_trials(2)
    p_fa, p_hit, _ = published.roc_curve(target, scores, drop_intermediate=False)
    crossing = optimize.brentq(lambda x: 1.0 - x - np.interp(x, p_fa, p_hit), 0.0, 1.0)
    assert metrics.equal_error_rate(scores, target) == pytest.approx(crossing, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_an_increasing_map_of_the_scores_changes_no_rate(seed: int, scale: float, shift: float) -> None:
    scores, target = _normal_trials(seed, 20, 60)
    mapped = np.arctan(scores / 4) * scale + shift
    assert metrics.equal_error_rate(mapped, target) == pytest.approx(metrics.equal_error_rate(scores, target))
    assert metrics.min_dcf(mapped, target, 0.01) == pytest.approx(metrics.min_dcf(scores, target, 0.01))
    assert metrics.min_cllr(mapped, target) == pytest.approx(metrics.min_cllr(scores, target))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1.0, -0.2, 0.0, 0.3, 0.9]), st.booleans()), min_size=2, max_size=30))
def test_a_higher_threshold_accepts_no_more(trials: list[tuple[float, bool]]) -> None:
    scores, target = [score for score, _ in trials], [label for _, label in trials]
    if all(target) or not any(target):
        with pytest.raises(InvalidRequest, match="need both kinds"):
            metrics.det_curve(scores, target)
        return
    curve = metrics.det_curve(scores, target)
    assert (np.diff(curve.p_fa) <= 0).all()
    assert (np.diff(curve.p_miss) >= 0).all()
    ranked = metrics.RankedTrials(scores, target)
    for threshold, p_miss, p_fa in zip(curve.thresholds, curve.p_miss, curve.p_fa, strict=True):
        assert ranked.error_rates(threshold) == pytest.approx((p_miss, p_fa))


def test_costs_are_normalized_by_deciding_without_listening() -> None:
    assert metrics.detection_cost(1.0, 0.0, 0.01) == pytest.approx(1.0)
    assert metrics.detection_cost(0.1, 0.02, 0.01) == pytest.approx(0.1 + 0.02 * 99)
    assert metrics.detection_cost(0.1, 0.02, 0.5, c_miss=10) == pytest.approx(10 * 0.1 + 0.02)
    # One of 4 targets below all nontargets: rejecting it costs 0.25, the other choices cost more.
    scores, target = [-1.0, 1.0, 2.0, 3.0, 0.0, 0.5], [True, True, True, True, False, False]
    assert metrics.min_dcf(scores, target, 0.01) == pytest.approx(0.25)
    assert metrics.min_dcf([0.0, 1.0], [True, False], 0.01) == pytest.approx(1.0)


def test_the_actual_cost_is_that_of_the_bayes_threshold() -> None:
    assert metrics.bayes_threshold(0.01) == pytest.approx(math.log(99))
    assert metrics.bayes_threshold(0.5, c_fa=10) == pytest.approx(math.log(10))
    llrs, target = [5.0, 4.0, 5.0, -3.0], [True, True, False, False]  # log(99) is 4.6.
    assert metrics.act_dcf(llrs, target, 0.01) == pytest.approx(0.5 + 99 * 0.5)
    assert metrics.act_dcf(llrs, target, 0.01) >= metrics.min_dcf(llrs, target, 0.01)


def test_cllr_is_one_for_saying_nothing_and_nothing_for_certain_truth() -> None:
    target = [True, True, False, False]
    assert metrics.cllr([0.0, 0.0, 0.0, 0.0], target) == pytest.approx(1.0)
    assert metrics.cllr([_INF, _INF, -_INF, -_INF], target) == 0.0
    assert metrics.cllr([_INF, -_INF, -_INF, -_INF], target) == _INF
    # log2(1 + 1/3) for llrs of ±log 3.
    assert metrics.cllr([math.log(3)] * 2 + [-math.log(3)] * 2, target) == pytest.approx(math.log2(4 / 3))


def test_min_cllr_of_a_worked_example() -> None:
    # 1 of 2 targets beside 1 of 2 nontargets in the middle: half of the trials say nothing, the rest say all.
    assert metrics.min_cllr([2.0, 0.0, 0.0, -2.0], [True, True, False, False]) == pytest.approx(0.5)
    assert metrics.min_cllr([2.0, 1.0, 0.0, -2.0], [True, True, False, False]) == 0.0
    assert metrics.min_cllr([0.0, 1.0], [True, False]) == pytest.approx(1.0)


def test_scores_that_are_llrs_already_gain_little_from_calibration() -> None:
    rng = np.random.default_rng(5)
    llrs = np.r_[rng.normal(2, 2, 20_000), rng.normal(-2, 2, 20_000)]  # Mean is half the variance: a true llr.
    target = np.arange(40_000) < 20_000
    assert metrics.cllr(llrs, target) == pytest.approx(metrics.min_cllr(llrs, target), rel=0.02)
    assert metrics.cllr(3 * llrs, target) > 1.3 * metrics.min_cllr(llrs, target)


def test_weights_count_trials_as_often_as_they_say() -> None:
    scores, target = _normal_trials(7, 30, 90)
    weights = np.random.default_rng(7).integers(0, 4, len(scores))
    repeated, labels = np.repeat(scores, weights), np.repeat(target, weights)
    ranked = metrics.RankedTrials(scores, target)
    assert ranked.eer(weights) == pytest.approx(metrics.equal_error_rate(repeated, labels))
    assert ranked.cllr(weights) == pytest.approx(metrics.cllr(repeated, labels))
    assert ranked.min_cllr(weights) == pytest.approx(metrics.min_cllr(repeated, labels))
    assert ranked.min_dcf(0.05, weights=weights) == pytest.approx(metrics.min_dcf(repeated, labels, 0.05))


@pytest.mark.parametrize(
    ("scores", "target", "named"),
    [
        ([0.1, math.nan], [True, False], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [True, True], "2 target and 0 nontarget"),
        ([], [], "0 target and 0 nontarget"),
        ([0.1, 0.2], [True], "one label for each score"),
    ],
)
def test_trials_that_have_no_error_rate_are_refused(scores: list[float], target: list[bool], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        metrics.equal_error_rate(scores, target)


@pytest.mark.parametrize(("p_target", "cost"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.0)])
def test_a_prior_or_cost_that_is_none_is_refused(p_target: float, cost: float) -> None:
    with pytest.raises(InvalidRequest, match=r"give a number between|must be above 0"):
        metrics.bayes_threshold(p_target, c_miss=cost)


def test_the_threshold_at_a_rate_lets_no_more_unknown_voices_pass() -> None:
    tops = np.array([0.1, 0.2, 0.3, 0.3, 0.5])
    for fpir, passing in ((0.0, 0), (0.1, 0), (0.2, 1), (0.5, 1), (0.6, 3), (1.0, 5)):
        threshold = metrics.threshold_at_fpir(tops, fpir)
        assert (tops >= threshold).sum() == passing, fpir
    assert metrics.threshold_at_fpir(np.arange(300.0), 0.01) == np.nextafter(296.0, _INF)


def test_misses_of_identification_are_low_scores_and_wrong_names() -> None:
    mates, ranks = [0.9, 0.8, 0.7, 0.2], [1, 2, 1, 1]
    assert metrics.fnir_at(mates, ranks, 0.5) == pytest.approx(0.5)
    assert metrics.fnir_at(mates, ranks, 0.5, rank=2) == pytest.approx(0.25)
    assert metrics.fnir_at_fpir(mates, ranks, [0.1, 0.75], 0.5) == pytest.approx(0.25)
    assert metrics.fnir_at_fpir(mates, ranks, [0.1, 0.75], 0.0) == pytest.approx(0.75)
    assert metrics.top_k_rate(ranks, 1) == pytest.approx(0.75)
    assert metrics.top_k_rate(ranks, 5) == 1.0


def test_rates_of_nobody_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="0 unknown voices"):
        metrics.threshold_at_fpir([], 0.01)
    with pytest.raises(InvalidRequest, match="0 probes"):
        metrics.top_k_rate([], 1)
    with pytest.raises(InvalidRequest, match=r"fpir 1\.5"):
        metrics.threshold_at_fpir([0.1], 1.5)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """A mean over speakers with a value each: 95 % intervals must hold the truth in about 95 % of data sets."""
    covered, sets = 0, 200
    for number in range(sets):
        rng = np.random.default_rng(number)
        values = np.repeat(rng.normal(0.0, 1.0, 30), 5) + rng.normal(0.0, 0.2, 150)
        speakers = np.repeat(np.arange(30), 5).tolist()
        resampling = Resampling(draws=200, seed=number)

        def mean(weights: np.ndarray | None, values: np.ndarray = values) -> dict[str, float]:
            return {"mean": float(np.average(values, weights=weights))}

        estimate = resampling.estimate(mean, resampling.speaker_weights(speakers))["mean"]
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0.0 <= estimate.high
    # Treating the 150 values as independent would cover about 60 %.
    assert 0.88 * sets <= covered <= 0.99 * sets


def test_a_pair_of_speakers_counts_as_often_as_both_were_drawn() -> None:
    resampling = Resampling(draws=50)
    for weights in resampling.trial_weights(["a", "a", "b"], ["a", "b", "b"]):
        own_a, cross, own_b = weights
        assert own_a + own_b == 2
        assert cross == own_a * own_b


def test_equal_seeds_give_equal_intervals_and_one_speaker_gives_none() -> None:
    resampling = Resampling(draws=20, seed=3)
    first = [weights.tolist() for weights in resampling.speaker_weights("aabbc")]
    assert first == [weights.tolist() for weights in Resampling(draws=20, seed=3).speaker_weights("aabbc")]
    assert resampling.estimate(lambda weights: {"one": 1.0}, resampling.speaker_weights("aaa"))["one"].low is None
