"""What proposes rows for exact scoring: a pass over every row of an index that is quick because it may be inexact."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors

Positions = NDArray[np.int64]
"""(n,) places of rows in an index, from 0 in the order in which they were appended."""


ROUNDING = 1e-5
"""More than a float32 inner product of 192 terms can differ from the exact one (about 1e-6 for unit vectors)."""


class Proposals(NamedTuple):
    """The rows that a scan puts first for each of Q probes, in runs that are each by falling estimate."""

    scores: NDArray[np.float32]
    """(Q, F) estimates of the cosines."""
    positions: Positions
    """(Q, F); -1 in places that are left over."""
    floors: NDArray[np.float32]
    """(Q,) no row that is not proposed has a greater estimate; -inf where every row is proposed."""
    runs: tuple[int, ...] = (0,)
    """Columns at which a run begins; the first is 0."""


class Subset(Protocol):
    """Rows that a scan is kept to, as the scan that made it needs them; safe to search from many threads."""

    @property
    def memory_bytes(self) -> int:
        """What keeping it costs."""
        ...

    def append(self, positions: Positions) -> None:
        """Take in (n,) more rows; they rise and lie above all before. Nobody searches meanwhile."""
        ...


class Scan(Protocol):
    """A pass over the rows of one index.

    The index that owns it keeps changes and searches apart: `append`, `remove` and `Subset.append` are called while no
    search runs, searches come from many threads at once. A row may be proposed after it was removed; the index
    passes over it and asks for more.
    """

    @property
    def kind(self) -> str:
        """Name of the method, as users see it."""
        ...

    @property
    def margin(self) -> float:
        """How far a row's cosine may lie above its estimate; every row that could matter by it is scored exactly."""
        ...

    @property
    def candidates(self) -> int:
        """Rows that are worth fetching at first when few are asked for."""
        ...

    @property
    def probes_a_core(self) -> int:
        """Probes that one core best searches with at a time; 0 where a search uses all cores by itself."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Resident bytes of it, without what is mapped from files; on a device: the device's bytes are not counted."""
        ...

    @property
    def details(self) -> dict[str, str | int | float]:
        """What users are told of it: how well it was measured to find, when it was trained."""
        ...

    def prepare(self, vectors: Vectors) -> NDArray[Any]:
        """Do what of an append nobody has to wait for: (n, D) vectors -> (n, ...) what this scan keeps of them.

        Searches and appends may run meanwhile.
        """
        ...

    def append(self, prepared: NDArray[Any]) -> None:
        """Take in (n, ...) more rows as `prepare` made them; their positions follow on those before."""
        ...

    def remove(self, positions: Positions) -> None:
        """Hear that these rows went."""
        ...

    def subset(self, positions: Positions) -> Subset:
        """Prepare a filter: (n,) rising positions that searches are kept to."""
        ...

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        """Propose about `fetch` rows for each of (Q, D) probes: the best by their estimates.

        Parameters
        ----------
        fetch : int
            Where no more rows are there, all of them are proposed, and a scan may propose some more than asked for.
        subset : Subset, optional
            One that this scan made: nothing outside it is proposed.
        """
        ...

    @property
    def count(self) -> int:
        """Rows that were appended, those that went among them."""
        ...

    def close(self) -> None:
        """Give back threads and device memory; no search runs any more."""
        ...
