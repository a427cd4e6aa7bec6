"""Compares what was decoded with what the header claimed: how much of the recording is this."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.audio.endings import find_cut
from indexer.audio.headers import Claim
from indexer.audio.sources import OpenedSource

READING_STOPPED = "reading stopped"
"""Start of the issue of a container that cannot be read on."""

_LOST_ANYWAY_S = 0.25
"""What a complete lossy file may lack of its claim: encoder delay and padding (three MP3 frames at 16 kHz: 0.2 s)."""
_LOST_EXACT_S = 0.01
"""What an exact claim may be off by: writers that count their header as data."""
_LOST_ANYWAY_BYTES = 64
"""The same in bytes."""
_LOSSLESS = frozenset({"alac", "flac", "shorten", "tta", "wavpack"})
"""Codecs that lose nothing, so that a count of samples in the header is exact."""


class FrameReader(Protocol):
    """What both decoders are."""

    decoder: str
    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    track: int
    audio_tracks: int
    declared_s: float | None
    exact_duration: bool
    issues: list[str]

    @property
    def mostly_damaged(self) -> bool:
        """Whether more of the file failed to decode than not."""
        ...

    def frames(self) -> Iterator[NDArray[np.float64]]:
        """Yield (n, channels) blocks in file order."""
        ...

    def close(self) -> None:
        """Give the decoder's resources back."""
        ...


def declared_s(frames: FrameReader, claim: Claim) -> float | None:
    """Say how long the recording claims to be, in seconds; None where nothing does."""
    if claim.frames is not None:
        return claim.frames / (claim.sample_rate_hz or frames.sample_rate_hz)
    if claim.truncated_bytes and claim.data_bytes and claim.present_bytes and frames.decoder == "soundfile":
        # The decoder has clamped its count to the bytes that are there.
        return (frames.declared_s or 0.0) * claim.data_bytes / claim.present_bytes
    return frames.declared_s


def is_certain(frames: FrameReader, claim: Claim) -> bool:
    """Tell a length that the header states from one that was estimated from the bit rate."""
    if claim.frames is not None or frames.exact_duration:
        return True
    # FFmpeg states the length that a Matroska or WAV header has; elsewhere it works it out from the bytes at hand.
    return claim.truncated_bytes > 0 and (frames.decoder == "soundfile" or frames.container in ("matroska", "wav"))


def issues(frames: FrameReader, claim: Claim, decoded: int) -> list[str]:
    """List what the decoder complained of, less what stands behind the last sample (a tag that FFmpeg trips over)."""
    whole = claim.frames is not None and decoded >= claim.frames and is_lossless(frames.codec)
    return [issue for issue in frames.issues if not (whole and issue.startswith(READING_STOPPED))]


def shortfall(frames: FrameReader, claim: Claim, decoded: int, source: OpenedSource) -> str | None:
    """Say how much of what was claimed is missing, or None when nothing worth mentioning is.

    Only after decoding: it moves the file's position.
    """
    decoded_s = decoded / frames.sample_rate_hz
    claimed_s = declared_s(frames, claim)
    exact = frames.decoder == "soundfile" or (claim.frames is not None and is_lossless(frames.codec))
    allowed_s = _LOST_EXACT_S if exact else _LOST_ANYWAY_S
    what = "the rest is damaged or missing" if frames.issues else "the file is truncated"
    if is_certain(frames, claim) and claimed_s is not None and decoded_s < claimed_s - allowed_s:
        return f"decoded {decoded_s:.1f} s of the {claimed_s:.1f} s its header claims: {what}"
    if claim.unfinished:
        return f"decoded {decoded_s:.1f} s and found no end mark: the file is truncated"
    if claim.ends_inside_block:
        found: str | None = "that it ends in the middle of a block"
    elif frames.decoder == "soundfile":
        return None
    else:
        found = find_cut(source.file, source.size, frames.container)
    if found is None and claim.truncated_bytes > _LOST_ANYWAY_BYTES:
        found = f"{claim.present_bytes} of the {claim.data_bytes} bytes its header claims"
    return f"decoded {decoded_s:.1f} s and found {found}: the file is truncated" if found else None


def is_lossless(codec: str) -> bool:
    """Tell whether a codec's count of samples is exact."""
    return codec in _LOSSLESS or codec.startswith("pcm_")
