"""A recording that is read more than once: short ones stay in memory, long ones are decoded again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.audio.decode import AudioInfo, AudioSource, ChannelPolicy, open_audio
from indexer.audio.meter import Levels
from indexer.audio.remarks import remarks
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ

Blocks = Iterator[NDArray[np.float32]]
"""(tracks, n) float32 samples of a recording, one after the other."""

KEPT_S = 1200.0
"""Most audio of a recording, all tracks together, that stays in memory: 77 MB."""


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """What is known of a recording that was read to its end.

    Attributes
    ----------
    duration_s
        Seconds that could be decoded.
    issues
        Why it was read in part only; empty when all of it was.
    """

    info: AudioInfo
    levels: Levels
    duration_s: float
    issues: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is said with every answer about it: why it was read in part only, and which of several tracks was."""
        return remarks(self.info, self.issues)


def _as_they_are(blocks: Blocks) -> Blocks:
    return blocks


class Take:
    """A recording that is read more than once.

    Parameters
    ----------
    watched
        What every reading goes through: whoever counts, or stops, does it there.

    Attributes
    ----------
    info
        What the recording is, once it could be opened.
    """

    def __init__(
        self,
        source: AudioSource,
        *,
        channels: ChannelPolicy,
        limits: AudioSettings,
        name: str | None = None,
        watched: Callable[[Blocks], Blocks] = _as_they_are,
    ) -> None:
        self._source = source
        self._channels = channels
        self._limits = limits
        self._name = name
        self._watched = watched
        self._kept: list[NDArray[np.float32]] | None = None
        self._is_long = False
        self._facts: RecordingFacts | None = None
        self.info: AudioInfo | None = None

    @property
    def facts(self) -> RecordingFacts:
        """What is known of it; only after the first reading."""
        assert self._facts is not None
        return self._facts

    @property
    def duration_s(self) -> float:
        """How long it is; only after the first reading."""
        return self.facts.duration_s

    def blocks(self) -> Blocks:
        """Read the recording from its beginning; the first time must go to the end."""
        if self._kept is not None:
            yield from self._watched(iter(self._kept))
            return
        # A stream is read once; its file is as long as whoever sent it was allowed to.
        most = KEPT_S * SAMPLE_RATE_HZ if isinstance(self._source, Path | bytes) else np.inf
        kept: list[NDArray[np.float32]] | None = None if self._is_long else []
        held = 0
        # Once more means the same track, whichever a library takes for the best by then.
        track = None if self.info is None else self.info.track
        with open_audio(
            self._source, channels=self._channels, limits=self._limits, name=self._name, track=track
        ) as reader:
            self.info = reader.info
            for block in self._watched(reader.blocks()):
                held += block.size
                if kept is not None:
                    self._is_long = held > most
                    kept = None if self._is_long else [*kept, block]
                yield block
            self._facts = RecordingFacts(reader.info, reader.levels, reader.decoded_s, reader.issues)
        self._kept = kept

    def forget(self) -> None:
        """Let go of the samples in memory: whoever reads it once more has it decoded again."""
        self._kept = None
