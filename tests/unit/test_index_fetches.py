"""How many rows a search has proposed: as few as those who ask now are likely to need."""

from typing import Any

import numpy as np
import pytest

from indexer.index.exact import Wanted
from indexer.index.faiss_index import FaissIndex
from indexer.index.flat_scan import FlatScan
from indexer.index.ranking import NeededLately, Ranking
from indexer.index.scans import Proposals
from indexer.types import EncoderId
from tests.vectors import unit_vectors

FEW, MOST, TOTAL = 128, 2300, 1_000_000


def fetch_after(*needs: int) -> int:
    lately = NeededLately()
    lately.note(np.array(needs, dtype=np.int64))
    return lately.best_fetch(FEW, MOST, TOTAL)


def test_of_nobody_known_yet_few_rows_are_fetched() -> None:
    assert fetch_after() == FEW


def test_voices_that_are_there_need_few_rows_and_strangers_as_many_as_the_last_ones() -> None:
    assert fetch_after(*[10] * 24) == FEW
    assert fetch_after(*[1500] * 24) == 1650  # a tenth more, for stripes are uneven


def test_one_in_many_takes_a_second_pass_where_that_costs_less_than_more_rows_for_all() -> None:
    assert fetch_after(*[10] * 23, 1500) == FEW
    assert fetch_after(*[10] * 12, *[1500] * 12) == 1650
    # Among few vectors a pass is short, so that more of them may take a second one.
    lately = NeededLately()
    lately.note(np.array([10] * 18 + [1500] * 6))
    assert lately.best_fetch(FEW, 1700, 1_000_000) == 1650
    assert lately.best_fetch(FEW, 1700, 50_000) == FEW


def test_who_needed_more_than_was_fetched_is_given_the_most() -> None:
    assert fetch_after(*[TOTAL] * 24) == MOST


def test_only_the_last_probes_are_remembered() -> None:
    lately = NeededLately()
    for needs in ([1500] * 40, [10] * 24):
        lately.note(np.array(needs))
    assert lately.best_fetch(FEW, MOST, TOTAL) == FEW


class _CountedScan(FlatScan):
    asked = 0

    def search(self, *given: Any) -> Proposals:
        self.asked += 1
        return super().search(*given)


@pytest.mark.parametrize(("count", "scans"), [(256, False), (257, True)])
def test_of_so_few_rows_that_all_are_scored_none_is_proposed(count: int, scans: bool) -> None:
    vectors = unit_vectors(count)
    index = FaissIndex(EncoderId("0575cb64/legacy"))
    index.add(np.arange(1, count + 1), vectors)
    index.remove(np.array([3]))
    scan = _CountedScan(index.table)
    hits = Ranking(index.table, scan, None).best(vectors[:2], Wanted(5))
    assert bool(scan.asked) is scans
    for place, found in enumerate(hits):
        scores = vectors.astype(np.float64) @ vectors[place]
        scores[2] = -np.inf
        nearest = np.argsort(-scores)[:5]
        assert [hit.embedding_id for hit in found] == (nearest + 1).tolist()
        np.testing.assert_allclose([hit.score for hit in found], scores[nearest], atol=1e-6)
