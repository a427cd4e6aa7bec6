"""Files -> embedded recordings: decoding in threads beside the encoder, in memory that an archive does not grow."""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexer.archive import ArchiveFile
from indexer.audio.decode import AudioInfo, ChannelPolicy, open_audio
from indexer.audio.levels import is_silent
from indexer.audio.meter import Levels
from indexer.audio.quality import Quality, measure_quality
from indexer.audio.regions import Region
from indexer.audio.segmentation import Stretch, UtteranceAudio, cut_stretches, cut_utterances
from indexer.audio.speech import SoundDetector
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import AudioTooLarge, InvalidAudio, NotFound, Unavailable, VoxdexError, about
from indexer.hearing import Blocks, Take, hear_tracks, place_tracks
from indexer.listening import Listening, speech_by_voice
from indexer.observability import DECODE_SECONDS, counting_seconds_of
from indexer.settings import AudioSettings
from indexer.types import EncoderId, Vectors, Waveform

if TYPE_CHECKING:  # Loads torch.
    from indexer.embedding.encoder import Encoder

logger = logging.getLogger(__name__)

_QUEUE_UTTERANCES = 64
"""Decoded utterances that wait for the encoder: 40 MB at ten seconds each."""

_PRODUCERS_PER_DECODER = 2
"""Threads of which one decodes, and the others wait for vectors; each may hold `indexer.hearing.KEPT_S` of audio."""

_HASH_BLOCK_BYTES = 1 << 20


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
    error: VoxdexError | None = None

    @property
    def speech_s(self) -> float:
        """Seconds of speech that were embedded, of all tracks."""
        return sum(utterance.speech_s for utterance in self.utterances)

    @property
    def voices_s(self) -> dict[int, float]:
        """Seconds of speech of each voice, most first; empty where nobody looked for voices."""
        return speech_by_voice((utterance.voice, utterance.speech_s) for utterance in self.utterances)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A producer decoded one utterance."""

    result: EmbeddedFile
    audio: UtteranceAudio
    voice: int | None = None
    quality: Quality | None = None


class _Windows:
    """A producer wants windows embedded, to tell voices apart, and waits for that."""

    def __init__(self, waveforms: Sequence[Waveform]) -> None:
        self.waveforms = waveforms
        self.answered = threading.Event()
        self._vectors: Vectors | None = None
        self._error: VoxdexError | None = None

    def answer(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self.answered.set()

    def refuse(self, error: VoxdexError) -> None:
        self._error = error
        self.answered.set()

    @property
    def vectors(self) -> Vectors:
        if self._error is not None:
            raise self._error
        assert self._vectors is not None
        return self._vectors


@dataclass(frozen=True, slots=True)
class _Finished:
    """A producer is done with a file, for better or worse."""

    result: EmbeddedFile


@dataclass(frozen=True, slots=True)
class _Crashed:
    """A producer died of something that is not a file's fault."""

    error: BaseException


_Event = _Heard | _Windows | _Finished | _Crashed


class _GivenUp(Exception):
    """The run ends: what was begun is not to be taken for done."""


class _Producer:
    """One decoding thread's way to the consuming one, and its turn to decode; a `WindowEncoder` for its files."""

    def __init__(
        self, events: "queue.Queue[_Event]", turns: threading.Semaphore, stop: threading.Event, encoder: "Encoder"
    ) -> None:
        self._events = events
        self._turns = turns
        self._stop = stop
        self._encoder = encoder
        self._has_turn = False
        self.put = events.put

    @property
    def id(self) -> EncoderId:
        """Of the encoder that makes vectors of windows."""
        return self._encoder.id

    @property
    def min_samples(self) -> int:
        """Fewest samples of a window."""
        return self._encoder.min_samples

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Have windows embedded by the consuming thread; another producer decodes meanwhile."""
        windows = _Windows(waveforms)
        self._events.put(windows)
        self._end_turn()
        while not windows.answered.wait(timeout=0.1):
            self.go_on()
        self._take_turn()
        return windows.vectors

    def go_on(self) -> None:
        """Raise _GivenUp where the run ends."""
        if self._stop.is_set():
            raise _GivenUp

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to decode, and have it but for the time in which windows are embedded."""
        self._take_turn()
        try:
            yield
        finally:
            self._end_turn()

    def _take_turn(self) -> None:
        while True:
            self.go_on()
            if self._turns.acquire(timeout=0.1):
                self._has_turn = True
                return

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.release()


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
    listening
        Finds speech and tells voices apart; None: all that sounds is embedded, and nobody asks whose it is.
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
        listening: Listening | None = None,
        stopping: Callable[[], bool] = _never,
        progressed: Callable[[], None] = _nothing,
        abandoning: Callable[[], bool] = _never,
    ) -> None:
        self._encoders = encoders
        self._channels = channels if listening is None else listening.channels(channels)
        self._limits = limits
        self._threads = decode_threads
        self._is_known = is_known
        self._batch = batch_utterances
        self._fetch = fetch
        self._known = known
        self._listening = listening
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

        Raises
        ------
        Unavailable, CorruptArtifact
            If what finds speech cannot be had; no file is begun then.
        """
        if self._listening is not None and not self._takes_all and self._listening.given is None:
            self._listening.detector.stream()  # A network that cannot be had is no file's fault: it ends the run.
        events: queue.Queue[_Event] = queue.Queue(_QUEUE_UTTERANCES)
        source = _LockedIterator(files)
        self._stop.clear()
        # While some wait for vectors of windows, others decode: else the encoder would soon wait for the decoders.
        turns = threading.BoundedSemaphore(self._threads)
        threads = [
            threading.Thread(
                target=self._produce,
                args=(source, _Producer(events, turns, self._stop, self._encoders.first)),
                name=f"decode-{n}",
                daemon=True,
            )
            for n in range(self._threads * (1 if self._takes_all else _PRODUCERS_PER_DECODER))
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

    @property
    def _takes_all(self) -> bool:
        """Whether all that sounds is speech of one voice, so that nothing is to be found out before it is cut."""
        listening = self._listening
        return listening is None or (
            isinstance(listening.detector, SoundDetector)
            and listening.speakers in ("one", "channels")
            and listening.given is None
        )

    def _produce(self, source: "_LockedIterator", producer: _Producer) -> None:
        try:
            more = True
            while more:
                with producer.turn():
                    file = source.next()
                    more = file is not None and self._produce_one(EmbeddedFile(file), producer)
        except _GivenUp:
            return
        except _NoAnswer as error:
            producer.put(_Crashed(error.reason))
        except BaseException as error:  # The consumer must hear of it, or it would wait forever.
            producer.put(_Crashed(error))

    def _produce_one(self, result: EmbeddedFile, producer: _Producer) -> bool:
        """Decode a file for better or worse; False where the run ends."""
        try:
            self._decode(result, producer)
        except (_NoAnswer, _GivenUp):
            raise
        except VoxdexError as error:
            if self._stopping():
                return False  # It may be what the file was given up with.
            result.error = error
        except Exception as error:
            # A decoder failed in a way nobody foresaw: that is one file's failure, not the job's.
            logger.exception("unforeseen failure while decoding")
            result.error = InvalidAudio(
                f"{result.file.recorded_uri}: decoding failed unexpectedly ({type(error).__name__}: {error}); "
                "convert it with ffmpeg, and please report it"
            )
        producer.put(_Finished(result))
        return True

    def _decode(self, result: EmbeddedFile, producer: _Producer) -> None:
        """Decode a file and hand its utterances over; raises _GivenUp halfway where the run ends."""
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
                return
            known = self._known(result.file)
            if known is None and not self._takes_all:
                self._listen(result, path, producer)
            else:
                self._cut(result, path, known, producer)

    def _cut(self, result: EmbeddedFile, path: Path, known: Known | None, producer: _Producer) -> None:
        """Cut what is placed already, or all that sounds; the recording is read once."""
        channels = self._channels if known is None else known.channels
        with open_audio(path, channels=channels, limits=self._limits, name=result.file.recorded_uri) as reader:
            result.info = reader.info
            blocks = self._watched(producer, reader.blocks())
            if known is None:
                utterances = cut_utterances(blocks, self._limits.utterance_s)
            else:
                utterances = cut_stretches(blocks, known.stretches)
            for audio in utterances:
                producer.go_on()
                if known is not None or self._listening is None:
                    if known is not None or not is_silent(audio.waveform):
                        producer.put(_Heard(result, audio))
                elif not is_silent(audio.waveform):
                    voice = audio.track if self._listening.speakers == "channels" else None
                    spoken = [Region(0.0, audio.end_s - audio.start_s)]
                    producer.put(_Heard(result, audio, voice, measure_quality(audio.waveform, spoken)))
            result.duration_s = reader.decoded_s
            result.issues = reader.issues
            result.levels = reader.levels

    def _listen(self, result: EmbeddedFile, path: Path, producer: _Producer) -> None:
        """Find who speaks when, and cut that; the recording is read twice or more."""
        assert self._listening is not None
        take = Take(
            path,
            channels=self._channels,
            limits=self._limits,
            name=result.file.recorded_uri,
            watched=partial(self._watched, producer),
        )
        try:
            tracks = hear_tracks(take, self._listening, producer, name=result.file.recorded_uri)
        finally:
            result.info = take.info
        result.duration_s, result.issues, result.levels = take.facts.duration_s, take.facts.issues, take.facts.levels
        placed = place_tracks(
            tracks, take, utterance_s=self._limits.utterance_s, min_samples=self._encoders.min_samples
        )
        for audio in cut_stretches(take.blocks(), list(placed)):
            producer.go_on()
            utterance = placed[Stretch(audio.track, audio.start_s, audio.end_s)]
            quality = measure_quality(audio.waveform, utterance.spoken)
            producer.put(_Heard(result, audio, utterance.voice, quality))

    def _watched(self, producer: _Producer, blocks: Blocks) -> Blocks:
        for block in counting_seconds_of(blocks, DECODE_SECONDS):
            self._progressed()
            producer.go_on()
            yield block

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
            self._answer([asked for asked in batch if isinstance(asked, _Windows)])
            self._embed([heard for heard in batch if isinstance(heard, _Heard)])
            for done in batch:
                if isinstance(done, _Finished):
                    yield done.result
                elif isinstance(done, _Crashed):
                    raise done.error

    def _answer(self, asked: list[_Windows]) -> None:
        """Embed windows that producers wait for, those of several files together."""
        if not asked:
            return
        try:
            vectors = self._encoders.first.embed([waveform for windows in asked for waveform in windows.waveforms])
            self._progressed()
        except Unavailable:
            raise  # The producers hear of it when the run ends.
        except VoxdexError as error:
            if len(asked) > 1:
                for windows in asked:
                    self._answer([windows])
            else:
                asked[0].refuse(error)
            return
        start = 0
        for windows in asked:
            windows.answer(vectors[start : start + len(windows.waveforms)])
            start += len(windows.waveforms)

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
            heard.result.utterances.append(
                EmbeddedUtterance(audio.track, audio.start_s, audio.end_s, own, heard.voice, heard.quality)
            )


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
