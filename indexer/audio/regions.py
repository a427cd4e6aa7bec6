"""Where somebody speaks: the words for it, and what finds it; whoever only decides by it loads no network."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from indexer.types import Waveform


class Region(NamedTuple):
    """A stretch of one track in which somebody speaks, in seconds from the track's beginning."""

    start_s: float
    end_s: float


class SpeechStream(Protocol):
    """Listens to one track that comes in blocks."""

    def push(self, block: Waveform) -> list[Region]:
        """Hear the next (n,) samples; return the regions that have ended by now, which nothing can change any more."""

    def finish(self) -> list[Region]:
        """Return what is left when the track ends; nothing may be pushed after it."""

    def spoken(self) -> list[Region]:
        """Return where speech itself begins and ends, as closely as can be told, after `finish`, where it was to.

        The regions hold a little of what sounds around it, for vectors are better with it; these do not. What of these
        is outside the regions is no speech.
        """


class SpeechDetector(Protocol):
    """Finds speech; one serves any number of tracks and threads."""

    def stream(self, *, edges: bool = True) -> SpeechStream:
        """Begin to listen to a track.

        Parameters
        ----------
        edges
            Whether anybody will ask for `spoken`; what only that needs is not kept otherwise.
        """

    def regions(self, waveform: Waveform) -> list[Region]:
        """Find the speech of a track that is at hand; rising and disjoint."""


def speech_s(regions: Iterable[Region]) -> float:
    """Return the seconds of disjoint regions together: their net speech."""
    return sum(region.end_s - region.start_s for region in regions)


def bridged(regions: Iterable[Region], pause_s: float) -> list[Region]:
    """Join regions that are at most `pause_s` apart."""
    joined: list[Region] = []
    for region in regions:
        if joined and region.start_s - joined[-1].end_s <= pause_s:
            joined[-1] = Region(joined[-1].start_s, region.end_s)
        else:
            joined.append(region)
    return joined
