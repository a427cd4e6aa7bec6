"""Decisions about voices, against answers worked out by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from indexer.embedding.aggregation import aggregate_embeddings, aggregate_voices
from indexer.errors import InvalidRequest
from indexer.types import EmbeddingId, EncoderId, RecordingId, SpeakerId
from search.identification import Identification, ProbeQuality, Rules, identify, proposals
from search.occurrences import ScoredUtterance, Stretch, group_occurrences
from search.operating_point import Layers, Wanted, verification_point
from search.scoring import cosine_scores
from search.verification import verify
from search.voiceprints import VoiceprintIndex, VoiceprintTable
from tests.vectors import ReferenceIndex, unit_vectors

QUALITY = ProbeQuality(3.0)


def rules(score: float = 0.5) -> Rules:
    """Decide by the cosine."""
    return Rules(None, [("request", Wanted(score=score))], "by hand")


def ask(enrolled: VoiceprintIndex, probe: NDArray[np.float32], top_k: int = 5, score: float = 0.5) -> Identification:
    """Identify a probe as a service does."""
    found = enrolled.nearest(probe, proposals(top_k))
    return identify(found, top_k=top_k, gallery_size=enrolled.count(), quality=QUALITY, rules=rules(score))


def unit(*values: float) -> NDArray[np.float32]:
    vector = np.array(values, dtype=np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def gallery(**enrolled: Sequence[NDArray[np.float32]]) -> VoiceprintIndex:
    """Speakers with their enrolled vectors, of a second each."""
    numbers = [SpeakerId(number) for number in range(1, len(enrolled) + 1)]
    vectors = [aggregate_embeddings(np.stack(own), [1.0] * len(own)) for own in enrolled.values()]
    table = VoiceprintTable(
        np.array(numbers, dtype=np.int64),
        np.stack(vectors) if vectors else np.empty((0, 3), dtype=np.float32),
        np.array([len(own) for own in enrolled.values()], dtype=np.int64),
        speech_s=np.array([float(len(own)) for own in enrolled.values()]),
        snr_db=np.full(len(enrolled), np.nan),
        names=dict(zip(numbers, enrolled, strict=True)),
        labels={},
    )
    return VoiceprintIndex(ReferenceIndex(EncoderId("by hand"), dim=3), 0, table)


def test_the_nearest_voiceprint_is_identified_with_its_cosine() -> None:
    enrolled = gallery(ann=[unit(1, 0, 0)], bob=[unit(0, 1, 0)])
    answer = ask(enrolled, unit(4, 3, 0))
    assert answer.outcome == "identified"
    assert answer.speaker == "ann"
    assert [(c.rank, c.speaker, round(c.score, 6)) for c in answer.candidates] == [(1, "ann", 0.8), (2, "bob", 0.6)]


def test_a_voice_below_the_threshold_is_nobody_and_still_scored() -> None:
    enrolled = gallery(ann=[unit(1, 0, 0)])
    answer = ask(enrolled, unit(1, 2, 0), top_k=1)
    assert answer.outcome == "unknown"
    assert answer.speaker is None
    assert answer.candidates[0].score == pytest.approx(5**-0.5)


def test_a_score_at_the_threshold_is_accepted() -> None:
    enrolled = gallery(ann=[unit(1, 0, 0)])
    probe = np.array([0.5, 0.75**0.5, 0], dtype=np.float32)
    assert ask(enrolled, probe).outcome == "identified"
    (claimed,) = enrolled.scored(probe, [SpeakerId(1)])
    assert verify(claimed, quality=QUALITY, rules=rules()).outcome == "accept"
    assert verify(claimed, quality=QUALITY, rules=rules(0.5001)).outcome == "reject"


def test_an_empty_gallery_answers_nobody() -> None:
    enrolled = gallery()
    answer = ask(enrolled, unit(1, 0, 0))
    assert (answer.outcome, answer.candidates) == ("unknown", ())


def test_a_speaker_with_many_enrollments_does_not_crowd_the_others_out() -> None:
    crowd = [unit(1, 0.001 * n, 0) for n in range(500)]
    enrolled = gallery(crowd=crowd, ann=[unit(1, 0, 1)], bob=[unit(0, 0, 1)])
    answer = ask(enrolled, unit(1, 0, 0), top_k=3)
    assert [c.speaker for c in answer.candidates] == ["crowd", "ann", "bob"]


def test_the_best_voiceprint_wins_over_the_best_single_embedding() -> None:
    # ann has one embedding right at the probe and one far off; bob's two surround the probe.
    enrolled = gallery(ann=[unit(1, 0, 0), unit(0, 1, 0)], bob=[unit(1, 0, 0.3), unit(1, 0, -0.3)])
    answer = ask(enrolled, unit(1, 0, 0), top_k=2)
    assert [c.speaker for c in answer.candidates] == ["bob", "ann"]


@pytest.mark.parametrize("top_k", [0, -1, 1001])
def test_an_impossible_number_of_candidates_is_refused(top_k: int) -> None:
    enrolled = gallery(ann=[unit(1, 0, 0)])
    with pytest.raises(InvalidRequest, match=f"top_k {top_k}"):
        ask(enrolled, unit(1, 0, 0), top_k=top_k)


def test_the_most_specific_threshold_holds() -> None:
    def choose(requested: float | None, setting: float | None, default: float | None) -> tuple[float | None, str]:
        layers: Layers = [
            ("request", Wanted(score=requested)),
            ("setting", Wanted(score=setting)),
            ("encoder", Wanted(score=default)),
        ]
        point = verification_point(None, layers, encoder="E")
        return point.score_threshold, point.source

    assert choose(0.1, 0.2, 0.3) == (0.1, "request")
    assert choose(None, 0.2, 0.3) == (0.2, "setting")
    assert choose(None, None, 0.3) == (0.3, "encoder")
    assert choose(0.0, 0.2, 0.3) == (0.0, "request")
    with pytest.raises(
        InvalidRequest, match=r"encoder E has no default threshold.*--threshold .over HTTP: \?threshold=."
    ):
        choose(None, None, None)
    with pytest.raises(InvalidRequest, match=r"1\.5 is no cosine"):
        choose(1.5, None, None)
    with pytest.raises(InvalidRequest, match="nan is no cosine"):
        choose(float("nan"), None, None)


def test_a_voiceprint_is_the_mean_direction_weighted_by_duration() -> None:
    voiceprint = aggregate_embeddings(np.stack([unit(1, 0), unit(0, 1)]), [3.0, 4.0])
    np.testing.assert_allclose(voiceprint, [0.6, 0.8], atol=1e-7)


@pytest.mark.parametrize("durations", [[], [1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_a_voiceprint_needs_a_positive_duration_for_each_vector(durations: list[float]) -> None:
    with pytest.raises(ValueError, match="durations"):
        aggregate_embeddings(np.stack([unit(1, 0), unit(0, 1)]), durations)


def test_opposite_vectors_have_no_mean_direction() -> None:
    with pytest.raises(ValueError, match="cancel out"):
        aggregate_embeddings(np.stack([unit(1, 0), unit(-1, 0)]), [1.0, 1.0])


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 10_000))
def test_many_voiceprints_made_at_once_are_bit_for_bit_those_made_alone(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = unit_vectors(sum(sizes), seed=seed, dim=8)
    durations = random.uniform(0.1, 30.0, len(vectors))
    made, sound = aggregate_voices(vectors, durations, sizes)
    assert sound.all()
    for voice, end, size in zip(made, np.cumsum(sizes), sizes, strict=True):
        alone = aggregate_embeddings(vectors[end - size : end], durations[end - size : end].tolist())
        np.testing.assert_array_equal(voice, alone)


def test_a_voice_whose_vectors_cancel_out_spoils_no_other() -> None:
    vectors = np.stack([unit(1, 0), unit(0, 1), unit(0, -1), unit(0, 1)])
    made, sound = aggregate_voices(vectors, [1.0, 2.0, 2.0, 1.0], [1, 2, 1])
    assert sound.tolist() == [True, False, True]
    np.testing.assert_array_equal(made[sound], [[1, 0], [0, 1]])


@pytest.mark.parametrize("sizes", [[1, 2], [4, 0], [3], []])
def test_voices_need_as_many_vectors_as_their_sizes_say(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="4 vectors with 4 durations"):
        aggregate_voices(unit_vectors(4, dim=8), [1.0] * 4, sizes)


@given(
    hnp.arrays(np.float32, (5, 8), elements=st.floats(-1, 1, width=32)).filter(
        lambda a: (np.linalg.norm(a, axis=1) > 0.1).all()
    )
)
def test_scores_are_cosines_in_range(vectors: NDArray[np.float32]) -> None:
    units = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    scores = cosine_scores(units[0], units)
    assert scores[0] == pytest.approx(1.0, abs=1e-6)
    assert (np.abs(scores) <= 1.0).all()


def heard(recording: int, start_s: float, end_s: float, score: float, channel: int | None = None) -> ScoredUtterance:
    return ScoredUtterance(EmbeddingId(1), RecordingId(recording), f"{recording}.wav", channel, start_s, end_s, score)


def test_touching_utterances_are_one_stretch_and_recordings_rank_by_their_best() -> None:
    found = group_occurrences(
        [
            heard(1, 10, 20, 0.6),
            heard(1, 0, 10, 0.5),
            heard(1, 40, 50, 0.55),
            heard(2, 0, 10, 0.9),
            heard(1, 20, 30, 0.5, 1),
        ]
    )
    assert [(occurrence.recording_id, occurrence.score) for occurrence in found] == [(2, 0.9), (1, 0.6)]
    assert found[1].stretches == (Stretch(None, 0, 20, 0.6), Stretch(None, 40, 50, 0.55), Stretch(1, 20, 30, 0.5))
