"""One set of vectors with its probes and their true neighbors, on disk, as every engine of a run meets it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.bench.truth import Rows, exact_top
from api.bench.vector_sets import VectorSet, map_rows, write_rows
from indexer.types import Vectors

K = 10
"""Neighbors asked for: recall is recall@10."""

FILTERS = (0.01, 0.10, 0.50)
"""Shares of the vectors that filters keep."""

DELETED = 0.30
"""Share of the vectors that is deleted."""

SCOPED_PROBES = 100
"""Probes of each kind that are searched under filters and after deletions."""

_LEFT = "left after deletions"
_MASKS = 9  # random stream of the filters; the sets of vectors use the numbers below


@dataclass(frozen=True)
class Trial:
    """Where the files of one size are; every child process gets this."""

    folder: str
    count: int
    seed: int

    @property
    def rows(self) -> Vectors:
        """(n, D) vectors, mapped; the embedding id of a row is its number + 1."""
        return map_rows(self.path("rows.f32"))[: self.count]

    def path(self, name: str) -> Path:
        """Where a file of this trial is."""
        return Path(self.folder) / name

    def probes(self, kind: str) -> Vectors:
        """(Q, D) probes, "known" or "strangers"."""
        loaded: Vectors = np.load(self.path(f"{kind}.npy"))
        return loaded

    def truth(self, kind: str, scope: str = "all") -> Rows:
        """(Q, 10) embedding ids that an exhaustive search finds for the first Q probes."""
        loaded: Rows = np.load(self.path(f"truth-{kind}-{scope}.npy"))
        return loaded

    def kept_by(self, share: float) -> NDArray[np.bool_]:
        """(n,) mask of the rows that the filter of this share keeps."""
        rng = np.random.default_rng([self.seed, _MASKS, round(share * 1000)])
        return rng.random(self.count, dtype=np.float32) < share

    def deleted(self) -> NDArray[np.bool_]:
        """(n,) mask of the rows that are deleted."""
        return self.kept_by(DELETED)

    def as_arguments(self) -> dict[str, str | int]:
        """Return what a child process makes this from."""
        return asdict(self)


KINDS = ("known", "strangers")


def scope_name(share: float) -> str:
    """Name of a filter's truth."""
    return f"{share:.0%}"


def left_name() -> str:
    """Name of the truth after deletions."""
    return _LEFT.replace(" ", "-")


def prepare(source: VectorSet, folder: Path, count: int, seed: int, *, probes: int) -> Trial:
    """Write vectors, probes and what is true of them.

    Parameters
    ----------
    probes
        Probes of each kind.

    Raises
    ------
    Unavailable
        If the disk has not enough space.
    """
    trial = Trial(str(folder), count, seed)
    folder.mkdir(parents=True, exist_ok=True)
    # The index's own files: while it is built a scratch file, then a snapshot beside it.
    write_rows(source, count, trial.path("rows.f32"), spare=2.3)
    both = {"known": source.known(probes, count), "strangers": source.strangers(probes)}
    for kind, vectors in both.items():
        np.save(trial.path(f"{kind}.npy"), vectors)
    (exact,) = exact_top(trial.rows, np.concatenate(list(both.values())), K, [None])
    few = min(SCOPED_PROBES, probes)
    scopes = {scope_name(share): trial.kept_by(share) for share in FILTERS} | {left_name(): ~trial.deleted()}
    scoped = exact_top(
        trial.rows, np.concatenate([vectors[:few] for vectors in both.values()]), K, list(scopes.values())
    )
    for number, kind in enumerate(both):
        _keep(trial, kind, "all", exact[number * probes : (number + 1) * probes])
        for name, found in zip(scopes, scoped, strict=True):
            _keep(trial, kind, name, found[number * few : (number + 1) * few])
    return trial


def _keep(trial: Trial, kind: str, scope: str, rows: Rows) -> None:
    np.save(trial.path(f"truth-{kind}-{scope}.npy"), np.where(rows >= 0, rows + 1, rows))
