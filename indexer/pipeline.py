"""Files -> embedded recordings: decoding in threads beside the encoder, in memory that an archive does not grow."""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.archive import ArchiveFile
from indexer.audio.decode import AudioInfo, ChannelPolicy, open_audio
from indexer.audio.levels import is_silent
from indexer.audio.meter import Levels
from indexer.audio.segmentation import Stretch, UtteranceAudio, cut_stretches, cut_utterances
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import AudioTooLarge, InvalidAudio, NotFound, Unavailable, VoxdexError, about
from indexer.observability import DECODE_SECONDS, counting_seconds_of
from indexer.settings import AudioSettings
from indexer.types import EncoderId

logger = logging.getLogger(__name__)

_QUEUE_UTTERANCES = 64
"""Decoded utterances that wait for the encoder: 40 MB at ten seconds each."""

_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EmbeddedUtterance:
    """A stretch of a recording and its vectors."""

    track: int
    start_s: float
    end_s: float
    vectors: Mapping[EncoderId, NDArray[np.float32]]
    """(D,) of unit norm under each encoder."""


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
    error: VoxdexError | None = None

    @property
    def speech_s(self) -> float:
        """Seconds that were embedded, of all tracks."""
        return sum(utterance.end_s - utterance.start_s for utterance in self.utterances)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A producer decoded one utterance."""

    result: EmbeddedFile
    audio: UtteranceAudio


@dataclass(frozen=True, slots=True)
class _Finished:
    """A producer is done with a file, for better or worse."""

    result: EmbeddedFile


@dataclass(frozen=True, slots=True)
class _Crashed:
    """A producer died of something that is not a file's fault."""

    error: BaseException


_Event = _Heard | _Finished | _Crashed


class _NoAnswer(Exception):
    """The record could not be asked: no fault of the file, and no reason to refuse it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


def _nothing() -> None:
    pass


def hash_content(
    path: Path, *, max_bytes: int, name: str | None = None, progressed: Callable[[], None] = _nothing
) -> str:
    """SHA-256 of a file's bytes, as hex: the identity of a recording within its gallery.

    Parameters
    ----------
    name
        What messages call the file; its path where that is None.
    progressed
        Called after each block.

    Raises
    ------
    NotFound, InvalidAudio, AudioTooLarge
        If the path does not exist, is no regular file, cannot be read, or is over the limit.
    """
    name = name or str(path)
    try:
        if not path.is_file():
            if path.exists():
                raise InvalidAudio(f"{name}: not a regular file; give a file or a folder of files")
            raise NotFound(f"{name}: no such file; it may have been moved since it was listed")
        size = path.stat().st_size
        if size > max_bytes:
            raise AudioTooLarge(
                f"{name}: {size} bytes, the limit is {max_bytes}; split it, or raise VOXDEX_AUDIO__MAX_BYTES"
            )
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_HASH_BLOCK_BYTES):
                digest.update(block)
                progressed()
        return digest.hexdigest()
    except OSError as error:
        raise InvalidAudio(f"{name}: cannot be read ({error.strerror or error}); check its permissions") from error


Fetch = Callable[[ArchiveFile], AbstractContextManager[Path]]


@dataclass(frozen=True, slots=True)
class Known:
    """Utterances of a file that are placed already: the tracks that they were cut from, and where."""

    channels: ChannelPolicy
    stretches: Sequence[Stretch]


def _as_it_is(file: ArchiveFile) -> AbstractContextManager[Path]:
    return nullcontext(file.path)


def _unknown(file: ArchiveFile) -> Known | None:
    return None


def _never() -> bool:
    return False


class EmbeddingPipeline:
    """Turns files into embedded recordings, in whatever order they get done.

    Parameters
    ----------
    encoders
        Called from the consuming thread only.
    is_known
        Asked with the content hash from a decoding thread, before a file is decoded; must be thread-safe.
    batch_utterances
        Most utterances handed to the encoder at once.
    fetch
        Makes a file readable at a path for as long as a decoding thread needs it.
    known
        Tells of a file that was cut before what to embed of it; None: all of it, cut anew.
    stopping
        Asked several times a second; once it says so, a run ends soon, and yields only what is done by then.
    progressed
        Called, from any thread, whenever some of a file was read, decoded or embedded.
    abandoning
        Asked at the end of a run whose decoding threads do not end: once it says so, they are left behind. Python
        cannot end a thread that waits in a codec or for a disk; should it come back, it does nothing more.
    """

    def __init__(
        self,
        encoders: EncoderSet,
        *,
        channels: ChannelPolicy,
        limits: AudioSettings,
        decode_threads: int,
        is_known: Callable[[str], bool],
        batch_utterances: int = 12,
        fetch: Fetch = _as_it_is,
        known: Callable[[ArchiveFile], Known | None] = _unknown,
        stopping: Callable[[], bool] = _never,
        progressed: Callable[[], None] = _nothing,
        abandoning: Callable[[], bool] = _never,
    ) -> None:
        self._encoders = encoders
        self._channels = channels
        self._limits = limits
        self._threads = decode_threads
        self._is_known = is_known
        self._batch = batch_utterances
        self._fetch = fetch
        self._known = known
        self._stopping = stopping
        self._progressed = progressed
        self._abandoning = abandoning
        self._stop = threading.Event()

    def run(self, files: Iterable[ArchiveFile]) -> Generator[EmbeddedFile, None, None]:
        """Yield every file exactly once, embedded or with its error; closing the iterator stops the threads."""
        batches = self.run_batches(files, most=1, within_s=0.0)
        try:
            for batch in batches:
                yield from batch
        finally:
            batches.close()

    def run_batches(
        self, files: Iterable[ArchiveFile], *, most: int, within_s: float
    ) -> Generator[list[EmbeddedFile], None, None]:
        """Yield every file exactly once, several at a time; closing the iterator stops the threads.

        Parameters
        ----------
        most
            Most files of a batch.
        within_s
            How long a file that is done waits for others, about.
        """
        events: queue.Queue[_Event] = queue.Queue(_QUEUE_UTTERANCES)
        source = _LockedIterator(files)
        self._stop.clear()
        threads = [
            threading.Thread(target=self._produce, args=(source, events), name=f"decode-{n}", daemon=True)
            for n in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._gather(self._consume(events, threads), most, within_s)
        finally:
            self._stop.set()
            while any(thread.is_alive() for thread in threads):
                _drain(events)  # A producer may be waiting for a place in the queue.
                for thread in threads:
                    thread.join(timeout=0.05)
                if self._abandoning():
                    # Whoever comes back finds room for the few events that a thread hands over before it looks at the
                    # flag again.
                    break

    def _produce(self, source: "_LockedIterator", events: "queue.Queue[_Event]") -> None:
        try:
            while not self._stop.is_set() and (file := source.next()) is not None:
                result = EmbeddedFile(file)
                try:
                    if not self._decode(result, events):
                        return
                except _NoAnswer:
                    raise
                except VoxdexError as error:
                    if self._stopping():
                        return  # It may be what the file was given up with.
                    result.error = error
                except Exception as error:
                    # A decoder failed in a way nobody foresaw: that is one file's failure, not the job's.
                    logger.exception("unforeseen failure while decoding")
                    result.error = InvalidAudio(
                        f"{file.recorded_uri}: decoding failed unexpectedly ({type(error).__name__}: {error}); "
                        "convert it with ffmpeg, and please report it"
                    )
                events.put(_Finished(result))
        except _NoAnswer as error:
            events.put(_Crashed(error.reason))
        except BaseException as error:  # The consumer must hear of it, or it would wait forever.
            events.put(_Crashed(error))

    def _decode(self, result: EmbeddedFile, events: "queue.Queue[_Event]") -> bool:
        """Decode a file; False where it was given up halfway because the run ends, and must not be taken for done."""
        name = result.file.recorded_uri
        with self._fetch(result.file) as path:
            result.content_sha256 = hash_content(
                path, max_bytes=self._limits.max_bytes, name=name, progressed=self._progressed
            )
            result.size_bytes = path.stat().st_size
            try:
                result.known = self._is_known(result.content_sha256)
            except Exception as error:
                raise _NoAnswer(error) from error
            if result.known:
                return True
            known = self._known(result.file)
            channels = self._channels if known is None else known.channels
            with open_audio(path, channels=channels, limits=self._limits, name=name) as reader:
                result.info = reader.info
                if known is None:
                    utterances = cut_utterances(reader.blocks(), self._limits.utterance_s)
                else:
                    utterances = cut_stretches(reader.blocks(), known.stretches)
                for audio in counting_seconds_of(utterances, DECODE_SECONDS):
                    self._progressed()
                    if self._stop.is_set():
                        return False
                    if known is not None or not is_silent(audio.waveform):
                        events.put(_Heard(result, audio))
                result.duration_s = reader.decoded_s
                result.issues = reader.issues
                result.levels = reader.levels
        return True

    def _gather(
        self, results: Iterator[EmbeddedFile | None], most: int, within_s: float
    ) -> Iterator[list[EmbeddedFile]]:
        batch: list[EmbeddedFile] = []
        oldest = 0.0
        for result in results:
            if result is not None:
                oldest = oldest if batch else time.monotonic()
                batch.append(result)
            if len(batch) >= most or (batch and time.monotonic() - oldest >= within_s):
                yield batch
                batch = []
        if batch:
            yield batch

    def _consume(self, events: "queue.Queue[_Event]", threads: list[threading.Thread]) -> Iterator[EmbeddedFile | None]:
        """Yield files as they are done, and None now and then, so that whoever gathers them can look at the clock."""
        while not self._stopping():
            yield None
            try:
                event = events.get(timeout=0.1)
            except queue.Empty:
                if not any(thread.is_alive() for thread in threads) and events.empty():
                    return
                continue
            batch = [event, *_take(events, self._batch - 1)]
            self._embed([heard for heard in batch if isinstance(heard, _Heard)])
            for done in batch:
                if isinstance(done, _Finished):
                    yield done.result
                elif isinstance(done, _Crashed):
                    raise done.error

    def _embed(self, batch: list[_Heard]) -> None:
        if not batch:
            return
        try:
            vectors = self._encoders.embed([heard.audio.waveform for heard in batch])
            self._progressed()
        except Unavailable:
            raise  # The device is at fault, not the recordings.
        except VoxdexError as error:
            if len(batch) > 1:  # Find the one that is to blame; the others must not suffer for it.
                for heard in batch:
                    self._embed([heard])
            else:
                batch[0].result.error = about(batch[0].result.file.recorded_uri, error)
            return
        for place, heard in enumerate(batch):
            audio = heard.audio
            own = {encoder_id: rows[place] for encoder_id, rows in vectors.items()}
            heard.result.utterances.append(EmbeddedUtterance(audio.track, audio.start_s, audio.end_s, own))


class _LockedIterator:
    """One source of files for several threads."""

    def __init__(self, files: Iterable[ArchiveFile]) -> None:
        self._files = iter(files)
        self._lock = threading.Lock()

    def next(self) -> ArchiveFile | None:
        with self._lock:
            return next(self._files, None)


def _take(events: "queue.Queue[_Event]", most: int) -> Iterator[_Event]:
    for _ in range(most):
        try:
            yield events.get_nowait()
        except queue.Empty:
            return


def _drain(events: "queue.Queue[_Event]") -> None:
    for _ in _take(events, _QUEUE_UTTERANCES):
        pass
