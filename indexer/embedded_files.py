"""What became of a file that was to be embedded."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.archive import ArchiveFile
from indexer.audio.decode import AudioInfo
from indexer.audio.meter import Levels
from indexer.audio.quality import Quality
from indexer.errors import VoxdexError
from indexer.listening import UnlikeStretch, speech_by_voice
from indexer.types import EncoderId


@dataclass(frozen=True, slots=True)
class EmbeddedUtterance:
    """A stretch of a recording and its vectors."""

    track: int
    start_s: float
    end_s: float
    vectors: Mapping[EncoderId, NDArray[np.float32]]
    """(D,) of unit norm under each encoder."""
    voice: int | None = None
    """Whose it is, numbered within the recording; None where nobody looked."""
    quality: Quality | None = None
    """How good it is; None where nobody looked."""

    @property
    def speech_s(self) -> float:
        """Seconds of speech in it; its length where nobody looked."""
        return self.end_s - self.start_s if self.quality is None else self.quality.net_speech_s


@dataclass(slots=True)
class EmbeddedFile:
    """What became of one file: embedded, already known, or refused with the error that says why."""

    file: ArchiveFile
    content_sha256: str | None = None
    known: bool = False
    size_bytes: int | None = None
    """As it was read; None where it was not."""
    info: AudioInfo | None = None
    duration_s: float = 0.0
    issues: tuple[str, ...] = ()
    levels: Levels | None = None
    utterances: list[EmbeddedUtterance] = field(default_factory=list)
    unlike: UnlikeStretch | None = None
    """What may be a second voice; None where nothing may, several were heard, or nobody looked."""
    error: VoxdexError | None = None

    @property
    def speech_s(self) -> float:
        """Seconds of speech that were embedded, of all tracks."""
        return sum(utterance.speech_s for utterance in self.utterances)

    @property
    def voices_s(self) -> dict[int, float]:
        """Seconds of speech of each voice, most first; empty where nobody looked for voices."""
        return speech_by_voice((utterance.voice, utterance.speech_s) for utterance in self.utterances)
