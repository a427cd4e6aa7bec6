"""Reads with FFmpeg's libraries (PyAV) what libsndfile does not: MP3, AAC, MP4, WebM, AMR, and sound of video files."""

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from indexer.audio.completeness import READING_STOPPED
from indexer.audio.soundfile_reader import NO_SOUND, DecoderRefusedError, NoSuchTrackError
from indexer.audio.sources import OpenedSource

# What a demuxer may be. Playlists (hls, concat, dash, sdp) are left out on purpose: they open other files and hosts.
_FORMATS = {
    "wav": "wav",
    "w64": "w64",
    "aiff": "aiff",
    "au": "au",
    "caf": "caf",
    "flac": "flac",
    "ogg": "ogg",
    "nist": "nistsphere",
    "voc": "voc",
    "mp3": "mp3",
    "aac": "aac",
    "mp4": "mov",
    "matroska": "matroska",
    "amr": "amr",
    "asf": "asf",
    "flv": "flv",
    "avi": "avi",
    "mpeg-ts": "mpegts",
    "mpeg-ps": "mpeg",
    "mxf": "mxf",
    "wavpack": "wv",
    "tta": "tta",
    "real": "rm",
}
_ALLOWED = ",".join([*_FORMATS.values(), "ac3", "eac3", "dts"])
_BUFFER_BYTES = 1 << 18
_UNSAFE_PLANES = 8
_MAX_BARREN_PACKETS = 2000
"""Packets in a row without one sample, after which a file is given up: none that holds sound needs so many."""

_FAILURES = (av.FFmpegError, OSError, ValueError, RuntimeError, OverflowError, EOFError, LookupError, AttributeError)


class PyavReader:
    """Frames of one audio track of a file, the best or the one that is named, through libavformat and libavcodec.

    Rate and channels are those of the first decoded frame, not of the header: HE-AAC and Opus headers name others.

    Raises
    ------
    DecoderRefusedError
        If FFmpeg does not read the file, or decodes nothing in it.
    NoSuchTrackError
        If it has no track of this number.
    """

    decoder = "pyav"

    def __init__(self, source: OpenedSource, container: str | None, track: int | None = None) -> None:
        source.file.seek(0)
        try:
            opened = av.open(
                _Nameless(source),
                mode="r",
                format=_FORMATS.get(container or ""),
                container_options={"format_whitelist": _ALLOWED},
                metadata_errors="replace",
                buffer_size=_BUFFER_BYTES,
                io_open=_refuse_to_open,
            )
        except _FAILURES as error:
            raise DecoderRefusedError(_reason(error)) from error
        self._container: InputContainer = opened
        self.issues: list[str] = []
        self._packets = 0
        self._failed: list[int] = []
        self._done = 0
        self._packer: av.AudioResampler | None = None
        try:
            self._stream = self._choose_stream(track)
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise DecoderRefusedError(f"{NO_SOUND} {self._packets} packets")
        except _FAILURES as error:
            self.close()
            raise DecoderRefusedError(_reason(error)) from error
        except DecoderRefusedError:
            self.close()
            raise
        self.container: str = container if container not in (None, "id3") else opened.format.name.split(",")[0]
        in_order = [stream.index for stream in opened.streams.audio]
        self.track, self.audio_tracks = 1 + in_order.index(self._stream.index), len(in_order)
        self.codec: str = self._stream.codec_context.codec.canonical_name
        self.sample_rate_hz = self._first.sample_rate
        self.channels = self._first.layout.nb_channels
        self.declared_s = self._declared()
        self.exact_duration = self._stream.duration is not None and "mov" in opened.format.name

    def close(self) -> None:
        """Close FFmpeg's handles."""
        with contextlib.suppress(*_FAILURES):
            self._container.close()

    def frames(self) -> Iterator[NDArray[np.float64]]:
        """Yield (n, channels) blocks in file order; integer samples are divided by 2^(bits - 1)."""
        frame = self._first
        self._first = None
        while frame is not None:
            if frame.sample_rate != self.sample_rate_hz or frame.layout.nb_channels != self.channels:
                self.issues.append(
                    f"at {self._done / self.sample_rate_hz:.1f} s the recording changes to {frame.sample_rate} Hz and "
                    f"{frame.layout.nb_channels} channels; what follows was not decoded"
                )
                return
            try:
                blocks = [_to_float64(packed) for packed in self._interleave(frame)]
            except _FAILURES as error:
                self.issues.append(f"decoding stopped at {self._position()} ({_reason(error)})")
                return
            for block in blocks:
                self._done += len(block)
                yield block
            frame = next(self._decoded, None)
        self._report_failures()

    def _interleave(self, frame: AudioFrame) -> list[AudioFrame]:
        """Pack a frame of many planes into one, because PyAV 18 reads past the list of planes from the eighth on.

        It counts planes up to a null pointer that only shorter lists have, and crashes the process (7.1 sound in AAC).
        """
        if not frame.format.is_planar or frame.layout.nb_channels < _UNSAFE_PLANES:
            return [frame]
        if self._packer is None:
            self._packer = av.AudioResampler(frame.format.packed, frame.layout, frame.sample_rate)
        return self._packer.resample(frame)

    def _choose_stream(self, track: int | None) -> AudioStream:
        in_order = self._container.streams.audio
        if track is not None and not 1 <= track <= len(in_order):
            raise NoSuchTrackError(f"audio track {track} is to be read, and {len(in_order)} are found in it")
        stream = self._container.streams.best("audio") if track is None else in_order[track - 1]
        if not isinstance(stream, AudioStream):
            raise DecoderRefusedError("it holds no audio track")
        if stream.codec_context is None:
            raise DecoderRefusedError("its codec is not known")
        # One thread: decoding runs in the caller's threads already, and threads do not survive a fork.
        stream.codec_context.thread_count = 1
        return stream

    def _decode(self) -> Iterator[AudioFrame]:
        """Decode packet by packet, counting the damaged ones instead of stopping at the first."""
        packets = self._container.demux(self._stream)
        barren = 0
        while barren < _MAX_BARREN_PACKETS:
            try:
                packet = next(packets, None)
            except _FAILURES as error:
                self.issues.append(f"{READING_STOPPED} at {self._position()} ({_reason(error)})")
                packet = None
            if packet is None:
                break
            barren += 1
            self._packets += 1
            try:
                for frame in packet.decode():
                    if isinstance(frame, AudioFrame) and frame.samples > 0 and frame.sample_rate > 0:
                        barren = 0
                        yield frame
            except EOFError:  # the decoder was flushed before
                continue
            except _FAILURES:
                self._failed.append(self._packets)
        else:
            self.issues.append(f"decoding stopped at {self._position()}: {barren} packets in a row gave no sound")

    def _position(self) -> str:
        rate = getattr(self, "sample_rate_hz", 0)
        return f"{self._done / rate:.1f} s" if rate else "the start"

    def _report_failures(self) -> None:
        # One bad packet is a tag, or the seam of joined files, that every player passes over: the recording is whole.
        if len(self._failed) > 1:
            self.issues.append(f"{len(self._failed)} of {self._packets} packets are damaged and were skipped")
        if len(self._failed) * 2 > self._packets:
            self.issues.append("most of the file could not be decoded")

    @property
    def mostly_damaged(self) -> bool:
        """Whether more packets failed than were decoded: what came out is no recording."""
        return len(self._failed) * 2 > self._packets

    def _declared(self) -> float | None:
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if self._container.duration is not None and self._container.duration > 0:
            return self._container.duration / av.time_base
        return None


class _Nameless:
    """What PyAV needs of a file, without its name: an extension would make it guess, wrongly for misnamed files."""

    def __init__(self, source: OpenedSource) -> None:
        self._file = source.file
        self.read = source.file.read
        self.tell = source.file.tell

    def seek(self, offset: int, whence: int) -> int:
        """Seek, or answer -1 to an offset that a damaged header made up: PyAV would print the exception."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _refuse_to_open(url: str, flags: int, options: object) -> NoReturn:
    raise PermissionError("a recording may not open other files")


def _to_float64(frame: AudioFrame) -> NDArray[np.float64]:
    samples = frame.to_ndarray()
    # planar: (C, n); packed: (1, n * C) -> (n, C)
    by_frame = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    values = by_frame.astype(np.float64)
    if samples.dtype == np.uint8:
        return (values - 128.0) / 128.0
    if samples.dtype.kind == "i":
        return values / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return values


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
