"""What a recording looks like: how loud it is along its length, and where somebody speaks."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import AudioInfo, AudioSource, open_audio
from indexer.audio.regions import Region, SpeechDetector
from indexer.errors import InvalidRequest
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

_STEP = 160
"""Samples whose largest magnitude is kept while a recording is read: 10 ms, so 0.4 MB an hour."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A recording, or a stretch of one, at a glance.

    Attributes
    ----------
    start_s, end_s
        What was looked at.
    peaks : (n,) float32 array
        Largest magnitude of each of n equal parts, from 0 to 1.
    speech
        Where somebody speaks, in seconds from the beginning of the recording; empty where nobody was asked to listen.
    info
        What the recording is.
    issues
        Why it was read in part only.
    """

    start_s: float
    end_s: float
    peaks: NDArray[np.float32]
    speech: tuple[Region, ...]
    info: AudioInfo
    issues: tuple[str, ...]


def outline(
    source: AudioSource,
    *,
    points: int,
    channels: ChannelPolicy,
    limits: AudioSettings,
    name: str,
    start_s: float = 0.0,
    end_s: float | None = None,
    detector: SpeechDetector | None = None,
    audio_track: int | None = None,
) -> Outline:
    """Look at a recording once, in bounded memory.

    Parameters
    ----------
    points
        Most peaks; fewer come of what lasts less than 10 ms for each.
    end_s
        None means the recording's end.
    detector
        What finds speech; None: nobody looks for it.
    audio_track
        Which audio track of its container, from 1; None: the one that is taken for the best.

    Raises
    ------
    InvalidAudio
        If the recording cannot be decoded, or exceeds a limit.
    InvalidRequest
        If the stretch is empty or begins after the end, or the channels are several tracks.
    """
    if channels.kind == "each":
        raise InvalidRequest("channels = each gives several tracks, and one is looked at; name a channel, or mix")
    if end_s is not None and end_s <= start_s:
        raise InvalidRequest(f"start_s = {start_s:g} and end_s = {end_s:g} leave nothing: end after the beginning")
    meter = _PeakMeter()
    stream = detector.stream(edges=False) if detector is not None else None
    regions: list[Region] = []
    position, last = 0, None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
    with open_audio(source, channels=channels, limits=limits, name=name, track=audio_track) as reader:
        for block in reader.blocks():
            position += block.shape[1]
            meter.add(block[0])
            if stream is not None:
                regions += stream.push(block[0])
            if last is not None and position >= last:
                break
        info, issues = reader.info, reader.issues
    if stream is not None:
        regions += stream.finish()
    reached_s = position / SAMPLE_RATE_HZ
    stop_s = reached_s if end_s is None else min(end_s, reached_s)
    if start_s >= stop_s:
        raise InvalidRequest(f"start_s = {start_s:g} is after the end of {name} ({reached_s:g} s)")
    return Outline(
        start_s=start_s,
        end_s=stop_s,
        peaks=meter.peaks(points, round(start_s * SAMPLE_RATE_HZ), round(stop_s * SAMPLE_RATE_HZ)),
        speech=tuple(region for region in regions if region.end_s > start_s and region.start_s < stop_s),
        info=info,
        issues=issues,
    )


@dataclass
class _PeakMeter:
    """Keeps the largest magnitude of every 10 ms of a track that comes in blocks."""

    _done: list[NDArray[np.float32]] = field(default_factory=list)
    _rest: Waveform = field(default_factory=lambda: np.empty(0, dtype=np.float32))

    def add(self, block: Waveform) -> None:
        """Hear the next (n,) samples."""
        waiting = np.concatenate([self._rest, block]) if len(self._rest) else block
        whole = len(waiting) - len(waiting) % _STEP
        if whole:
            self._done.append(np.abs(waiting[:whole]).reshape(-1, _STEP).max(axis=1))
        self._rest = waiting[whole:].copy()

    def peaks(self, points: int, first: int, last: int) -> NDArray[np.float32]:
        """Return the largest magnitudes of at most `points` equal parts of the samples from `first` to `last`."""
        steps = [*self._done, np.abs(self._rest).max(keepdims=True)] if len(self._rest) else self._done
        fine = np.concatenate(steps)[first // _STEP : -(-last // _STEP)]
        starts = np.linspace(0, len(fine), min(points, len(fine)), endpoint=False).astype(np.int64)
        return np.minimum(np.maximum.reduceat(fine, starts), 1.0).astype(np.float32)
