"""What decoding threads and the encoder's thread of a pipeline hand each other, in bounded memory."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from indexer.audio.quality import Quality
from indexer.audio.regions import Region
from indexer.audio.segmentation import UtteranceAudio
from indexer.errors import VoxdexError
from indexer.hearing import Hearing
from indexer.listening import Doubt
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Vectors, Waveform
from indexer.window_vectors import SeenWindows, WindowEncoder

if TYPE_CHECKING:
    from indexer.embedded_files import EmbeddedFile, EmbeddedUtterance
    from indexer.embedding.encoder import Encoder  # Loads torch.
    from indexer.embedding.encoder_set import EncoderSet

QUEUE_UTTERANCES = 64
"""Decoded utterances on their way to the consuming thread: 40 MB at ten seconds each."""

HELD_UTTERANCES = 64
"""Those that wait there for others of their length, beside them."""

_TOGETHER_S = 120.0
"""Most audio that is handed to the encoder at once: between two such calls a run can stop."""

_PASS_S = 12.0
"""Audio of one length that makes a full pass on a processor; more makes several of them."""

_ENOUGH_S = 40.0
"""Audio that is handed over if there is as much: some passes for each core, so that few wait for the last one."""


@dataclass(eq=False)
class Work:
    """A file on its way through the stages; decoded by one thread at a time, embedded by the consuming one."""

    result: "EmbeddedFile"
    opened: ExitStack = field(default_factory=ExitStack)
    """What holds the file readable until it is settled who speaks in it."""
    take: Take | None = None
    hearing: Hearing | None = None
    seen: dict[int, SeenWindows] = field(default_factory=dict)
    """Windows of its utterances, by track."""
    supposed: "list[EmbeddedUtterance]" = field(default_factory=list)
    """Its utterances, if one voice should turn out to be all there is after all."""
    doubts: Mapping[int, Doubt] = field(default_factory=dict)
    """By track, what is to be looked at more closely, for it may be of a second voice."""
    waiting: int = 0
    """Utterances that were decoded and not embedded."""
    all_handed: bool = False
    """Whether no more utterances come."""

    def see(self, audio: UtteranceAudio, windows: Sequence[Region], vectors: Vectors) -> None:
        """Keep the vectors of windows of an utterance."""
        self.seen.setdefault(audio.track, SeenWindows()).add(windows, vectors)


@dataclass(frozen=True, slots=True)
class Heard:
    """A producer decoded one utterance."""

    work: Work
    audio: UtteranceAudio
    voice: int | None = None
    quality: Quality | None = None
    windows: Sequence[Region] = ()
    """Stretches in it whose vectors are wanted too, on the time axis of its track."""


class Windows:
    """A producer wants windows embedded under an encoder, to tell voices apart, and waits for that."""

    def __init__(self, waveforms: Sequence[Waveform], encoder: "Encoder") -> None:
        self.waveforms = waveforms
        self.encoder = encoder
        self.answered = threading.Event()
        self._vectors: Vectors | None = None
        self._error: VoxdexError | None = None

    def answer(self, vectors: Vectors) -> None:
        """Hand over their (W, D) rows."""
        self._vectors = vectors
        self.answered.set()

    def refuse(self, error: VoxdexError) -> None:
        """Say why there are none."""
        self._error = error
        self.answered.set()

    @property
    def vectors(self) -> Vectors:
        """Their (W, D) rows, once answered; raises what they were refused with."""
        if self._error is not None:
            raise self._error
        assert self._vectors is not None
        return self._vectors


@dataclass(frozen=True, slots=True)
class Handed:
    """A producer has handed all of a file over, for better or worse."""

    work: Work


@dataclass(frozen=True, slots=True)
class Crashed:
    """A producer died of something that is not a file's fault."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Ended:
    """A producer hands nothing more over: whoever waits for events need not wait for one of it."""


Event = Heard | Windows | Handed | Crashed | Ended


class GivenUp(Exception):
    """The run ends: what was begun is not to be taken for done."""


class Producer:
    """One decoding thread's way to the consuming one, and its turn to decode; a `WindowEncoder` for its files.

    Parameters
    ----------
    encoders
        Windows are embedded under the first one; under the other one by `under`.
    """

    def __init__(
        self, events: queue.Queue[Event], turns: threading.Semaphore, stop: threading.Event, encoders: "EncoderSet"
    ) -> None:
        self._events = events
        self._turns = turns
        self._stop = stop
        self._encoders = encoders
        self._has_turn = False
        self.put = events.put

    @property
    def id(self) -> EncoderId:
        """Of the encoder that makes vectors of windows."""
        return self._encoders.first.id

    @property
    def min_samples(self) -> int:
        """Fewest samples of a window."""
        return self._encoders.first.min_samples

    @property
    def ids(self) -> tuple[EncoderId, ...]:
        """Of all encoders, the first one's first."""
        return self._encoders.ids

    def under(self, encoder_id: EncoderId) -> WindowEncoder:
        """Return the way to vectors under one of the encoders."""
        return _Under(self, next(encoder for encoder in self._encoders if encoder.id == encoder_id))

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Have windows embedded by the consuming thread; another producer decodes meanwhile."""
        return self.embed_under(self._encoders.first, waveforms)

    def embed_under(self, encoder: "Encoder", waveforms: Sequence[Waveform]) -> Vectors:
        """Do the same under one of the encoders."""
        windows = Windows(waveforms, encoder)
        self._events.put(windows)
        self._end_turn()
        while not windows.answered.wait(timeout=0.1):
            self.go_on()
        self._take_turn()
        return windows.vectors

    def go_on(self) -> None:
        """Raise GivenUp where the run ends."""
        if self._stop.is_set():
            raise GivenUp

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


class _Under:
    """A `WindowEncoder`: a producer's way to one of its encoders."""

    def __init__(self, producer: Producer, encoder: "Encoder") -> None:
        self._producer = producer
        self._encoder = encoder

    @property
    def id(self) -> EncoderId:
        return self._encoder.id

    @property
    def min_samples(self) -> int:
        return self._encoder.min_samples

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        return self._producer.embed_under(self._encoder, waveforms)


class Held:
    """Decoded utterances by their length: those of one length go through the network together.

    Several lengths are handed over at once, for the encoder runs their passes side by side.

    Parameters
    ----------
    batch
        Most utterances that are taken at once.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._by_length: dict[int, list[Heard]] = {}  # by when the first of a length came
        self._count = 0
        self._samples = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._count > 0

    @property
    def is_full(self) -> bool:
        """Whether no more are to be added while others are embedded."""
        return self._count >= HELD_UTTERANCES

    @property
    def room(self) -> int:
        """How many more there is room for; at least one."""
        return max(1, HELD_UTTERANCES - self._count)

    def add(self, heard: Heard) -> None:
        """Take one more."""
        self._by_length.setdefault(len(heard.audio.waveform), []).append(heard)
        self._count += 1
        self._samples += len(heard.audio.waveform)

    def take(self, *, if_enough: bool = False) -> list[Heard]:
        """Return full passes of those of one length, and where they are not enough, those that wait longest.

        Parameters
        ----------
        if_enough
            Whether all is left where it is unless it makes some passes for each core: while others are embedded, more
            may come that goes together.
        """
        taken: list[Heard] = []
        if if_enough and self._samples < _ENOUGH_S * SAMPLE_RATE_HZ:
            return taken
        for length in list(self._by_length):
            together = max(1, int(_PASS_S * SAMPLE_RATE_HZ) // length)
            self._move(length, len(self._by_length[length]) // together * together, taken)
        while self._by_length and _seconds(taken) < _ENOUGH_S:
            length = next(iter(self._by_length))
            if not self._move(length, len(self._by_length[length]), taken):
                break
        return taken

    def _move(self, length: int, wanted: int, taken: list[Heard]) -> int:
        """Take the first utterances of a length, as far as they go together with those that are taken; how many."""
        left = int(_TOGETHER_S * SAMPLE_RATE_HZ) - sum(len(heard.audio.waveform) for heard in taken)
        count = min(wanted, self._batch - len(taken), left // length)
        if not taken and wanted:
            count = max(1, count)
        if count <= 0:
            return 0
        own = self._by_length.pop(length)
        taken += own[:count]
        if own[count:]:
            self._by_length[length] = own[count:]
        self._count -= count
        self._samples -= count * length
        return count


def _seconds(taken: Sequence[Heard]) -> float:
    return sum(len(heard.audio.waveform) for heard in taken) / SAMPLE_RATE_HZ


class Works:
    """What is to be decoded: files, and before them those that turned out to hold several voices."""

    def __init__(self, works: Iterator[Work]) -> None:
        self._works = works
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._again: deque[Work] = deque()
        self._under_way: set[Work] = set()
        self._no_more = False

    def next(self, go_on: Callable[[], None]) -> Work | None:
        """Return what comes next, and None once all is done with.

        Parameters
        ----------
        go_on
            Called now and then while others are waited for; raises where the run ends.
        """
        while True:
            go_on()
            with self._changed:
                if self._again:
                    return self._again.popleft()
            if (work := self._begin()) is not None:
                return work
            with self._changed:
                if not (self._under_way or self._again):
                    return None
                self._changed.wait(0.1)

    def _begin(self) -> Work | None:
        with self._lock:
            work = None if self._no_more else next(self._works, None)
            if work is None:
                self._no_more = True
                return None
            with self._changed:
                self._under_way.add(work)
            return work

    def again(self, work: Work) -> None:
        """Have a file decoded once more."""
        with self._changed:
            self._again.append(work)
            self._changed.notify()

    def done(self, work: Work) -> None:
        """Be done with a file, which need not be readable any longer."""
        with self._changed:
            self._under_way.discard(work)
            self._changed.notify_all()
        work.opened.close()

    def close(self) -> None:
        """Be done with whatever is under way."""
        for work in list(self._under_way):
            self.done(work)


def arrived(events: queue.Queue[Event], *, wait_s: float, most: int) -> Iterator[Event]:
    """Yield what is there, after waiting for the first."""
    try:
        yield events.get(timeout=wait_s) if wait_s else events.get_nowait()
    except queue.Empty:
        return
    yield from _take(events, most - 1)


def _take(events: queue.Queue[Event], most: int) -> Iterator[Event]:
    for _ in range(most):
        try:
            yield events.get_nowait()
        except queue.Empty:
            return


def drain(events: queue.Queue[Event]) -> None:
    """Make room for whoever waits to hand something over."""
    for _ in _take(events, QUEUE_UTTERANCES):
        pass
