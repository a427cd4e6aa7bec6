"""Laws that hold for an index of any engine, whatever is asked of it and in whatever order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from indexer.index.base import FeedMark, Hit, Ids, IdSet, Save, SearchParameters, VectorIndex
from indexer.types import Vectors
from tests.contract.engines import ENCODER, Engine, Lab, assert_first
from tests.contract.test_index_changes import assert_rows, whole
from tests.vectors import ReferenceIndex, crcs, unit_vectors, voices

EVERYTHING = SearchParameters(exhaustive=True)


def assert_answers(
    engine: Engine, index: VectorIndex, truth: ReferenceIndex, probes: Vectors, k: int, scope: IdSet | None
) -> None:
    """Hold what an index answers to what comparing the probes with every vector does."""
    expected = truth.search(probes, max(truth.count, 1), allowed=scope)
    for hits, true in zip(index.search(probes, k, allowed=scope, parameters=EVERYTHING), expected, strict=True):
        assert_first(hits, true, k, error=engine.score_error)
    if engine.compressed:  # a nearer vector may be missed: the scores are true and there are as many
        for hits, true in zip(index.search(probes, k, allowed=scope), expected, strict=True):
            true_scores = dict(true)
            assert len(hits) == min(k, len(true))
            assert all(abs(hit.score - true_scores[hit.embedding_id]) <= engine.score_error for hit in hits)
        return
    for hits, true in zip(index.search(probes, k, allowed=scope), expected, strict=True):
        assert_first(hits, true, k, error=engine.score_error)
    if engine.keeps_every_bit:
        for threshold, limit in ((0.1, None), (-0.2, k)):
            above: list[list[Hit]] = index.search_above(probes, threshold, allowed=scope, limit=limit)
            for hits, true in zip(above, expected, strict=True):
                reached = [hit for hit in true if hit.score >= threshold]
                assert_first(hits, reached, limit or len(reached), error=engine.score_error)


def test_it_answers_as_comparing_with_every_vector_does(lab: Lab) -> None:
    @settings(max_examples=lab.engine.examples, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        count=st.integers(0, 160),
        copies=st.integers(0, 30),
        gone=st.integers(0, 80),
        asked=st.integers(1, 30),
        k=st.integers(1, 180),
        share=st.one_of(st.none(), st.floats(0, 1)),
    )
    def law(seed: int, count: int, copies: int, gone: int, asked: int, k: int, share: float | None) -> None:
        random = np.random.default_rng(seed)
        vectors = unit_vectors(count, seed=seed)
        if count and copies:  # the same audio in two files: exact ties
            vectors[random.integers(0, count, copies)] = vectors[random.integers(0, count)]
        ids = random.permutation(10 * count)[:count].astype(np.int64)
        index, truth = lab.index(), ReferenceIndex(ENCODER)
        for some in (slice(0, count // 3), slice(count // 3, count)):
            index.add(ids[some], vectors[some])
            truth.add(ids[some], vectors[some])
        removed = ids[random.permutation(count)[:gone]]
        assert index.remove(removed) == truth.remove(removed)
        np.testing.assert_array_equal(index.ids(), truth.ids())
        scope = None if share is None else IdSet(ids[random.random(count) < share])
        probes = np.concatenate([vectors, unit_vectors(30, seed=seed + 1)])[random.permutation(count + 30)[:asked]]
        assert_answers(lab.engine, index, truth, probes, k, scope)

    law()


class LifeOfAnIndex(RuleBasedStateMachine):
    """Anything that may happen to an index, beside a reference to which the same happens."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        super().__init__()
        self.engine = engine
        self.folder = folder
        self.store = engine.open_store(folder)
        self.store.clear()
        self.index = self.store.create()
        self.truth = ReferenceIndex(ENCODER)
        self.begun: tuple[Save, ReferenceIndex, FeedMark] | None = None
        self.kept: tuple[ReferenceIndex, FeedMark] | None = None
        self.saves = 0
        self.filters = [IdSet(np.arange(0, 900, step)) for step in (1, 2, 7, 100)]

    def teardown(self) -> None:
        self.index.close()

    @rule(first=st.integers(0, 800), count=st.integers(1, 200), seed=st.integers(0, 10**6), shuffled=st.booleans())
    def add(self, first: int, count: int, seed: int, shuffled: bool) -> None:
        ids = np.arange(first, first + count)
        ids = ids[~self.truth.holds(ids)]
        if shuffled:
            ids = np.random.default_rng(seed).permutation(ids)
        vectors = voices(len(ids) // 4 + 1, 4, seed=seed)[: len(ids)]
        self.index.add(ids, vectors)
        self.truth.add(ids, vectors)

    @rule(seed=st.integers(0, 10**6), share=st.floats(0, 1))
    def remove(self, seed: int, share: float) -> None:
        ids = np.arange(900)[np.random.default_rng(seed).random(900) < share * share]
        assert self.index.remove(ids) == self.truth.remove(ids)

    @rule(seed=st.integers(0, 10**6), k=st.integers(1, 40), scope=st.integers(-1, 3), own=st.booleans())
    def search(self, seed: int, k: int, scope: int, own: bool) -> None:
        probes = unit_vectors(2, seed=seed)
        if own and self.truth.count:
            probes[0] = self.truth.reconstruct(self.truth.ids()[seed % self.truth.count][None])[0]
        assert_answers(self.engine, self.index, self.truth, probes, k, None if scope < 0 else self.filters[scope])

    @rule(deep=st.booleans())
    def read(self, deep: bool) -> None:
        ids = self.truth.ids()
        vectors = self.truth.reconstruct(ids)
        assert_rows(self.index, ids, vectors, error=self.engine.score_error)
        assert whole(self.index.contents(deep=deep)) == (ids.tolist(), crcs(vectors).tolist())

    @precondition(lambda self: self.begun is None)
    @rule()
    def begin_save(self) -> None:
        self.saves += 1
        mark = FeedMark(self.saves, f"{self.saves:064x}")
        self.begun = (self.index.begin_save(mark), self._copy(), mark)

    @precondition(lambda self: self.begun is not None)
    @rule(keep_previous=st.booleans())
    def write(self, keep_previous: bool) -> None:
        assert self.begun is not None
        save, truth, mark = self.begun
        save.write(keep_previous=keep_previous)
        self.kept, self.begun = (self._copy() if self.engine.shared else truth, mark), None

    @rule()
    def restart(self) -> None:
        """The process ends without a word and another one begins where the last save was."""
        self.index.close()
        self.begun = None
        self.store = self.engine.open_store(self.folder)
        kept = self.store.load()
        if self.kept is None:
            assert kept is None
            self.index, self.truth = self.store.create(), ReferenceIndex(ENCODER)
        else:
            assert kept is not None
            assert (kept.mark, kept.damage) == (self.kept[1], None)
            self.index = kept.index
            if not self.engine.shared:
                self.truth = self._copy(self.kept[0])

    @invariant()
    def it_holds_what_it_should(self) -> None:
        assert self.index.count == self.truth.count
        np.testing.assert_array_equal(self.index.ids(), self.truth.ids())

    def _copy(self, other: ReferenceIndex | None = None) -> ReferenceIndex:
        copied, truth = ReferenceIndex(ENCODER), other or self.truth
        ids: Ids = truth.ids()
        copied.add(ids, truth.reconstruct(ids))
        return copied


def test_nothing_that_happens_to_an_index_makes_it_differ_from_the_reference(engine: Engine, tmp_path: Path) -> None:
    run_state_machine_as_test(
        lambda: LifeOfAnIndex(engine, tmp_path / "life"),
        settings=settings(
            max_examples=engine.examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_vectors_came_changes_no_answer(lab: Lab, seed: int) -> None:
    vectors = voices(40, 8, seed=seed)
    ids, order = np.arange(320), np.random.default_rng(seed).permutation(320)
    one, other = lab.index(), lab.index()
    one.add(ids, vectors)
    for some in np.array_split(order, 7):
        other.add(ids[some], vectors[some])
    probes = vectors[::40]
    assert one.search(probes, 9, parameters=EVERYTHING) == other.search(probes, 9, parameters=EVERYTHING)
    assert whole(one.contents()) == whole(other.contents())
