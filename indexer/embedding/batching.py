"""One encoder for many threads: probes that wait share a pass, and whoever waits longest goes first.

The network gains nothing from being run by several threads at once (each pass uses all cores or the whole device), and
loses batching by it. So one thread owns it, and everyone else hands over waveforms and sleeps.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from indexer.embedding.around import AroundEncoder
from indexer.embedding.encoder import Encoder, batches_of_any_lengths, batches_of_one_length
from indexer.embedding.room import DEFAULT_PASS_S
from indexer.errors import CorruptArtifact, Overloaded, Unavailable, VoxdexError
from indexer.observability import PROBE_BATCH_SIZE
from indexer.types import SAMPLE_RATE_HZ, Span, Vectors, Waveform

_BACKGROUND_TURN_S = 5.0
"""Under probes without end, ingest gets one pass as often as this, so that it never stands still."""

_LONGEST_RETRY_S = 60.0


_Way = Literal["unit", "raw", "windows"]
"""What is asked for: vectors of unit norm, those of the network itself, or those of windows too."""

_Windows = Sequence[Sequence[Span]] | None


class _Call:
    """What one thread asked for and waits for; only the thread that owns the network writes into it."""

    def __init__(self, waveforms: Sequence[Waveform], dim: int, way: _Way, windows: _Windows = None) -> None:
        self.waveforms = waveforms
        self.way = way
        self.windows = windows
        self.vectors: Vectors = np.empty((len(waveforms), dim), dtype=np.float32)
        self.of_windows: list[Vectors] = [np.empty((0, dim), dtype=np.float32) for _ in waveforms]
        self.left = len(waveforms)
        self.done = threading.Event()
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()

    def fill(self, rows: Sequence[int], vectors: Vectors, of_windows: Sequence[Vectors]) -> None:
        self.vectors[rows] = vectors
        for row, own in zip(rows, of_windows, strict=False):
            self.of_windows[row] = own
        self.left -= len(rows)
        if self.left == 0:
            self.done.set()


class _Unit:
    """Waveforms of one call which go through the network together."""

    __slots__ = ("call", "length", "rows", "samples")

    def __init__(self, call: _Call, rows: Sequence[int]) -> None:
        self.call = call
        self.rows = rows
        self.length = np.size(call.waveforms[rows[0]])
        """Samples of the first one, and of all where a pass takes but one length."""
        self.samples = sum(np.size(call.waveforms[row]) for row in rows)
        """Of all of them together."""

    @property
    def waveforms(self) -> list[Waveform]:
        return [self.call.waveforms[row] for row in self.rows]

    @property
    def windows(self) -> list[Sequence[Span]]:
        return [] if self.call.windows is None else [self.call.windows[row] for row in self.rows]


class BatchingEncoder(AroundEncoder):
    """An `Encoder` that any number of threads call at once.

    Parameters
    ----------
    inner : Encoder
        Called from one thread of this object only.
    queue : int
        Probes that may wait; more are refused.
    batch : int
        Most probes in one pass.
    batch_audio_s : float, optional
        Most seconds of audio in one pass, as the inner encoder cuts it on a CPU.
    timeout_s : float
        Longest wait of a probe.
    stalled_s : float
        Longest time without the end of any pass that work of the background waits for; a pass takes seconds.
    """

    def __init__(
        self,
        inner: Encoder,
        *,
        queue: int = 256,
        batch: int = 16,
        batch_audio_s: float | None = None,
        timeout_s: float = 60.0,
        stalled_s: float = 300.0,
    ) -> None:
        super().__init__(inner)
        self._limit = queue
        self._batch = batch
        self._batch_samples = int((batch_audio_s or DEFAULT_PASS_S) * SAMPLE_RATE_HZ)
        self._timeout_s = timeout_s
        self._stalled_s = stalled_s
        self._pass_ended_at = time.monotonic()
        self._work = threading.Condition()
        self._probes: deque[_Unit] = deque()
        self._background: deque[_Unit] = deque()
        self._closed = False
        self._s_per_sample = 0.0
        self._background_turn = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Probes that wait for a pass."""
        return len(self._probes)

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed probes as the inner encoder does, before any work of the background.

        Raises
        ------
        Overloaded
            If too many wait already, or this one waited too long; it says when to come again.
        Unavailable
            If the encoder was closed.
        VoxdexError
            What the inner encoder raises for these waveforms; others that shared their pass are not concerned.
        """
        return self._embed(_Call(waveforms, self.dim, "unit")).vectors

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed probes without normalizing; see `embed`."""
        return self._embed(_Call(waveforms, self.dim, "raw")).vectors

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed probes and stretches inside them; see `embed`."""
        call = self._embed(_Call(waveforms, self.dim, "windows", windows))
        return call.vectors, call.of_windows

    def background(self) -> "BackgroundEncoder":
        """Return a view for ingest: same network, and its work waits while probes wait."""
        return BackgroundEncoder(self)

    def close(self) -> None:
        """Finish the pass under way, fail whatever waits, and end the thread."""
        with self._work:
            self._closed = True
            waiting = [*self._probes, *self._background]
            self._probes.clear()
            self._background.clear()
            self._work.notify()
        for unit in waiting:
            unit.call.fail(_closing())
        self._thread.join()

    def _embed(self, call: _Call) -> _Call:
        units = [_Unit(call, [row]) for row in range(len(call.waveforms))]
        with self._work:
            # A call longer than the whole queue goes in when nothing else waits; it could never go in otherwise.
            if self._probes and len(self._probes) + len(units) > self._limit:
                raise Overloaded(
                    f"{len(self._probes)} probes wait for the encoder, the limit is {self._limit}: try again later",
                    retry_after_s=self._retry_after_s(),
                )
            self._enqueue(self._probes, units)
        return self._result(call, self._wait_as_probe)

    def embed_in_background(
        self, waveforms: Sequence[Waveform], way: _Way, windows: _Windows = None
    ) -> tuple[Vectors, list[Vectors]]:
        """Do what `BackgroundEncoder` promises."""
        call = _Call(waveforms, self.dim, way, windows)
        with self._work:
            if not self._background:
                self._background_turn = time.monotonic()
            self._enqueue(self._background, list(self._passes(call)))
        self._result(call, self._wait_in_background)
        return call.vectors, call.of_windows

    def _passes(self, call: _Call) -> Iterator[_Unit]:
        lengths = [np.size(waveform) for waveform in call.waveforms]
        divide = batches_of_any_lengths if self._inner.joins_lengths else batches_of_one_length
        for rows in divide(lengths, most=self._batch_samples):
            yield _Unit(call, rows)

    def _enqueue(self, queue: deque[_Unit], units: list[_Unit]) -> None:
        if self._closed:
            raise _closing()
        queue.extend(units)
        self._work.notify()

    def _wait_as_probe(self, call: _Call) -> None:
        if not call.done.wait(self._timeout_s):
            raise Overloaded(
                f"no embedding after {self._timeout_s:g} s, which is as long as a probe waits "
                "(VOXDEX_PROBES__TIMEOUT_S): try again later",
                retry_after_s=self._retry_after_s(),
            )

    def _wait_in_background(self, call: _Call) -> None:
        """Wait as long as passes end, whoever they are for."""
        since = time.monotonic()
        left = self._stalled_s
        while not call.done.wait(left):
            left = max(since, self._pass_ended_at) + self._stalled_s - time.monotonic()
            if left <= 0:
                raise Unavailable(
                    f"no pass of the encoder has ended for {self._stalled_s:g} s: it hangs; restart the process"
                )

    def _result(self, call: _Call, wait: Callable[[_Call], None]) -> _Call:
        if not call.waveforms:
            return call
        try:
            wait(call)
        except BaseException:
            self._withdraw(call)
            raise
        if call.error is not None:
            raise call.error
        return call

    def _withdraw(self, call: _Call) -> None:
        with self._work:
            for queue in (self._probes, self._background):
                kept = [unit for unit in queue if unit.call is not call]
                queue.clear()
                queue.extend(kept)

    def _retry_after_s(self) -> float:
        """Seconds until what waits now will be done; at least one."""
        waiting = sum(unit.samples for unit in tuple(self._probes))
        return min(max(1.0, waiting * self._s_per_sample), _LONGEST_RETRY_S)

    def _run(self) -> None:
        while (units := self._next()) is not None:
            started = time.monotonic()
            self._forward(units)
            self._pass_ended_at = time.monotonic()
            samples = sum(unit.samples for unit in units)
            if samples:
                spent = (self._pass_ended_at - started) / samples
                self._s_per_sample = spent if not self._s_per_sample else 0.8 * self._s_per_sample + 0.2 * spent

    def _next(self) -> list[_Unit] | None:
        """Wait for work and take a pass of it; None when closed."""
        with self._work:
            self._work.wait_for(lambda: self._closed or self._probes or self._background)
            if self._closed:
                return None
            now = time.monotonic()
            if self._background and (not self._probes or now - self._background_turn > _BACKGROUND_TURN_S):
                self._background_turn = now
                return [self._background.popleft()]
            return self._take_probes()

    def _take_probes(self) -> list[_Unit]:
        """Take the probe that has waited longest, and those that may share its pass."""
        first = self._probes.popleft()
        any_length = self._inner.joins_lengths
        taken, samples = [first], first.samples
        kept: list[_Unit] = []
        for unit in self._probes:
            alike = unit.call.way == first.call.way and (any_length or unit.length == first.length)
            if alike and len(taken) < self._batch and samples + unit.samples <= self._batch_samples:
                taken.append(unit)
                samples += unit.samples
            else:
                kept.append(unit)
        self._probes.clear()
        self._probes.extend(kept)
        PROBE_BATCH_SIZE.observe(len(taken))
        return taken

    def _forward(self, units: list[_Unit]) -> None:
        """Embed the waveforms of some units together; where that fails, each apart, so that each gets its own error."""
        waveforms = [waveform for unit in units for waveform in unit.waveforms]
        windows = [spans for unit in units for spans in unit.windows]
        try:
            vectors, of_windows = self._run_network(units[0].call.way, waveforms, windows)
            # One row too few would shift everybody's after it, or end this thread and with it all who wait.
            if vectors.shape != (len(waveforms), self.dim):
                raise CorruptArtifact(
                    f"encoder {self.id} returned {vectors.shape} numbers for {len(waveforms)} waveforms and dimension "
                    f"{self.dim}: choose another encoder"
                )
        except BaseException as error:
            self._after_error(units, error)
            return
        start = 0
        for unit in units:
            end = start + len(unit.rows)
            unit.call.fill(unit.rows, vectors[start:end], of_windows[start:end])
            start = end

    def _run_network(
        self, way: _Way, waveforms: Sequence[Waveform], windows: _Windows
    ) -> tuple[Vectors, list[Vectors]]:
        if way == "windows":
            return self._inner.embed_with_windows(waveforms, windows or [])
        embed = self._inner.embed_raw if way == "raw" else self._inner.embed
        return embed(waveforms), []

    def _after_error(self, units: list[_Unit], error: BaseException) -> None:
        if len(units) > 1:
            for unit in units:
                if not unit.call.done.is_set():
                    self._forward([unit])
            return
        call = units[0].call
        if isinstance(error, VoxdexError) and len(call.waveforms) > 1:
            # The message counts the waveforms of a pass; the caller knows them by their place in the call.
            try:
                self._run_network(call.way, call.waveforms, call.windows)
            except BaseException as whole:
                error = whole
        self._withdraw(call)
        call.fail(error)


class BackgroundEncoder(AroundEncoder):
    """The encoder as ingest sees it: its passes wait while probes wait, and are never refused."""

    def __init__(self, owner: BatchingEncoder) -> None:
        super().__init__(owner)
        self._owner = owner

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as the inner encoder does, pass by pass, with probes in between.

        Raises
        ------
        Unavailable
            If the encoder was closed.
        VoxdexError
            What the inner encoder raises for these waveforms.
        """
        return self._owner.embed_in_background(waveforms, "unit")[0]

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances without normalizing; see `embed`."""
        return self._owner.embed_in_background(waveforms, "raw")[0]

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed utterances and stretches inside them; see `embed`."""
        return self._owner.embed_in_background(waveforms, "windows", windows)


def _closing() -> Unavailable:
    return Unavailable("the encoder is being closed with its process: try again, elsewhere or later")
