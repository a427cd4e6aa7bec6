"""How an index differs from what is kept of it, as it is brought into step with the record."""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.index.base import VectorIndex


@dataclass(frozen=True)
class Adjustment:
    """How many vectors an index gained, lost and had replaced to be in step."""

    added: int = 0
    removed: int = 0
    replaced: int = 0
    elsewhere: int = 0
    """Vectors that the record lost under other encoders, whose files nobody else may follow."""

    @property
    def erases(self) -> bool:
        """Whether something had to go, which then must go from the files too."""
        return bool(self.removed or self.replaced)

    def __add__(self, other: "Adjustment") -> "Adjustment":
        return Adjustment(
            self.added + other.added,
            self.removed + other.removed,
            self.replaced + other.replaced,
            self.elsewhere + other.elsewhere,
        )


Note = Callable[[Adjustment], None]
"""Hears of every change of an index once it is made, for the next step may fail."""


class Total:
    """The sum of what was noted."""

    def __init__(self) -> None:
        self.adjustment = Adjustment()

    def __call__(self, step: Adjustment) -> None:
        """Add one step."""
        self.adjustment += step


def unheard(_: Adjustment) -> None:
    """Leave the counting to the caller, or to nobody."""


@dataclass(frozen=True)
class Opened:
    """An index in step with the record, and what of it is not kept yet."""

    index: VectorIndex
    generation: int
    """What its store had kept last when it was loaded."""
    adjustment: Adjustment
    """How it differs from what was kept."""
    problem: str | None = None
    """What is wrong with what was kept last, if anything is."""
