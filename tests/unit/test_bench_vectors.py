"""What the index is measured with: vectors, probes, and what is true of them."""

from pathlib import Path

import numpy as np
import pytest

from api.bench.trial import FILTERS, KINDS, Trial, left_name, prepare, scope_name
from api.bench.truth import exact_top, recall
from api.bench.vector_sets import (
    BLOCK_ROWS,
    PER_SPEAKER,
    ClusteredVoices,
    JitteredEmbeddings,
    VectorSet,
    blocks_of,
    map_rows,
    read_embeddings,
    write_rows,
)
from indexer.errors import InvalidRequest, Unavailable
from tests.vectors import unit_vectors


def sets() -> list[VectorSet]:
    return [ClusteredVoices(3), JitteredEmbeddings(unit_vectors(300, seed=1), "noise", 3)]


@pytest.mark.parametrize("source", sets(), ids=lambda source: source.name)
def test_a_block_is_the_same_whenever_it_is_made_and_of_unit_rows(source: VectorSet) -> None:
    first, again, other = source.block(0), source.block(0), source.block(1)
    assert first.shape == (BLOCK_ROWS, 192)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.abs(np.linalg.norm(first, axis=1) - 1).max() < 1e-5


def test_utterances_of_a_synthetic_speaker_score_as_real_ones_do_and_strangers_score_low() -> None:
    source = ClusteredVoices(1)
    rows = source.block(0)
    pairs = rows[::PER_SPEAKER] @ rows[1::PER_SPEAKER].T
    assert 0.67 < np.diag(pairs).mean() < 0.71
    best = (source.strangers(50) @ rows.T).max(axis=1)
    assert best.max() < 0.5
    known = (source.known(50, BLOCK_ROWS) @ rows.T).max(axis=1)
    assert known.min() > 0.5


def test_probes_of_known_voices_are_of_the_first_vectors_only() -> None:
    source = ClusteredVoices(1)
    rows = source.block(0)[:1000]
    assert (source.known(40, 1000) @ rows.T).max(axis=1).min() > 0.5


def test_jitter_goes_where_the_embeddings_differ() -> None:
    flat = unit_vectors(400, seed=2)
    flat[:, 96:] = 0
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    rows = JitteredEmbeddings(flat, "half", 1).block(0)
    assert np.abs(rows[:, 96:]).max() < 1e-5
    # A base and its jittered vector: 1 / sqrt(1 + 0.67**2) on average.
    assert 0.78 < (rows[:500] @ flat.T).max(axis=1).mean() < 0.88


def test_too_few_embeddings_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="99 embeddings where 100"):
        JitteredEmbeddings(unit_vectors(99), "few", 1)


def test_rows_are_written_in_order_and_mapped(tmp_path: Path) -> None:
    source = ClusteredVoices(1)
    write_rows(source, BLOCK_ROWS + 7, tmp_path / "rows", spare=0)
    mapped = map_rows(tmp_path / "rows")
    assert np.array_equal(mapped, np.concatenate(list(blocks_of(source, BLOCK_ROWS + 7))))
    assert np.array_equal(mapped[BLOCK_ROWS:], source.block(1)[:7])


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="GB free where"):
        write_rows(ClusteredVoices(1), 10**12, tmp_path / "rows", spare=1)
    assert not (tmp_path / "rows").exists()


def test_embeddings_are_read_whatever_the_arrays_are_called(tmp_path: Path) -> None:
    rows = unit_vectors(5)
    np.savez(tmp_path / "some.npz", a=rows[0], b=rows[1:])
    assert np.allclose(read_embeddings(tmp_path / "some.npz"), rows, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"\0" * 18, b"no archive"])
def test_a_file_that_holds_no_embeddings_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"bad\.npz"):
        read_embeddings(path)


def test_embeddings_of_another_dimension_or_without_direction_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", a=np.ones((3, 256), dtype=np.float32))
    with pytest.raises(InvalidRequest, match="256"):
        read_embeddings(tmp_path / "wide.npz")
    np.savez(tmp_path / "zero.npz", a=np.zeros((3, 192), dtype=np.float32))
    with pytest.raises(InvalidRequest, match="no direction"):
        read_embeddings(tmp_path / "zero.npz")


def test_the_truth_is_what_comparing_everything_gives_in_every_scope() -> None:
    rows, probes = unit_vectors(40_000, seed=1), unit_vectors(30, seed=2)
    rows[7] = rows[20_007]  # a tie, across blocks
    mask = np.random.default_rng(1).random(len(rows)) < 0.01
    few = np.zeros(len(rows), dtype=bool)
    few[[5, 39_000]] = True
    scores = probes.astype(np.float64) @ rows.T.astype(np.float64)
    for scope, found in zip([None, mask, few], exact_top(rows, probes, 10, [None, mask, few]), strict=True):
        allowed = np.flatnonzero(np.ones(len(rows), dtype=bool) if scope is None else scope)
        for probe, numbers in enumerate(found):
            order = np.lexsort((allowed, -scores[probe, allowed]))[:10]
            expected = allowed[order].tolist() + [-1] * (10 - len(order))
            assert numbers.tolist() == expected


def test_recall_counts_what_is_true_and_found() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    assert recall([[1, 2, 3, 4], [6, 5]], truth) == 1.0
    assert recall([[1, 2, 9, 8], [5]], truth) == 0.5
    assert recall([[], []], np.full((2, 4), -1)) == 1.0


def test_a_trial_keeps_the_truth_of_every_scope_by_embedding_id(tmp_path: Path) -> None:
    trial = prepare(ClusteredVoices(1), tmp_path, 3000, 1, probes=20)
    again = Trial(**trial.as_arguments())  # type: ignore[arg-type] - as a child process reads it from JSON
    rows = again.rows
    for kind in KINDS:
        probes = again.probes(kind)
        exact = np.argsort(-(probes @ rows.T), axis=1)[:, 0] + 1
        assert again.truth(kind)[:, 0].tolist() == exact.tolist()
        for share in FILTERS:
            kept = np.flatnonzero(again.kept_by(share)) + 1
            assert set(again.truth(kind, scope_name(share)).ravel().tolist()) <= {-1, *kept.tolist()}
        gone = np.flatnonzero(again.deleted()) + 1
        assert not set(again.truth(kind, left_name()).ravel().tolist()) & set(gone.tolist())


@pytest.mark.parametrize("what", ["cut short", "objects", "one array", "no archive", "not there"])
def test_files_that_hold_no_vectors_are_refused_without_advice_to_unpickle(tmp_path: Path, what: str) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, rows=np.array([{}]) if what == "objects" else unit_vectors(50, seed=1))
    if what == "cut short":
        path.write_bytes(path.read_bytes()[:500])
    elif what == "one array":
        with path.open("wb") as file:
            np.save(file, unit_vectors(50, seed=1))
    elif what == "no archive":
        path.write_text("text\n")
    elif what == "not there":
        path.unlink()
    with pytest.raises(InvalidRequest, match="`voxdex embed --output` makes") as refused:
        read_embeddings(path)
    assert "pickle" not in str(refused.value)
