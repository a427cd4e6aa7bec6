"""Identification and verification by the llr: what ranks, what is promised, and what an answer says of it."""

import math

import numpy as np
import pytest

from indexer.errors import InvalidRequest
from indexer.types import SpeakerId
from search.calibration import Calibration, Range, TrainingData
from search.evidence import posterior_of_claim, posteriors_of_speakers
from search.identification import Identification, ProbeQuality, Rules, ScoredSpeaker, identify, proposals
from search.operating_point import Costs, Wanted
from search.verification import verify
from tests.calibration_kit import CAMPLUS, ECAPA, TODAY, fitted_to_voices, voices

QUALITY = ProbeQuality(4.0, 20.0)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fitted_to_voices(voices())


@pytest.fixture(scope="module")
def fused() -> Calibration:
    return fitted_to_voices(voices(encoders=2), (ECAPA, CAMPLUS))


def speaker(number: int, score: float, speech_s: float = 8.0, second: float | None = None) -> ScoredSpeaker:
    return ScoredSpeaker(SpeakerId(number), f"s{number}", score, 3, speech_s, 25.0, second)


def strangers(count: int, *, first: int = 100) -> list[ScoredSpeaker]:
    rng = np.random.default_rng(1)
    return [speaker(first + place, float(score)) for place, score in enumerate(np.sort(rng.normal(0, 0.15, count)))]


def ask(
    calibration: Calibration | None,
    found: list[ScoredSpeaker],
    wanted: Wanted,
    *,
    size: int | None = None,
    top_k: int = 5,
    prior: float = 0.5,
) -> Identification:
    rules = Rules(calibration, [("request", wanted)], "E", prior)
    return identify(found, top_k=top_k, gallery_size=size or len(found), quality=QUALITY, rules=rules)


def test_an_answer_says_what_the_scores_are_worth(calibration: Calibration) -> None:
    found = [speaker(1, 0.85), speaker(2, 0.45), *strangers(60)]
    answer = ask(calibration, found, Wanted(rate=0.01, possible_rate=0.1), size=500, top_k=2, prior=0.2)
    llrs = calibration.llr([one.score for one in found], enrolled_speech_s=8.0, probe_speech_s=4.0, snr_db=20.0)
    first, second = answer.candidates
    assert (answer.outcome, answer.speaker) == ("identified", "s1")
    assert (first.llr, second.llr) == pytest.approx((llrs[0], llrs[1]))
    expected = posteriors_of_speakers(llrs, gallery_size=500, prior=0.2)
    assert (first.posterior, second.posterior) == pytest.approx((expected[0], expected[1]))
    assert first.llr_margin == pytest.approx(llrs[0] - llrs[1])
    assert first.margin == pytest.approx(0.4)
    assert second.margin is not None  # above a stranger who is not shown
    assert answer.operating_point.calibration_id == calibration.id
    assert answer.gallery_size == 500
    # The score that has the threshold's llr is on the edge itself.
    assert answer.score_at_threshold is not None
    (at_edge,) = calibration.llr([answer.score_at_threshold], enrolled_speech_s=8.0, probe_speech_s=4.0, snr_db=20.0)
    assert at_edge == pytest.approx(answer.operating_point.llr_threshold)


def test_the_noisier_side_counts_and_an_unknown_one_does_not(calibration: Calibration) -> None:
    def llr(enrolled: float | None, probe: float | None) -> float:
        one = ScoredSpeaker(SpeakerId(1), "s1", 0.5, 3, 8.0, enrolled)
        rules = Rules(calibration, [("request", Wanted(llr=0.0))], "E")
        found = identify([one], top_k=1, gallery_size=1, quality=ProbeQuality(4.0, probe), rules=rules)
        value = found.candidates[0].llr
        assert value is not None
        return value

    assert llr(10.0, 30.0) == llr(30.0, 10.0) == llr(None, 10.0) == llr(10.0, None)


def test_the_llr_ranks_where_it_decides_and_the_score_where_that_does() -> None:
    longer = Calibration(
        name="by hand",
        encoder_ids=(ECAPA,),
        weights={"intercept": -10.0, "score_1": 10.0, "log_longer_s": 3.0},
        ranges={"log_longer_s": Range(0.0, 10.0, 2.0)},
        data=TrainingData("by hand", 0, 0, 0, 0, TODAY),
        cllr_before=1.0,
        cllr_after=0.5,
        min_cllr=0.5,
        nontarget_llrs=((1.0, 0.0),),
    )
    found = [speaker(1, 0.6, speech_s=10.0), speaker(2, 0.55, speech_s=100.0)]
    by_llr = ask(longer, found, Wanted(llr=0.0))
    assert [one.speaker for one in by_llr.candidates] == ["s2", "s1"]
    assert by_llr.candidates[0].margin == pytest.approx(-0.05)
    by_score = ask(longer, found, Wanted(score=0.5))
    assert [one.speaker for one in by_score.candidates] == ["s1", "s2"]
    assert by_score.candidates[0].llr is not None


def test_a_larger_gallery_asks_for_more(calibration: Calibration) -> None:
    edges = []
    for size in (30, 300, 3_000):  # The more there are, the nearer the nearest of them comes.
        found = [speaker(1, 0.6), *strangers(size - 1)]
        edge = ask(calibration, found, Wanted(rate=0.01)).operating_point.llr_threshold
        assert edge is not None
        edges.append(edge)
    assert edges == sorted(edges)
    assert edges[0] < edges[-1]


def test_costs_are_weighed_against_each_of_the_enrolled(calibration: Calibration) -> None:
    wanted = Wanted(costs=Costs(p_target=0.2, c_miss=1.0, c_fa=5.0))
    answer = ask(calibration, strangers(60), wanted, size=400)
    assert answer.operating_point.llr_threshold == pytest.approx(math.log(5.0 * 0.8 / 0.2) + math.log(400))
    assert answer.operating_point.asked == "least cost at p_target 0.2, c_miss 1, c_fa 5, among 400"


def test_two_encoders_are_fused_and_the_score_stays_that_of_the_first(fused: Calibration) -> None:
    found = [speaker(1, 0.7, second=0.1), speaker(2, 0.6, second=0.8)]
    answer = ask(fused, found, Wanted(llr=0.0))
    best = answer.candidates[0]
    assert (best.speaker, best.score, best.second_score) == ("s2", 0.6, 0.8)
    (expected,) = fused.llr([[0.6, 0.8]], enrolled_speech_s=8.0, probe_speech_s=4.0, snr_db=20.0)
    assert best.llr == pytest.approx(expected)
    assert answer.score_at_threshold is None
    with pytest.raises(InvalidRequest, match="a score is NaN"):
        ask(fused, [speaker(1, 0.7)], Wanted(llr=0.0))


def test_a_claim_says_what_its_score_is_worth(calibration: Calibration) -> None:
    rules = Rules(calibration, [("setting", Wanted(rate=0.01))], "E", 0.3)
    answer = verify(speaker(1, 0.8), quality=QUALITY, rules=rules)
    assert answer.outcome == "accept"
    assert answer.llr is not None
    assert answer.posterior == posterior_of_claim(answer.llr, prior=0.3)
    assert answer.score_at_threshold is not None
    assert answer.score_at_threshold < 0.8
    assert verify(speaker(1, answer.score_at_threshold - 0.01), quality=QUALITY, rules=rules).outcome == "reject"


def test_nobody_is_named_in_an_empty_gallery(calibration: Calibration) -> None:
    answer = ask(calibration, [], Wanted(rate=0.01), size=0)
    assert (answer.outcome, answer.candidates, answer.gallery_size) == ("unknown", (), 0)


def test_rivals_are_looked_at_also_where_one_candidate_is_asked_for() -> None:
    assert proposals(1) == proposals(20) > 20
    assert proposals(1000) == 1001
