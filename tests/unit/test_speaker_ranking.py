"""Speakers of a gallery of two encoders: the best of either are scored under both."""

from collections.abc import Collection

import numpy as np
import pytest
from numpy.typing import NDArray

from api.speaker_ranking import SpeakerRanking
from indexer.types import EncoderId, SpeakerId, Vectors
from search.identification import ScoredSpeaker
from search.scoring import cosine_scores
from search.voiceprints import Voiceprint, VoiceprintIndex, VoiceprintTable
from tests.vectors import ReferenceIndex, unit_vectors

FIRST, SECOND = EncoderId("first"), EncoderId("second")
VECTORS = {FIRST: unit_vectors(40, seed=1), SECOND: unit_vectors(40, seed=2)}
PROBE = {FIRST: unit_vectors(1, seed=3)[0], SECOND: unit_vectors(1, seed=4)[0]}


class View:
    """Who is enrolled under one encoder, as a query sees it."""

    def __init__(self, encoder_id: EncoderId, numbers: list[int]) -> None:
        ids = np.array(numbers, dtype=np.int64)
        names = {SpeakerId(number): f"speaker {number}" for number in numbers}
        rows = VECTORS[encoder_id][ids - 1]
        table = VoiceprintTable(ids, rows, ids, ids + 1.0, np.full(len(ids), np.nan), names, {})
        self._index = VoiceprintIndex(ReferenceIndex(encoder_id), 0, table)

    def nearest(self, probe: NDArray[np.float32], k: int) -> list[ScoredSpeaker]:
        return self._index.nearest(probe, k)

    def scored(self, probe: NDArray[np.float32], speaker_ids: Collection[SpeakerId]) -> list[ScoredSpeaker]:
        return self._index.scored(probe, speaker_ids)

    def voiceprint(self, speaker_id: SpeakerId) -> Voiceprint | None:
        return self._index.row(speaker_id)

    def count(self) -> int:
        return self._index.count()


def ranking(*views: tuple[EncoderId, View]) -> SpeakerRanking:
    return SpeakerRanking(list(views))  # type: ignore[arg-type]


def best(encoder_id: EncoderId, vectors: Vectors, k: int) -> set[int]:
    return {int(place) + 1 for place in np.argsort(-cosine_scores(PROBE[encoder_id], vectors))[:k]}


def test_the_best_under_either_encoder_are_scored_under_both() -> None:
    everybody = list(range(1, 41))
    both = ranking((FIRST, View(FIRST, everybody)), (SECOND, View(SECOND, everybody)))
    found = both.nearest(PROBE, 5)
    wanted = best(FIRST, VECTORS[FIRST], 5) | best(SECOND, VECTORS[SECOND], 5)
    assert {speaker.speaker_id for speaker in found} == wanted
    assert [speaker.score for speaker in found] == sorted((speaker.score for speaker in found), reverse=True)
    for speaker in found:
        row = speaker.speaker_id - 1
        assert speaker.score == pytest.approx(float(PROBE[FIRST] @ VECTORS[FIRST][row]), abs=1e-6)
        assert speaker.second_score == pytest.approx(float(PROBE[SECOND] @ VECTORS[SECOND][row]), abs=1e-6)
        claimed = both.of(PROBE, speaker.speaker_id)
        assert claimed is not None
        assert claimed.second_score == pytest.approx(speaker.second_score, abs=1e-6)
    assert both.count() == 40


def test_a_speaker_who_is_embedded_under_one_encoder_only_is_not_named() -> None:
    half = ranking((FIRST, View(FIRST, [1, 2, 3])), (SECOND, View(SECOND, [2, 3, 4])))
    assert {speaker.speaker_id for speaker in half.nearest(PROBE, 10)} == {2, 3}
    assert half.of(PROBE, SpeakerId(1)) is None
    assert half.of(PROBE, SpeakerId(4)) is None


def test_under_one_encoder_nothing_is_added() -> None:
    one = ranking((FIRST, View(FIRST, [1, 2, 3])))
    assert [speaker.second_score for speaker in one.nearest(PROBE, 2)] == [None, None]
    claimed = one.of(PROBE, SpeakerId(2))
    assert claimed is not None
    assert claimed.second_score is None
