import math

import numpy as np
import pytest

from search.gallery_quality import CURVE_POINTS, EnrolledVoices, doubts, gallery_quality, thinned
from search.identification import Rules
from search.metrics import det_curve
from search.operating_point import Wanted
from search.speaker_map import speaker_map
from tests.vectors import unit_vectors


def enrolled(speakers: int, recordings: int, *, spread: float) -> EnrolledVoices:
    """Speakers in random directions, whose recordings stray from them by so much."""
    middles = np.repeat(unit_vectors(speakers, seed=3), recordings, axis=0)
    noise = unit_vectors(speakers * recordings, seed=4) * spread
    vectors = middles + noise
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    count = len(vectors)
    unknown = np.full(count, math.nan)
    ids = np.repeat(np.arange(1, speakers + 1), recordings)
    return EnrolledVoices(vectors[None], ids, np.full(count, 5.0), unknown, unknown)


def by_score(threshold: float) -> Rules:
    return Rules(None, [("setting", Wanted(score=threshold))], "spectrum")


def test_voices_that_lie_apart_are_told_apart() -> None:
    found = gallery_quality(enrolled(12, 3, spread=0.5), by_score(0.5))
    assert (found.same_pairs, found.different_pairs) == (12 * 3, 36 * 35 // 2 - 36)
    assert found.eer == 0.0
    assert found.by_llr is False
    assert found.llrs is None
    assert found.point is not None
    assert (found.point.threshold, found.point.fpir, found.point.fnir) == (0.5, 0.0, 0.0)
    assert found.scores.same.sum() == pytest.approx(1)
    assert found.scores.different.sum() == pytest.approx(1)


def test_a_higher_threshold_names_fewer_strangers_and_misses_more_of_its_own() -> None:
    found = gallery_quality(enrolled(15, 3, spread=1.6), by_score(0.3))
    assert len(found.curve) == CURVE_POINTS
    fpir, fnir = ([getattr(one, name) for one in found.curve] for name in ("fpir", "fnir"))
    assert fpir == sorted(fpir, reverse=True)
    assert fnir == sorted(fnir)
    assert (fpir[0], fnir[-1] > 0) == (1.0, True)
    assert found.eer is not None
    assert 0 < found.eer < 0.5


def test_what_is_foretold_at_the_point_is_what_the_curve_has_there() -> None:
    voices = enrolled(15, 3, spread=1.6)
    curve = gallery_quality(voices, by_score(0.3)).curve
    for one in curve[10::30]:
        point = gallery_quality(voices, by_score(one.threshold)).point
        assert point is not None
        assert (point.fpir, point.fnir) == pytest.approx((one.fpir, one.fnir))


def test_a_recording_is_not_compared_with_itself() -> None:
    alone = gallery_quality(enrolled(6, 1, spread=0.0), by_score(0.9))
    assert alone.same_pairs == 0
    assert alone.eer is None
    assert alone.point is not None
    assert alone.point.fpir == 0.0
    assert any("two recordings" in text for text in doubts(alone, speakers=6, compared=6))
    assert any("sample of 6 of 600" in text for text in doubts(alone, speakers=600, compared=6))


def test_one_speaker_has_nobody_to_be_confused_with() -> None:
    found = gallery_quality(enrolled(1, 3, spread=0.5), by_score(0.5))
    assert (found.curve, found.point, found.eer) == ((), None, None)
    nobody = gallery_quality(enrolled(0, 1, spread=0.5), by_score(0.5))
    assert (nobody.same_pairs, nobody.curve) == (0, ())


def test_a_curve_is_thinned_to_points_of_its_own() -> None:
    drawn = np.random.default_rng(1)
    curve = det_curve(np.r_[drawn.normal(2, 1, 900), drawn.normal(0, 1, 5000)], np.arange(5900) < 900)
    thin = thinned(curve, 50)
    assert 20 <= len(thin.thresholds) <= 50
    assert set(zip(thin.p_fa, thin.p_miss, strict=True)) <= set(zip(curve.p_fa, curve.p_miss, strict=True))
    assert (np.diff(thin.thresholds) > 0).all()


@pytest.mark.parametrize(("count", "method"), [(0, "PCA"), (1, "PCA"), (2, "PCA"), (5, "PCA"), (30, "t-SNE")])
def test_voices_are_placed_within_the_map_and_always_in_the_same_place(count: int, method: str) -> None:
    vectors = enrolled(max(count, 1), 1, spread=0.0).vectors[0][:count]
    places, how = speaker_map(vectors)
    assert (places.shape, how) == ((count, 2), method)
    assert np.abs(places).max(initial=0) <= 1
    np.testing.assert_array_equal(speaker_map(vectors)[0], places)


def test_voices_that_sound_alike_are_near_each_other() -> None:
    groups = enrolled(3, 10, spread=0.3)
    places, _ = speaker_map(groups.vectors[0])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(30) * 9
    same = groups.speaker_ids[:, None] == groups.speaker_ids[None]
    assert same[np.arange(30), distances.argmin(axis=1)].all()
