"""A threshold that everything reaches finds no more than a bounded answer."""

from indexer.types import EmbeddingId, RecordingId
from search.occurrences import MOST_STRETCHES, ScoredUtterance, group_occurrences


def heard(start_s: float, score: float) -> ScoredUtterance:
    return ScoredUtterance(EmbeddingId(1), RecordingId(1), "1.wav", None, start_s, start_s + 1, score)


def test_of_too_many_stretches_the_best_are_kept_in_order_of_time() -> None:
    count = MOST_STRETCHES + 50
    (found,) = group_occurrences(heard(10.0 * place, place / count) for place in range(count))
    assert found.truncated
    assert [stretch.start_s for stretch in found.stretches] == [10.0 * place for place in range(50, count)]
    assert found.score == (count - 1) / count


def test_as_many_stretches_as_are_given_are_all_of_them() -> None:
    (found,) = group_occurrences(heard(10.0 * place, 0.5) for place in range(MOST_STRETCHES))
    assert len(found.stretches) == MOST_STRETCHES
    assert not found.truncated
