import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from indexer.index.base import VectorIndex
from indexer.index.faiss_index import FaissFlatIndex
from indexer.types import EncoderId
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("encoder-a")


@pytest.fixture(params=[FaissFlatIndex, ReferenceIndex], ids=["faiss-flat", "reference"])
def index(request: pytest.FixtureRequest) -> VectorIndex:
    made: VectorIndex = request.param(ENCODER)
    return made


def test_searching_while_vectors_come_and_go_never_gives_a_torn_answer(index: VectorIndex) -> None:
    """Rows 0-99 stay for the whole test; 100-899 are added and removed all the while."""
    vectors = unit_vectors(900)
    index.add(np.arange(100), vectors[:100])
    true_scores = vectors[:100].astype(np.float64) @ vectors.astype(np.float64).T
    until = time.monotonic() + 2.0
    failures: list[BaseException] = []
    searches = [0]

    def guarded(work: Callable[[np.random.Generator], None], seed: int) -> Callable[[], None]:
        def run() -> None:
            random = np.random.default_rng(seed)
            try:
                while time.monotonic() < until and not failures:
                    work(random)
            except BaseException as error:
                failures.append(error)

        return run

    def search(random: np.random.Generator) -> None:
        asked = random.integers(0, 100, 3)
        for probe, hits in zip(asked, index.search(vectors[asked], 10), strict=True):
            assert len(hits) == 10
            assert hits[0].embedding_id == probe
            for hit in hits:  # the score belongs to the id it is given with
                assert abs(hit.score - true_scores[probe, hit.embedding_id]) < 1e-6
        allowed = random.integers(0, 100, 20)
        (hits,) = index.search(vectors[asked[:1]], 50, allowed=allowed)
        assert {hit.embedding_id for hit in hits} == set(allowed.tolist())
        (above,) = index.search_above(vectors[asked[:1]], 0.99)
        assert [hit.embedding_id for hit in above] == [asked[0]]
        searches[0] += 1

    def come_and_go(first: int) -> Callable[[np.random.Generator], None]:
        def work(random: np.random.Generator) -> None:
            some = first + random.permutation(400)[: random.integers(1, 50)]
            index.add(some, vectors[some])
            np.testing.assert_array_equal(index.reconstruct(some), vectors[some])
            assert index.remove(some) == len(some)

        return work

    def read_all(_random: np.random.Generator) -> None:
        with index.frozen() as (ids, rows):
            np.testing.assert_array_equal(rows, vectors[ids])
            assert set(range(100)) <= set(ids.tolist())

    jobs = [guarded(search, seed) for seed in range(4)]
    jobs += [guarded(come_and_go(100), 10), guarded(come_and_go(500), 11), guarded(read_all, 12)]
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]
    assert searches[0] > 5
    np.testing.assert_array_equal(index.ids(), np.arange(100))


@pytest.mark.parametrize("first", ["torch", "faiss"])
def test_torch_and_faiss_work_in_one_process_whichever_comes_first(first: str) -> None:
    imports = ["import torch", "from indexer.index.faiss_index import FaissFlatIndex"]
    program = "\n".join(
        [
            *(imports if first == "torch" else imports[::-1]),
            "import numpy as np",
            "rows = torch.nn.functional.normalize(torch.randn(20000, 192), dim=1).numpy()",
            "index = FaissFlatIndex('e')",
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
