"""What a folded network asks about the frames that it runs on: where utterances end, and what is added up."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from indexer.embedding.ragged import Ragged


class Ends(NamedTuple):
    """Whether the utterance starts where some of its frames do, and ends where they do.

    Attributes
    ----------
    ragged
        Where they are frames of several utterances behind one another: where each of these lies.
    frames
        How many frames there are, where rows behind them only fill what is computed; None: all rows.
    filled
        Rows that are to be computed, the last ones for nothing; None: as many as there are frames.
    """

    start: bool
    end: bool
    ragged: "Ragged | None" = None
    frames: int | None = None
    filled: int | None = None


class Part(Protocol):
    """(B, T, C) frames: a `Share` of one utterance, all of several of one length, or `Ragged` ones of any lengths.

    A share may have rows behind its frames that stand for nothing (see `shares.GRID`): they are never added up, and no
    frame reads them.
    """

    def cut(self, x: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Cut this part out of the frames that there are, with so many more on each side if there are."""

    def widened(self, own: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Return the frames of this part with so many more of its neighbors on each side."""

    def sum(self, own: Tensor) -> Tensor:
        """Add up the frames that this part has of each utterance: (B, T, C) -> (B, C)."""

    def highest(self, own: Tensor) -> Tensor:
        """Return the largest of each channel of each utterance: (B, T, C) -> (B, C)."""

    def total(self, own: Tensor) -> Tensor:
        """Add up what all parts of the utterances have."""

    def spread(self, own: Tensor) -> Tensor:
        """Return (B, C) as what can be combined with the frames of each utterance."""

    def speech(self, x: Tensor) -> "tuple[Tensor, int, Part]":
        """Return rows that begin with the frames of speech, how many these are, and what part they are."""

    @property
    def counts(self) -> "int | Tensor":
        """Frames of speech of each whole utterance."""
