"""Many threads at once on indexes of any engine: no crash, no torn answer, nothing of another gallery."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from indexer.index.base import FeedMark, Hit, IdSet, SearchParameters, VectorIndex
from tests.contract.engines import Lab, assert_in_order
from tests.contract.test_index_changes import whole
from tests.vectors import crcs, unit_vectors

STAY = 100
"""Ids below it stay for a whole test; those above come and go."""
EVERYTHING = SearchParameters(exhaustive=True)
TURNS = 3
"""That each work of a test must have had."""
Work = Callable[[np.random.Generator], None]


class Together:
    """Runs each work over and over in a thread of its own, until the time is up or one fails.

    Where a busy machine has not given each of them a few turns by then, it goes on until it has.
    """

    def __init__(self, duration_s: float) -> None:
        self._until = time.monotonic() + duration_s
        self._latest = time.monotonic() + 45
        self._failures: list[BaseException] = []
        self.turns: dict[str, int] = {}

    def run(self, **works: Work) -> None:
        threads = [
            threading.Thread(target=self._repeat, args=(name, work, seed), name=name)
            for seed, (name, work) in enumerate(works.items())
        ]
        self.turns = dict.fromkeys(works, 0)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if self._failures:
            raise self._failures[0]
        assert not stuck, f"still at work after a minute: {stuck}"
        assert min(self.turns.values()) >= TURNS, f"somebody hardly got a turn: {self.turns}"

    def _goes_on(self) -> bool:
        now = time.monotonic()
        return now < self._until or (now < self._latest and min(self.turns.values()) < TURNS)

    def _repeat(self, name: str, work: Work, seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            while self._goes_on() and not self._failures:
                work(random)
                self.turns[name] += 1
        except BaseException as error:
            self._failures.append(error)


class Gallery:
    """One index whose every vector is known, and what threads do to it."""

    def __init__(self, index: VectorIndex, *, first_id: int, seed: int, score_error: float) -> None:
        self.index = index
        self.first_id = first_id
        self.error = max(score_error, 1e-9)
        self.vectors = unit_vectors(900, seed=seed)
        self.checksums = crcs(self.vectors)
        self.true_scores = np.clip(self.vectors[:STAY].astype(np.float64) @ self.vectors.astype(np.float64).T, -1, 1)
        self.kept_filter = IdSet(first_id + np.arange(0, STAY, 4))
        self.saved = 0
        index.add(first_id + np.arange(STAY), self.vectors[:STAY])

    def search(self, random: np.random.Generator) -> None:
        asked = random.integers(0, STAY, 3)
        probes = self.vectors[asked]
        for parameters in (None, EVERYTHING):
            for probe, hits in zip(asked, self.index.search(probes, 10, parameters=parameters), strict=True):
                assert len(hits) == 10
                assert hits[0].embedding_id == self.first_id + probe
                self._require_true(probe, hits)
        scope = self.first_id + random.integers(0, STAY, 20)
        (hits,) = self.index.search(probes[:1], 50, allowed=scope)
        assert {hit.embedding_id for hit in hits} == set(scope.tolist())
        (hits,) = self.index.search(probes[:1], 50, allowed=self.kept_filter)
        assert {hit.embedding_id for hit in hits} == set(self.kept_filter.ids.tolist())
        (hits,) = self.index.search_above(probes[:1], 0.99)
        assert [hit.embedding_id for hit in hits] == [self.first_id + asked[0]]

    def _require_true(self, probe: int, hits: list[Hit]) -> None:
        """The score belongs to the id it is given with, and the id to this gallery."""
        assert_in_order(hits)
        for hit in hits:
            place = hit.embedding_id - self.first_id
            assert 0 <= place < 900, f"{hit} is of another gallery"
            assert abs(hit.score - self.true_scores[probe, place]) <= self.error

    def come_and_go(self, first: int, last: int) -> Work:
        def work(random: np.random.Generator) -> None:
            some = first + random.permutation(last - first)[: random.integers(1, 80)]
            ids = self.first_id + some
            self.index.add(ids, self.vectors[some])
            assert self.index.holds(ids).all()
            np.testing.assert_allclose(self.index.reconstruct(ids), self.vectors[some], atol=self.error)
            probe = self.index.search(self.vectors[some[:1]], 1, parameters=EVERYTHING)[0][0]
            assert probe.embedding_id == ids[0]
            assert self.index.remove(ids) == len(ids)
            assert not self.index.holds(ids).any()
            assert self.index.search_above(self.vectors[some[:1]], 0.99) == [[]]

        return work

    def read(self, _random: np.random.Generator) -> None:
        ids, checksums = whole(self.index.contents(deep=self.saved % 2 == 0))
        assert ids == sorted(set(ids))
        assert ids[:STAY] == list(range(self.first_id, self.first_id + STAY))
        assert checksums == self.checksums[np.array(ids) - self.first_id].tolist()

    def save(self, _random: np.random.Generator) -> None:
        self.saved += 1
        self.index.begin_save(FeedMark(self.saved, "ab" * 32)).write(keep_previous=self.saved % 3 == 0)


def test_searching_while_vectors_come_and_go_and_are_saved_never_gives_a_torn_answer(lab: Lab) -> None:
    store = lab.store()
    one = Gallery(lab.lend(store.create()), first_id=0, seed=0, score_error=lab.engine.score_error)
    Together(2.0).run(
        search_1=one.search,
        search_2=one.search,
        search_3=one.search,
        change_1=one.come_and_go(100, 500),
        change_2=one.come_and_go(500, 900),
        read=one.read,
        save=one.save,
    )
    np.testing.assert_array_equal(one.index.ids(), np.arange(STAY))
    one.save(np.random.default_rng())
    with lab.loaded(store) as kept:
        assert whole(kept.contents(deep=True)) == (list(range(STAY)), one.checksums[:STAY].tolist())
        assert store.marks()[0].seq == one.saved


def test_galleries_that_are_searched_and_changed_at_once_answer_only_of_their_own(lab: Lab) -> None:
    galleries = [
        Gallery(lab.index(), first_id=first, seed=seed, score_error=lab.engine.score_error)
        for seed, first in enumerate((0, 10_000, 20_000))
    ]
    works: dict[str, Work] = {}
    for number, gallery in enumerate(galleries):
        works[f"search_{number}"] = gallery.search
        works[f"change_{number}"] = gallery.come_and_go(100, 900)
    Together(1.5).run(**works)
    for gallery in galleries:
        np.testing.assert_array_equal(gallery.index.ids(), gallery.first_id + np.arange(STAY))


def test_a_filter_that_threads_share_is_right_for_all_of_them(lab: Lab) -> None:
    """Two threads make the most of one filter while a third adds vectors that it keeps."""
    index, vectors = lab.index(), unit_vectors(2000)
    index.add(np.arange(1000), vectors[:1000])
    shared, next_id = IdSet(np.arange(0, 2000, 3)), [1000]

    def search(random: np.random.Generator) -> None:
        before = next_id[0]
        k = int(random.integers(1, 700))
        (hits,) = index.search(vectors[random.integers(0, 2000, 1)], k, allowed=shared)
        found = {hit.embedding_id for hit in hits}
        assert all(number % 3 == 0 for number in found)
        assert len(found) >= min(k, len(range(0, before, 3)))

    def grow(random: np.random.Generator) -> None:
        first, count = next_id[0], int(random.integers(1, 9))
        if first + count <= 2000:
            index.add(np.arange(first, first + count), vectors[first : first + count])
            next_id[0] = first + count
        else:
            time.sleep(0.01)

    Together(1.0).run(one=search, two=search, three=grow)


@pytest.mark.parametrize("at_once", [8])
def test_of_threads_that_add_the_same_id_exactly_one_succeeds(lab: Lab, at_once: int) -> None:
    index, vectors = lab.index(), unit_vectors(at_once)
    for turn in range(20):
        won: list[int] = []
        start = threading.Barrier(at_once)

        def add(number: int, turn: int = turn, won: list[int] = won, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                index.add(np.array([turn]), vectors[number : number + 1])
            except Exception:
                return
            won.append(number)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        found = index.reconstruct(np.array([turn]))
        np.testing.assert_allclose(found, vectors[won], atol=lab.engine.score_error)
    assert index.count == 20


@pytest.mark.parametrize("first", ["torch", "faiss"])
def test_torch_and_faiss_work_in_one_process_whichever_comes_first(first: str) -> None:
    imports = ["import torch", "from indexer.index.faiss_index import FaissIndex"]
    program = "\n".join(
        [
            *(imports if first == "torch" else imports[::-1]),
            "import numpy as np",
            "rows = torch.nn.functional.normalize(torch.randn(20000, 192), dim=1).numpy()",
            "index = FaissIndex('e')",
            "index.add(np.arange(20000), rows)",
            "for _ in range(3):",
            "    hits = index.search(rows[:40], 1)",
            "    assert [h[0].embedding_id for h in hits] == list(range(40))",
            "    product = torch.from_numpy(rows[:500]) @ torch.from_numpy(rows[:500]).T",
            "    assert abs(float(product.diagonal().mean()) - 1) < 1e-5",
            "print('both')",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "both\n", done.stderr
