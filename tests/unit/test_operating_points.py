"""Where decisions are made: whose word holds, what is promised, and what is refused."""

import math
from statistics import NormalDist

import pytest

from indexer.errors import InvalidRequest
from search.calibration import Calibration
from search.operating_point import (
    Costs,
    Layers,
    OperatingPoint,
    Wanted,
    identification_point,
    verification_point,
)
from tests.calibration_kit import fitted, fitted_to_voices, gaussian_trials, voices

NOTHING = Wanted()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fitted_to_voices(voices())


def _layers(
    request: Wanted = NOTHING, gallery: Wanted = NOTHING, setting: Wanted = NOTHING, encoder: float | None = 0.5
) -> Layers:
    return [("request", request), ("gallery", gallery), ("setting", setting), ("encoder", Wanted(score=encoder))]


def _identification(calibration: Calibration | None, layers: Layers, size: int = 100) -> OperatingPoint:
    rivals = [-2.0, -2.5, -3.0] if calibration else []
    return identification_point(calibration, layers, gallery_size=size, rivals=rivals, encoder="E")


def test_the_most_specific_word_holds(calibration: Calibration) -> None:
    request, gallery, setting = Wanted(llr=3.0), Wanted(rate=0.05), Wanted(rate=0.01)
    for layers, source in (
        (_layers(request, gallery, setting), "request"),
        (_layers(gallery=gallery, setting=setting), "gallery"),
        (_layers(setting=setting), "setting"),
        (_layers(), "encoder"),
    ):
        assert _identification(calibration, layers).source == source


def test_a_threshold_on_the_score_decides_by_the_score_also_where_there_is_a_calibration(
    calibration: Calibration,
) -> None:
    point = _identification(calibration, _layers(Wanted(score=0.4)))
    assert (point.score_threshold, point.llr_threshold) == (0.4, None)
    assert point.calibration_id == calibration.id
    assert point.band(0.4, -100.0) == "identified"
    assert point.band(0.39, 100.0) == "unknown"


def test_an_error_rate_of_identification_says_what_it_promises(calibration: Calibration) -> None:
    point = _identification(calibration, _layers(setting=Wanted(rate=0.01, possible_rate=0.1)), size=261)
    assert point.asked == "at most 1 % of unknown voices named, 261 enrolled"
    assert point.score_threshold is None
    assert point.llr_threshold is not None
    assert point.possible_llr_threshold is not None
    assert point.possible_llr_threshold < point.llr_threshold
    assert point.band(None, point.llr_threshold) == "identified"
    assert point.band(None, point.possible_llr_threshold) == "possible"
    assert point.band(None, point.possible_llr_threshold - 0.01) == "unknown"


def test_where_nobody_is_enrolled_the_threshold_is_that_of_one_and_the_words_count_none(
    calibration: Calibration,
) -> None:
    nobody, one = (
        identification_point(calibration, _layers(Wanted(rate=0.01)), gallery_size=size, rivals=[], encoder="E")
        for size in (0, 1)
    )
    assert nobody.asked == "at most 1 % of unknown voices named, 0 enrolled"
    assert nobody.llr_threshold == one.llr_threshold


def test_a_larger_gallery_needs_more_evidence(calibration: Calibration) -> None:
    asked = _layers(setting=Wanted(rate=0.01))
    thresholds = []
    for size in (60, 600, 60_000):
        rivals = [NormalDist(-12.0, 6.0).inv_cdf(1 - rank / size) for rank in range(2, 52)]
        point = identification_point(calibration, asked, gallery_size=size, rivals=rivals, encoder="E")
        thresholds.append(point.llr_threshold)
    assert thresholds == sorted(thresholds)
    assert thresholds[0] != thresholds[-1]


def test_however_few_are_enrolled_an_error_rate_names_nobody_against_the_evidence(calibration: Calibration) -> None:
    point = identification_point(
        calibration,
        _layers(setting=Wanted(rate=0.5, possible_rate=0.9)),
        gallery_size=1,
        rivals=[],
        encoder="E",
    )
    assert (point.llr_threshold, point.possible_llr_threshold) == (0.0, 0.0)
    assert point.band(None, -0.01) == "unknown"
    asked = identification_point(calibration, _layers(Wanted(llr=-2.0)), gallery_size=1, rivals=[], encoder="E")
    assert asked.llr_threshold == -2.0


def test_a_claim_is_decided_at_its_false_alarm_rate(calibration: Calibration) -> None:
    point = verification_point(calibration, _layers(setting=Wanted(rate=0.001)), encoder="E")
    assert point.llr_threshold == calibration.llr_at_p_fa(0.001)
    assert point.asked == "at most 0.1 % of strangers accepted"


def test_costs_give_the_threshold_of_bayes(calibration: Calibration) -> None:
    layers = _layers(Wanted(costs=Costs(p_target=0.01, c_miss=10.0, c_fa=1.0)))
    point = verification_point(calibration, layers, encoder="E")
    assert point.llr_threshold == pytest.approx(math.log(0.99 / 0.1))
    assert point.asked == "least cost at p_target 0.01, c_miss 10, c_fa 1"


def test_both_edges_of_possible_can_be_set(calibration: Calibration) -> None:
    by_llr = _identification(calibration, _layers(Wanted(llr=4.0, possible_llr=1.0)))
    assert [by_llr.band(None, llr) for llr in (4.0, 1.0, 0.9)] == ["identified", "possible", "unknown"]
    by_score = _identification(None, _layers(Wanted(score=0.5), Wanted(possible_score=0.3)))
    assert [by_score.band(score) for score in (0.5, 0.3, 0.29)] == ["identified", "possible", "unknown"]


def test_possible_never_starts_above_identified(calibration: Calibration) -> None:
    assert _identification(calibration, _layers(Wanted(llr=1.0, possible_llr=4.0))).possible_llr_threshold == 1.0
    assert _identification(None, _layers(Wanted(score=0.2, possible_score=0.4))).possible_score_threshold == 0.2


def test_without_a_calibration_the_cosine_decides_and_the_answer_says_so() -> None:
    point = _identification(None, _layers(setting=Wanted(rate=0.01)))
    assert (point.score_threshold, point.source, point.calibration_id) == (0.5, "encoder", None)
    assert point.asked == "score of 0.5 or more (uncalibrated)"


@pytest.mark.parametrize("wanted", [Wanted(rate=0.01), Wanted(llr=2.0), Wanted(costs=Costs(0.1))])
def test_what_needs_a_calibration_is_refused_by_name_where_there_is_none(wanted: Wanted) -> None:
    with pytest.raises(InvalidRequest, match=r"encoder E has no calibration.*voxdex calibrate"):
        verification_point(None, _layers(wanted), encoder="E")
    with pytest.raises(InvalidRequest, match=r"encoder E has no calibration"):
        verification_point(None, _layers(gallery=wanted), encoder="E")


def test_a_calibration_of_few_speakers_promises_no_rate_of_identification() -> None:
    few = fitted(gaussian_trials())
    assert few.open_set is None
    with pytest.raises(InvalidRequest, match=r"too few speakers.*--llr-threshold"):
        _identification(few, _layers(Wanted(rate=0.01)))


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        *(({name: value}, f"{value} is no cosine") for name in ("score", "possible_score") for value in (1.5, -1.01)),
        ({"score": math.nan}, "nan is no cosine"),
        *(({name: math.nan}, "nan is no number to compare with.*give") for name in ("llr", "possible_llr")),
        ({"llr": math.inf}, "inf is no number to compare with.*give"),
        *(({name: 0.0}, "error rate 0 is out of range.*0.01") for name in ("rate", "possible_rate")),
        ({"rate": 1.0}, "error rate 1 is out of range"),
    ],
)
def test_what_nothing_can_reach_or_miss_is_refused_before_anything_is_heard(
    wanted: dict[str, float], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        Wanted(**wanted)


def test_nobody_guesses_a_threshold() -> None:
    with pytest.raises(InvalidRequest, match=r"encoder E has no default threshold.*--threshold"):
        _identification(None, _layers(encoder=None))


def test_a_point_that_decides_by_the_llr_refuses_a_candidate_without(calibration: Calibration) -> None:
    point = _identification(calibration, _layers(Wanted(llr=1.0)))
    with pytest.raises(InvalidRequest, match="decides by the llr"):
        point.band(0.9)
