"""Turns a recording (file, bytes or stream) into mono tracks at 16 kHz, a block at a time.

Memory is bounded by the block, not by the recording; `decode` is for what fits. Concatenated, the blocks equal
resampling the whole recording at once (see `indexer.audio.resample`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from indexer.audio import completeness
from indexer.audio.channels import ChannelPolicy
from indexer.audio.completeness import FrameReader
from indexer.audio.headers import Claim, read_claim
from indexer.audio.meter import LevelMeter, Levels, require_numbers
from indexer.audio.plain_wav import PlainWavReader, plain_layout
from indexer.audio.remarks import beside
from indexer.audio.resample import BlockResampler
from indexer.audio.sniff import describe_other, looks_like_audio, sniff_container
from indexer.audio.soundfile_reader import (
    NO_SAMPLES,
    NO_SOUND,
    DecoderRefusedError,
    NoSuchTrackError,
    SoundfileReader,
    frames_at_once,
)
from indexer.audio.sources import AudioSource, OpenedSource, open_source
from indexer.errors import AudioTooLarge, CorruptAudio, InvalidAudio, SilentAudio, UnsupportedFormat
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ

__all__ = [
    "AudioInfo",
    "AudioReader",
    "AudioSource",
    "ChannelPolicy",
    "DecodedAudio",
    "decode",
    "looks_like_audio",
    "open_audio",
]

MIN_SAMPLE_RATE_HZ = 4_000
MAX_SAMPLE_RATE_HZ = 192_000
"""Rates that are decoded. Speech needs 8 kHz to be told apart; 4 kHz leaves room for odd surveillance recorders."""

_SNIFF_BYTES = 8192
_LEAST_BYTES_PER_S = 80.0
"""Thinner than any speech codec: a header that claims so many seconds that fewer bytes are left for each is wrong."""

_MIX = ChannelPolicy.parse("mix")
_DEFAULT_LIMITS = AudioSettings()


@dataclass(frozen=True)
class AudioInfo:
    """What a recording is, as far as it is known before it is decoded.

    Attributes
    ----------
    name
        The name that messages use.
    container, codec
        As the content says (never the extension): `wav`, `mp4`; `pcm_16`, `aac`.
    sample_rate_hz, channels
        Of the recording, before resampling and the channel policy.
    declared_duration_s
        What the header claims, exact or an estimate; None where it says nothing.
    decoder
        `soundfile` or `pyav`.
    track, audio_tracks
        Which of the audio tracks of its container is decoded, from 1, and how many there are.
    """

    name: str
    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    declared_duration_s: float | None
    decoder: str
    track: int = 1
    audio_tracks: int = 1


@dataclass(frozen=True)
class DecodedAudio:
    """A whole recording in memory.

    Attributes
    ----------
    waveforms : (tracks, N) float32 array
        At 16 kHz.
    issues
        Why the recording is only a part of what it claims to be; empty when it is complete.
    """

    info: AudioInfo
    waveforms: NDArray[np.float32]
    issues: tuple[str, ...]
    duration_s: float


class AudioReader:
    """One recording being decoded; made by `open_audio`, and a context manager that closes it.

    Attributes
    ----------
    info : AudioInfo
        What is being decoded.
    tracks : int
        Rows of every block: 1, or the number of channels under the policy `each`.
    """

    def __init__(
        self, source: OpenedSource, frames: FrameReader, claim: Claim, policy: ChannelPolicy, limits: AudioSettings
    ) -> None:
        self._source = source
        self._frames = frames
        self._claim = claim
        self._policy = policy
        self._limits = limits
        self._issues: tuple[str, ...] = ()
        self._frames_in = 0
        self._samples_out = 0
        self._started = False
        self.info = AudioInfo(
            source.name,
            frames.container,
            frames.codec,
            frames.sample_rate_hz,
            frames.channels,
            completeness.declared_s(frames, claim),
            frames.decoder,
            frames.track,
            frames.audio_tracks,
        )
        self.tracks = policy.tracks(frames.channels, source.name)
        self._meter = LevelMeter(frames.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the decoder and the file."""
        self._frames.close()
        self._source.close()

    @property
    def issues(self) -> tuple[str, ...]:
        """Why the result is partial, complete once `blocks` is exhausted; empty when everything was decoded."""
        return self._issues

    @property
    def levels(self) -> Levels:
        """How loud the recording was, before resampling, as far as it was decoded."""
        return self._meter.levels()

    @property
    def decoded_s(self) -> float:
        """Seconds yielded so far."""
        return self._samples_out / SAMPLE_RATE_HZ

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Decode once, from start to end.

        Yields
        ------
        (tracks, n) float32 array
            Consecutive samples at 16 kHz; n is `limits.block_s`, less in the last block.

        Raises
        ------
        CorruptAudio
            If a sample is not a finite number, or nothing could be decoded.
        SilentAudio
            At the end, if no track held any sound.
        AudioTooLarge
            As soon as more than `limits.max_duration_s` was decoded.
        """
        if self._started:
            raise RuntimeError("blocks() decodes once; open the recording again")
        self._started = True
        size = max(1, round(self._limits.block_s * SAMPLE_RATE_HZ))
        pending: list[NDArray[np.float32]] = []
        held = 0
        for piece in self._resampled():
            pending.append(piece)
            held += len(piece)
            if held >= size:
                whole = np.concatenate(pending)
                for start in range(0, held - size + 1, size):
                    yield self._give(whole[start : start + size])
                rest = whole[held - held % size :]
                pending, held = [rest.copy()], len(rest)
        if held:
            yield self._give(np.concatenate(pending))

    def _give(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._samples_out += len(samples)
        return np.ascontiguousarray(samples.T)  # (n, tracks) -> (tracks, n)

    def _resampled(self) -> Iterator[NDArray[np.float32]]:
        """Yield (n, tracks) pieces at 16 kHz, and judge the recording when it has ended."""
        info = self.info
        resampler = BlockResampler(info.sample_rate_hz, self.tracks)
        by_channel = self._meter
        by_track = by_channel if self._policy.keeps(info.channels) else LevelMeter(self.tracks)
        most = self._limits.max_duration_s * info.sample_rate_hz
        for block in self._frames.frames():
            require_numbers(block, self._frames_in, info.sample_rate_hz, info.name)
            self._frames_in += len(block)
            if self._frames_in > most:
                raise _too_long(info.name, f"more than {self._limits.max_duration_s:g} s", self._limits)
            tracks = self._policy.select(block)
            by_channel.add(block)
            if by_track is not by_channel:
                by_track.add(tracks)
            yield resampler.push(tracks).astype(np.float32)
        yield resampler.finish().astype(np.float32)
        self._judge(by_channel, by_track)

    def _judge(self, by_channel: LevelMeter, by_track: LevelMeter) -> None:
        name, decoded_s = self.info.name, self._frames_in / self.info.sample_rate_hz
        found = completeness.issues(self._frames, self._claim, self._frames_in)
        missing = completeness.shortfall(self._frames, self._claim, self._frames_in, self._source)
        if missing is not None:
            found.append(missing)
        self._issues = tuple(found)
        why = f" ({'; '.join(found)})" if found else ""
        if self._frames_in == 0:
            raise CorruptAudio(f"{name}: a header and no samples{why}; record or copy the file again")
        if self._frames.mostly_damaged:
            raise CorruptAudio(f"{name}: more of it is damaged than not{why}; copy the file again")
        if by_track.sounding():
            return
        others = by_channel.sounding()
        if not others:
            raise SilentAudio(
                f"{name}: silent for all of its {decoded_s:.1f} s{why}; check the recording's level{beside(self.info)}"
            )
        where = "channel " + ", ".join(str(channel) for channel in others)
        raise SilentAudio(
            f"{name}: silent with channels = {self._policy} for all of its {decoded_s:.1f} s, while {where} of "
            f"{self.info.channels} holds sound; choose another channel, or each"
        )


def open_audio(
    source: AudioSource,
    *,
    channels: ChannelPolicy,
    limits: AudioSettings,
    name: str | None = None,
    track: int | None = None,
) -> AudioReader:
    """Open a recording of any supported format, known by its content, for decoding in blocks.

    Parameters
    ----------
    source : Path, bytes or binary stream
        A stream is first copied to a temporary file.
    name : str, optional
        What messages call it; the path, `<bytes>` or `<stream>` otherwise.
    track : int, optional
        Which of the audio tracks of its container is decoded, from 1; the one that FFmpeg takes for the best otherwise.

    Raises
    ------
    NotFound, InvalidAudio, Unavailable
        If the source cannot be opened (see `indexer.audio.sources.open_source`), or has no such track.
    UnsupportedFormat
        If it is no audio, no decoder here reads it, or its sampling rate is out of range.
    CorruptAudio
        If it announces a known format and contradicts itself.
    AudioTooLarge
        If it is over a limit in bytes, channels or seconds.
    """
    opened = open_source(source, max_bytes=limits.max_bytes, name=name)
    try:
        head = opened.head(_SNIFF_BYTES)
        container = sniff_container(head)
        claim = read_claim(opened.file, opened.size, container)
        _require_in_range(claim.sample_rate_hz, claim.channels, opened.name, limits)
        if claim.contradicts_itself:
            raise CorruptAudio(
                f"{opened.name}: its header claims samples of {claim.sample_bits} bits, {claim.channels} of them in "
                f"{claim.block_bytes} bytes; export it again"
            )
        frames = _choose_decoder(opened, container, claim, head, track)
        try:
            _require_in_range(frames.sample_rate_hz, frames.channels, opened.name, limits)
            claimed_s = completeness.declared_s(frames, claim)
            believable = (
                completeness.is_certain(frames, claim) and (claimed_s or 0.0) * _LEAST_BYTES_PER_S <= opened.size
            )
            if claimed_s is not None and believable and claimed_s > limits.max_duration_s:
                raise _too_long(opened.name, f"{claimed_s:.0f} s", limits)
            return AudioReader(opened, frames, claim, channels, limits)
        except BaseException:
            frames.close()
            raise
    except BaseException:
        opened.close()
        raise


def decode(
    source: AudioSource,
    *,
    channels: ChannelPolicy = _MIX,
    limits: AudioSettings = _DEFAULT_LIMITS,
    name: str | None = None,
) -> DecodedAudio:
    """Decode a whole recording into memory; raises what `open_audio` and `AudioReader.blocks` raise."""
    with open_audio(source, channels=channels, limits=limits, name=name) as reader:
        blocks = list(reader.blocks())
        return DecodedAudio(reader.info, np.concatenate(blocks, axis=1), reader.issues, reader.decoded_s)


def _choose_decoder(
    opened: OpenedSource, container: str | None, claim: Claim, head: bytes, track: int | None
) -> FrameReader:
    plain = plain_layout(head, opened.size)
    if track is not None and track > 1:
        first = "reads one audio track"
    elif plain is not None:
        return PlainWavReader(opened, *plain, at_once=frames_at_once(plain[1]))
    else:
        try:
            return SoundfileReader(opened, container, claim)
        except DecoderRefusedError as error:
            first = str(error)
    # Here, because FFmpeg takes a twentieth of a second to load, and most recordings need none of it.
    from indexer.audio.pyav_reader import PyavReader

    try:
        return PyavReader(opened, container, track)
    except NoSuchTrackError as error:
        raise InvalidAudio(
            f"{opened.name}: {error}; other versions of FFmpeg's libraries found it, so delete the recording and "
            "ingest it again"
        ) from error
    except DecoderRefusedError as error:
        second = str(error)
    if first == NO_SAMPLES and second.startswith(NO_SOUND):
        raise CorruptAudio(f"{opened.name}: a header and no samples; record or copy the file again")
    if container is None:
        raise UnsupportedFormat(f"{opened.name}: not audio that can be read, it looks like {describe_other(head)}")
    if "codec is not known" in second or "no audio track" in second:
        raise UnsupportedFormat(f"{opened.name}: {container} file, but {second}; convert it to FLAC or 16-bit WAV")
    raise CorruptAudio(
        f"{opened.name}: {container} file that no decoder can read (soundfile: {first}; FFmpeg: {second}); "
        "it is damaged or cut off, copy it again"
    )


def _require_in_range(rate_hz: int | None, channels: int | None, name: str, limits: AudioSettings) -> None:
    if rate_hz == 0 or channels == 0:
        raise CorruptAudio(f"{name}: its header claims {rate_hz} Hz and {channels} channels; export it again")
    if rate_hz is not None and not MIN_SAMPLE_RATE_HZ <= rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise UnsupportedFormat(
            f"{name}: sampling rate {rate_hz} Hz is outside {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz; "
            "convert it to 16000 Hz"
        )
    if channels is not None and channels > limits.max_channels:
        raise AudioTooLarge(
            f"{name}: {channels} channels is over the limit of {limits.max_channels}; raise VOXDEX_AUDIO__MAX_CHANNELS"
        )


def _too_long(name: str, found: str, limits: AudioSettings) -> AudioTooLarge:
    return AudioTooLarge(
        f"{name}: lasts {found}, over the limit of {limits.max_duration_s:g} s; "
        f"split it or raise {limits.duration_variable}"
    )
