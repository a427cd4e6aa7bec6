"""Files -> embedded recordings: decoding in threads beside the encoder, in memory that an archive does not grow."""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from indexer.audio.segmentation import Stretch, cut_stretches, cut_utterances
from indexer.audio.speech import SoundDetector
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import AudioTooLarge, InvalidAudio, NotFound, Unavailable, VoxdexError, about
from indexer.hearing import Hearing, listen, place_tracks
from indexer.listening import Listening, speech_by_voice
from indexer.observability import DECODE_SECONDS, counting_seconds_of, counting_stage, counting_stage_of
from indexer.settings import AudioSettings
from indexer.stages import (
    QUEUE_UTTERANCES,
    Crashed,
    Event,
    GivenUp,
    Handed,
    Heard,
    Held,
    Producer,
    Windows,
    Work,
    Works,
    arrived,
    drain,
)
from indexer.takes import Blocks, Take
from indexer.types import EncoderId, Vectors

if TYPE_CHECKING:  # Loads torch.
    pass

logger = logging.getLogger(__name__)

_PRODUCERS_PER_DECODER = 2
"""Threads of which one decodes, and the others wait for vectors; each may hold `indexer.takes.KEPT_S` of audio."""

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
        batch_utterances: int = 32,
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
        events: queue.Queue[Event] = queue.Queue(QUEUE_UTTERANCES)
        works = Works(Work(EmbeddedFile(file)) for file in files)
        self._stop.clear()
        # While some wait for vectors of windows, others decode: else the encoder would soon wait for the decoders.
        turns = threading.BoundedSemaphore(self._threads)
        threads = [
            threading.Thread(
                target=self._produce,
                args=(works, Producer(events, turns, self._stop, self._encoders.first)),
                name=f"decode-{n}",
                daemon=True,
            )
            for n in range(self._threads * (1 if self._takes_all else _PRODUCERS_PER_DECODER))
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._gather(self._consume(events, works, threads), most, within_s)
        finally:
            self._stop.set()
            while any(thread.is_alive() for thread in threads):
                drain(events)  # A producer may be waiting for a place in the queue.
                for thread in threads:
                    thread.join(timeout=0.05)
                if self._abandoning():
                    # Whoever comes back finds room for the few events that a thread hands over before it looks at the
                    # flag again.
                    break
            works.close()

    @property
    def _takes_all(self) -> bool:
        """Whether all that sounds is speech of one voice, so that nothing is to be found out before it is cut."""
        listening = self._listening
        return listening is None or (
            isinstance(listening.detector, SoundDetector)
            and listening.speakers in ("one", "channels")
            and listening.given is None
        )

    def _produce(self, works: Works, producer: Producer) -> None:
        try:
            more = True
            while more:
                work = works.next(producer.go_on)
                if work is None:
                    return
                with producer.turn():
                    more = self._produce_one(work, producer)
        except GivenUp:
            return
        except _NoAnswer as error:
            producer.put(Crashed(error.reason))
        except BaseException as error:  # The consumer must hear of it, or it would wait forever.
            producer.put(Crashed(error))

    def _produce_one(self, work: Work, producer: Producer) -> bool:
        """Decode a file for better or worse; False where the run ends."""
        try:
            if work.hearing is None:
                self._decode(work, producer)
            else:
                self._tell_apart(work, producer)
        except (_NoAnswer, GivenUp):
            raise
        except VoxdexError as error:
            if self._stopping():
                return False  # It may be what the file was given up with.
            work.result.error = error
        except Exception as error:
            # A decoder failed in a way nobody foresaw: that is one file's failure, not the job's.
            logger.exception("unforeseen failure while decoding")
            work.result.error = InvalidAudio(
                f"{work.result.file.recorded_uri}: decoding failed unexpectedly ({type(error).__name__}: {error}); "
                "convert it with ffmpeg, and please report it"
            )
        if work.hearing is None or not work.hearing.is_in_doubt:
            work.opened.close()
        producer.put(Handed(work))
        return True

    def _decode(self, work: Work, producer: Producer) -> None:
        """Decode a file and hand its utterances over; raises GivenUp halfway where the run ends."""
        result = work.result
        name = result.file.recorded_uri
        path = work.opened.enter_context(self._fetch(result.file))
        with counting_stage("hash"):
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
            self._listen(work, path, producer)
        else:
            self._cut(work, path, known, producer)

    def _cut(self, work: Work, path: Path, known: Known | None, producer: Producer) -> None:
        """Cut what is placed already, or all that sounds; the recording is read once."""
        result = work.result
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
                        producer.put(Heard(work, audio))
                elif not is_silent(audio.waveform):
                    voice = audio.track if self._listening.speakers == "channels" else None
                    spoken = [Region(0.0, audio.end_s - audio.start_s)]
                    producer.put(Heard(work, audio, voice, measure_quality(audio.waveform, spoken)))
            result.duration_s = reader.decoded_s
            result.issues = reader.issues
            result.levels = reader.levels

    def _listen(self, work: Work, path: Path, producer: Producer) -> None:
        """Find where somebody speaks, and cut that, taken for one voice as long as nobody knows better."""
        assert self._listening is not None
        result = work.result
        name = result.file.recorded_uri
        take = work.take = Take(
            path,
            channels=self._channels,
            limits=self._limits,
            name=name,
            watched=partial(self._watched, producer),
        )
        try:
            hearing = listen(take, self._listening, name=name)
        finally:
            result.info = take.info
        result.duration_s, result.issues, result.levels = take.facts.duration_s, take.facts.issues, take.facts.levels
        if not hearing.is_settled and not hearing.is_in_doubt:
            hearing.tell_apart(take, producer)
        self._hand_over(work, take, hearing, producer)
        take.forget()
        work.hearing = hearing

    def _tell_apart(self, work: Work, producer: Producer) -> None:
        """Find who speaks when, and cut that where it is more than one; the recording is read once or twice more."""
        assert work.take is not None
        assert work.hearing is not None
        work.hearing.tell_apart(work.take, producer)
        if work.hearing.is_as_supposed:
            work.result.utterances = work.supposed
        else:
            self._hand_over(work, work.take, work.hearing, producer)
        work.take.forget()

    def _hand_over(self, work: Work, take: Take, hearing: Hearing, producer: Producer) -> None:
        placed = place_tracks(
            hearing.tracks, take, utterance_s=self._limits.utterance_s, min_samples=self._encoders.min_samples
        )
        for audio in cut_stretches(take.blocks(), list(placed)):
            producer.go_on()
            utterance = placed[Stretch(audio.track, audio.start_s, audio.end_s)]
            with counting_stage("measure"):
                quality = measure_quality(audio.waveform, utterance.spoken)
            windows = hearing.windows(audio.track, utterance)
            producer.put(Heard(work, audio, utterance.voice, quality, windows))

    def _watched(self, producer: Producer, blocks: Blocks) -> Blocks:
        for block in counting_seconds_of(counting_stage_of(blocks, "decode"), DECODE_SECONDS):
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

    def _consume(
        self, events: queue.Queue[Event], works: Works, threads: list[threading.Thread]
    ) -> Iterator[EmbeddedFile | None]:
        """Yield files as they are done, and None now and then, so that whoever gathers them can look at the clock."""
        held = Held(self._batch)
        while not self._stopping():
            yield None
            asked: list[Windows] = []
            touched: list[Work] = []
            for event in arrived(events, wait_s=0.0 if held else 0.1, most=held.room):
                if isinstance(event, Heard):
                    event.work.waiting += 1
                    held.add(event)
                elif isinstance(event, Windows):
                    asked.append(event)
                elif isinstance(event, Handed):
                    event.work.all_handed = True
                    touched.append(event.work)
                else:
                    raise event.error
            self._answer(asked)
            if held:
                batch = held.take()
                self._embed(batch)
                for heard in batch:
                    heard.work.waiting -= 1
                    touched.append(heard.work)
            elif not (asked or touched) and events.empty() and not any(thread.is_alive() for thread in threads):
                return
            for work in dict.fromkeys(touched):
                if work.all_handed and work.waiting == 0 and self._is_done(work, works):
                    yield work.result

    def _is_done(self, work: Work, works: Works) -> bool:
        """Tell whether a file of which all that was decoded is embedded is done with; else it is decoded once more."""
        hearing = work.hearing
        if work.result.error is None and hearing is not None and hearing.is_in_doubt:
            work.judge(self._encoders.first.id)
            if not hearing.is_settled:
                works.again(work)
                return False
        work.result.utterances.sort(key=lambda utterance: (utterance.start_s, utterance.track))
        works.done(work)
        return True

    def _answer(self, asked: list[Windows]) -> None:
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

    def _embed(self, batch: list[Heard]) -> None:
        waveforms, windows = [heard.audio.waveform for heard in batch], [heard.windows for heard in batch]
        of_windows: Sequence[Vectors]
        try:
            if any(windows):
                vectors, of_windows = self._encoders.embed_with_windows(waveforms, windows)
            else:
                vectors, of_windows = self._encoders.embed(waveforms), ()
            self._progressed()
        except Unavailable:
            raise  # The device is at fault, not the recordings.
        except VoxdexError as error:
            if len(batch) > 1:  # Find the one that is to blame; the others must not suffer for it.
                for heard in batch:
                    self._embed([heard])
            else:
                result = batch[0].work.result
                result.error = about(result.file.recorded_uri, error)
            return
        for place, heard in enumerate(batch):
            audio = heard.audio
            own = {encoder_id: rows[place] for encoder_id, rows in vectors.items()}
            heard.work.result.utterances.append(
                EmbeddedUtterance(audio.track, audio.start_s, audio.end_s, own, heard.voice, heard.quality)
            )
            if heard.windows:
                stretch = Stretch(audio.track, audio.start_s, audio.end_s)
                heard.work.seen.append((stretch, heard.windows, of_windows[place]))
