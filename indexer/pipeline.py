"""Files -> embedded recordings: decoding in threads beside the encoder, in memory that an archive does not grow."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from indexer.archive import ArchiveFile
from indexer.audio.decode import ChannelPolicy
from indexer.decoding import Decoder, Fetch, Known, takes_all_that_sounds
from indexer.embedded_files import EmbeddedFile, EmbeddedUtterance
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import Unavailable, VoxdexError, about
from indexer.listening import Doubt, Listening
from indexer.settings import AudioSettings
from indexer.stages import (
    QUEUE_UTTERANCES,
    Ended,
    Event,
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
from indexer.types import EncoderId, Vectors
from indexer.window_vectors import spans_of

if TYPE_CHECKING:
    from indexer.embedding.encoder import Encoder  # Loads torch.

_PRODUCERS_PER_DECODER = 2
"""Threads of which one decodes, and the others wait for vectors; each may hold `indexer.takes.KEPT_S` of audio."""

_BATCHES = 2
"""Most batches of utterances that are with the encoder: when the last passes of one leave a core idle, those of the
next stand ready."""

_LOOK_S = 0.02
"""How long what decoding threads hand over waits at most to be looked at."""


class _Embedded(NamedTuple):
    """One utterance and what was made of it, until the thread that puts files together keeps it.

    Attributes
    ----------
    vectors
        Under each encoder, (D,).
    of_windows
        (W, D) rows of its windows; None where none were wanted.
    """

    heard: Heard
    vectors: dict[EncoderId, Vectors]
    of_windows: Vectors | None

    def keep(self) -> None:
        """Add it to its file: from one thread only, for utterances of one file may be in several calls."""
        audio, work = self.heard.audio, self.heard.work
        work.result.utterances.append(
            EmbeddedUtterance(
                audio.track, audio.start_s, audio.end_s, self.vectors, self.heard.voice, self.heard.quality
            )
        )
        if self.of_windows is not None:
            work.see(audio, self.heard.windows, self.of_windows)


def _nothing() -> None:
    pass


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
        Called from three threads of a run, which may be in it at once.
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
        events: queue.Queue[Event] = queue.Queue(QUEUE_UTTERANCES)
        self._stop.clear()
        # While some wait for vectors of windows, others decode: else the encoder would soon wait for the decoders.
        turns = threading.BoundedSemaphore(self._threads)
        decoder = partial(
            Decoder,
            min_samples=self._encoders.min_samples,
            channels=self._channels,
            limits=self._limits,
            listening=self._listening,
            is_known=self._is_known,
            fetch=self._fetch,
            known=self._known,
            stopping=self._stopping,
            progressed=self._progressed,
        )
        takes_all = takes_all_that_sounds(self._listening)
        if self._listening is not None and not takes_all and self._listening.given is None:
            self._listening.detector.stream()  # A network that cannot be had is no file's fault: it ends the run.
        works = Works(Work(EmbeddedFile(file)) for file in files)
        threads = [
            threading.Thread(
                target=decoder(producer=Producer(events, turns, self._stop, self._encoders)).run,
                args=(works,),
                name=f"decode-{n}",
                daemon=True,
            )
            for n in range(self._threads * (1 if takes_all else _PRODUCERS_PER_DECODER))
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._gather(self._consume(events, works, len(threads)), most, within_s)
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

    def _consume(self, events: queue.Queue[Event], works: Works, producers: int) -> Iterator[EmbeddedFile | None]:
        """Yield files as they are done, and None now and then, so that whoever gathers them can look at the clock.

        Whatever is done with a file, as writing it to the record, happens while the next ones are embedded.
        """
        held = Held(self._batch)
        done: list[EmbeddedFile] = []
        under_way: dict[Future[list[_Embedded]], list[Heard]] = {}
        with ThreadPoolExecutor(1 + _BATCHES, thread_name_prefix="embed") as embedding:
            while not self._stopping():
                asked: list[Windows] = []
                touched: list[Work] = []
                waits_s = 0.0 if held or done or under_way else 0.1
                for event in () if under_way and held.is_full else arrived(events, wait_s=waits_s, most=held.room):
                    if isinstance(event, Heard):
                        event.work.waiting += 1
                        held.add(event)
                    elif isinstance(event, Windows):
                        asked.append(event)
                    elif isinstance(event, Handed):
                        event.work.all_handed = True
                        touched.append(event.work)
                    elif isinstance(event, Ended):
                        producers -= 1
                    else:
                        raise event.error
                # Side by side: where the passes of the one leave a core idle, those of the other have it.
                if asked:
                    under_way[embedding.submit(self._answer, asked)] = []
                batches = sum(map(bool, under_way.values()))
                while batches < _BATCHES and (batch := held.take(if_enough=batches > 0)):
                    under_way[embedding.submit(self._embed, batch)] = batch
                    batches += 1
                yield None
                yield from done
                done.clear()
                ended = wait(under_way, _LOOK_S, FIRST_COMPLETED).done if under_way else set()
                for call in ended:
                    for embedded in call.result():
                        embedded.keep()
                    for heard in under_way.pop(call):
                        heard.work.waiting -= 1
                        touched.append(heard.work)
                if not (under_way or ended or touched or held or producers):
                    return
                for work in dict.fromkeys(touched):
                    if work.all_handed and work.waiting == 0 and self._is_done(work, works):
                        done.append(work.result)
            yield from done

    def _is_done(self, work: Work, works: Works) -> bool:
        """Tell whether a file of which all that was decoded is embedded is done with; else it is decoded once more."""
        hearing = work.hearing
        if work.result.error is None and hearing is not None and hearing.is_in_doubt:
            work.doubts = self._doubts(work)
            hearing.judge(work.seen, self._encoders.first.id)
            work.seen = {}
            if work.doubts or not hearing.is_settled:
                work.supposed, work.result.utterances = work.result.utterances, []
                work.all_handed = False
                works.again(work)
                return False
        work.result.utterances.sort(key=lambda utterance: (utterance.start_s, utterance.track))
        works.done(work)
        return True

    def _doubts(self, work: Work) -> dict[int, Doubt]:
        """Find what may be a second voice in a file that is to be enrolled as one; nobody else is to be warned."""
        finder = None if self._listening is None else self._listening.second_voice
        if finder is None or work.result.file.speaker is None:
            return {}
        found = {
            track: finder.doubt(*seen.in_order(), self._encoders.first.id) for track, seen in work.seen.items() if seen
        }
        return {track: doubt for track, doubt in found.items() if doubt is not None}

    def _answer(self, asked: list[Windows]) -> list[_Embedded]:
        """Embed windows that producers wait for, those of several files together; none of it is to be kept."""
        for encoder in self._encoders:
            if some := [windows for windows in asked if windows.encoder is encoder]:
                self._answer_by(encoder, some)
        return []

    def _answer_by(self, encoder: "Encoder", asked: list[Windows]) -> None:
        try:
            vectors = encoder.embed([waveform for windows in asked for waveform in windows.waveforms])
            self._progressed()
        except Unavailable:
            raise  # The producers hear of it when the run ends.
        except VoxdexError as error:
            if len(asked) > 1:
                for windows in asked:
                    self._answer_by(encoder, [windows])
            else:
                asked[0].refuse(error)
            return
        start = 0
        for windows in asked:
            windows.answer(vectors[start : start + len(windows.waveforms)])
            start += len(windows.waveforms)

    def _embed(self, batch: list[Heard]) -> list[_Embedded]:
        """Embed utterances; return what was made of those that could be."""
        waveforms = [heard.audio.waveform for heard in batch]
        windows = [spans_of(heard.windows, heard.audio) for heard in batch]
        of_windows: Sequence[Vectors] = ()
        try:
            if any(windows):
                vectors, of_windows = self._encoders.embed_with_windows(waveforms, windows)
            else:
                vectors = self._encoders.embed(waveforms)
            self._progressed()
        except Unavailable:
            raise  # The device is at fault, not the recordings.
        except VoxdexError as error:
            if len(batch) > 1:  # Find the one that is to blame; the others must not suffer for it.
                return [embedded for heard in batch for embedded in self._embed([heard])]
            result = batch[0].work.result
            result.error = about(result.file.recorded_uri, error)
            return []
        return [
            _Embedded(
                heard,
                {encoder_id: rows[place] for encoder_id, rows in vectors.items()},
                of_windows[place] if heard.windows else None,
            )
            for place, heard in enumerate(batch)
        ]
