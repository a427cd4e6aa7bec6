"""Reads with libsndfile what it reads well: uncompressed and telephone-coded WAV and its kin, FLAC, Ogg."""

import io
import os
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import soundfile
from numpy.typing import NDArray

from indexer.audio.headers import WAVE_MPEG, Claim
from indexer.audio.sources import OpenedSource

CONTAINERS = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "ogg", "nist", "voc"})
"""Only these: given anything else libsndfile guesses (MATLAB, HTK, MP3 in noise), and MP3 there writes to stderr."""

NO_SAMPLES = "no samples"
"""Reason of refusal: a header with nothing after it."""

NO_SOUND = "no sound could be decoded from"
"""Start of the reason of refusal when a container opens and nothing in it decodes."""

_READ_VALUES = 1 << 17
_UNKNOWN_FRAMES = 1 << 62
_READ_FRAMES = 32_768
"""Frames of a block: a quarter of a megabyte each channel. A short recording is two or three; each costs some calls."""

_PIECE_FRAMES = 256
"""Frames of a read up to damage: all but so many of those before it are heard."""

_NEAR_BYTES = 1 << 20
"""libFLAC reads ahead by less; what begins behind the last frame begins this near to where it stands."""
_FLAC_BEGINS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")


class DecoderRefusedError(Exception):
    """One decoder cannot read the file; another may. Never leaves this package."""


class NoSuchTrackError(DecoderRefusedError):
    """The file has no audio track of the number that is asked for."""


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]  # no type hints for its base
    """A file that is only read forward.

    The library seeks after every read of a seekable file; GSM 6.10 loses its decoder state there.
    """

    def seekable(self) -> bool:
        return False


class SoundfileReader:
    """Frames of one file, through libsndfile.

    Raises
    ------
    DecoderRefusedError
        If libsndfile does not read the file, or reads it badly (MPEG audio, a length of nothing).
    """

    decoder = "soundfile"
    track = 1
    audio_tracks = 1
    mostly_damaged = False

    def __init__(self, source: OpenedSource, container: str | None, claim: Claim) -> None:
        if container not in CONTAINERS:
            raise DecoderRefusedError("not a container for libsndfile")
        if claim.format_tag in WAVE_MPEG:
            raise DecoderRefusedError("MPEG audio inside WAV")
        if claim.chained:
            raise DecoderRefusedError("several Ogg streams in a row")
        self._source = source
        try:
            self._file = _opened(source)
        except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
            raise DecoderRefusedError(_reason(error)) from error
        if self._file.subtype.startswith("MPEG"):
            self.close()
            raise DecoderRefusedError("MPEG audio")
        if self._file.frames == 0 and claim.truncated_bytes == 0:
            self.close()
            raise DecoderRefusedError(NO_SAMPLES)
        self.container: str = container
        self.codec: str = str(self._file.subtype).lower()
        self.sample_rate_hz = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        known = 0 < self._file.frames < _UNKNOWN_FRAMES and self.sample_rate_hz > 0
        self.declared_s: float | None = self._file.frames / self.sample_rate_hz if known else None
        self.exact_duration = True
        self.issues: list[str] = []

    def close(self) -> None:
        """Close libsndfile's handle."""
        self._file.close()

    def frames(self) -> Iterator[NDArray[np.float64]]:
        """Yield (n, channels) blocks in file order; integer samples are divided by 2^(bits - 1)."""
        count = frames_at_once(self.channels)
        done, promised = 0, self._file.frames
        while done < promised:
            # Not one frame too many: past the last, libFLAC takes a tag for damage and drops the good frames with it.
            block = np.empty((min(count, promised - done), self.channels))
            try:
                block = self._file.read(out=block)
            except (soundfile.SoundFileError, RuntimeError) as error:
                for piece in self._up_to_damage(done):
                    done += len(piece)
                    yield piece
                self.issues.append(f"decoding stopped at {done / self.sample_rate_hz:.1f} s ({_reason(error)})")
                return
            if len(block) == 0:
                return
            done += len(block)
            yield block
        if self.container == "flac" and self._another_follows():
            self.issues.append("another FLAC recording follows in the same file and was not decoded")

    def _up_to_damage(self, done: int) -> Iterator[NDArray[np.float64]]:
        """Yield what follows `done` frames, in small pieces: a read that meets damage gives nothing of what it read."""
        with suppress(soundfile.SoundFileError, RuntimeError, OSError):
            self._file.close()
            self._file = _opened(self._source)
            while done > 0:
                skipped = len(self._file.read(min(done, _READ_FRAMES), always_2d=True))
                if skipped == 0:
                    return
                done -= skipped
            while len(piece := self._file.read(_PIECE_FRAMES, dtype="float64", always_2d=True)):
                yield piece

    def _another_follows(self) -> bool:
        """Look behind the last frame for the beginning of a second file: FLAC cannot be joined, and yet it is."""
        file = self._source.file
        try:
            position = file.tell()
            file.seek(max(1, position - _NEAR_BYTES))
            near = file.read(2 * _NEAR_BYTES)
            file.seek(position)
        except (OSError, ValueError):
            return False
        return any(mark in near for mark in _FLAC_BEGINS)


def _opened(source: OpenedSource) -> soundfile.SoundFile:
    source.file.seek(0)
    if isinstance(source.file, io.BytesIO):
        return _Sequential(source.file)
    # libsndfile closes what it is given, and its file position is shared with the original.
    return _Sequential(os.dup(source.file.fileno()), closefd=True)


def frames_at_once(channels: int) -> int:
    """Return how many frames of so many channels a block has."""
    return max(1, min(_READ_FRAMES, _READ_VALUES // channels))


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(str(text).removeprefix("Error : ").split()).rstrip(".")
