"""What llrs say, as probabilities and in words, and who is whom where each is one person."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import InvalidRequest
from indexer.types import SpeakerId
from search.evidence import llr_in_words, posterior_of_claim, posteriors_of_speakers
from search.exclusive import assign_speakers


def test_a_posterior_is_the_prior_times_the_evidence() -> None:
    assert posterior_of_claim(0.0, prior=0.2) == pytest.approx(0.2)
    # Odds of 1 to 4, and evidence of 8 to 1: 2 to 1.
    assert posterior_of_claim(math.log(8), prior=0.2) == pytest.approx(2 / 3)
    assert posterior_of_claim(-math.log(8), prior=0.2) == pytest.approx(1 / 33)


def test_the_posteriors_of_speakers_share_the_prior_and_leave_the_rest_to_nobody() -> None:
    # Two speakers, each with odds of 1/4 : 1/2 beforehand; the first is 6 times likelier, the second half as likely.
    found = posteriors_of_speakers([math.log(6), math.log(0.5)], gallery_size=2, prior=0.5)
    weights = np.array([1.5, 0.125])
    np.testing.assert_allclose(found, weights / (weights.sum() + 0.5))
    assert posteriors_of_speakers([], gallery_size=0).size == 0


@given(
    st.lists(st.floats(-800, 800), min_size=1, max_size=20),
    st.integers(1, 10**7),
    st.floats(1e-9, 1 - 1e-9),
)
def test_posteriors_are_probabilities_however_extreme_the_evidence(llrs: list[float], more: int, prior: float) -> None:
    found = posteriors_of_speakers(llrs, gallery_size=len(llrs) + more, prior=prior)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.sum() <= 1 + 1e-12
    assert 0 <= posterior_of_claim(llrs[0], prior=prior) <= 1


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan])
def test_a_prior_that_no_evidence_could_change_is_refused(prior: float) -> None:
    with pytest.raises(InvalidRequest, match="above 0 and below 1"):
        posterior_of_claim(1.0, prior=prior)
    with pytest.raises(InvalidRequest, match="above 0 and below 1"):
        posteriors_of_speakers([1.0], gallery_size=2, prior=prior)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (1234.0, "1,200 times likelier if it is the same person"),
        (1 / 1234, "1,200 times likelier if it is another person"),
        (4.04, "4 times likelier if it is the same person"),
        (4.26, "4.3 times likelier if it is the same person"),
        (87_654, "88,000 times likelier if it is the same person"),
        (1.2, "as likely if it is the same person as if it is another"),
        (1e9, "over 1,000,000 times likelier if it is the same person"),
        (1e-300, "over 1,000,000 times likelier if it is another person"),
    ],
)
def test_an_llr_is_said_in_words(times: float, words: str) -> None:
    assert llr_in_words(math.log(times)) == words


def _worth(*values: dict[int, float]) -> list[dict[SpeakerId, float]]:
    return [{SpeakerId(number): value for number, value in worth.items()} for worth in values]


def test_a_speaker_is_given_to_the_voice_that_has_no_other() -> None:
    # Greedily the first voice would take speaker 1, and leave the second, whom nobody else fits, without.
    assert assign_speakers(_worth({1: 5.0, 2: 4.0}, {1: 4.5})) == [2, 1]
    assert assign_speakers(_worth({1: 5.0}, {1: 4.5})) == [1, None]
    assert assign_speakers(_worth({1: -1.0}, {2: 0.0}, {})) == [None, None, None]
    assert assign_speakers([]) == []


@given(st.lists(st.dictionaries(st.integers(1, 4), st.floats(-5, 5), max_size=4), max_size=4))
def test_no_other_way_of_giving_speakers_to_voices_is_worth_more(values: list[dict[int, float]]) -> None:
    worth = _worth(*values)
    given_to = assign_speakers(worth)
    named = [speaker for speaker in given_to if speaker is not None]
    assert len(set(named)) == len(named)

    def total(given: list[SpeakerId | None]) -> float:
        return sum(max(0.0, one.get(speaker, 0.0)) for one, speaker in zip(worth, given, strict=True) if speaker)

    speakers = [SpeakerId(number) for number in range(1, 5)] + [None] * len(worth)
    best = max(total(list(some)) for some in itertools.permutations(speakers, len(worth)))
    assert total(given_to) == pytest.approx(best)
