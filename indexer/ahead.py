"""What of a probe is worked out while its speech is found, by a core that is idle meanwhile.

Speech is found in one thread. Most short recordings turn out to be one utterance from the first sample to the last, and
what an encoder reads of that, and its spectra, depend on nothing but the samples. Where they turn out otherwise the
work was for nothing, and is done again for what the utterance is.
"""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from indexer.audio.quality import power_spectra
from indexer.embedding.encoder_set import EncoderSet
from indexer.takes import Take
from indexer.types import Waveform

_LONGEST_S = 8.0
"""Of longer recordings there is more in which nobody speaks, and little of finding speech is left to the end."""

_ALONE = threading.Lock()
"""Held by the one probe that is heard: where there are several, no core is idle, and they share passes."""


class Ahead:
    """Works ahead for one probe; a context manager for as long as it is heard."""

    def __init__(self, encoders: EncoderSet) -> None:
        self._encoders = encoders
        self._waveform: Waveform | None = None
        self._work: Future[NDArray[np.float32]] | None = None
        self._is_alone = False

    def __enter__(self) -> Self:
        self._is_alone = _ALONE.acquire(blocking=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_alone:
            _ALONE.release()

    def begin(self, take: Take) -> None:
        """Begin, once a recording is read and its speech is not found yet."""
        if not (self._is_alone and take.duration_s <= _LONGEST_S and (os.cpu_count() or 1) > 1):
            return
        blocks = list(take.blocks())
        if len(blocks) == 1 and len(blocks[0]) == 1 and blocks[0].shape[1] >= self._encoders.min_samples:
            self._waveform = blocks[0][0].copy()
            self._work = _thread().submit(self._work_on, self._waveform)

    def _work_on(self, waveform: Waveform) -> NDArray[np.float32]:
        self._encoders.prepare(waveform)
        return power_spectra(waveform)

    def done(self, waveform: Waveform) -> tuple[Waveform, NDArray[np.float32] | None]:
        """Return the samples of an utterance as encoders know them, and its spectra where they were made."""
        if self._work is None or self._waveform is None or len(waveform) != len(self._waveform):
            return waveform, None
        if self._work.cancel() or not np.array_equal(waveform, self._waveform):
            return waveform, None
        if self._work.exception() is not None:  # Whoever does the work anew says what is wrong.
            return waveform, None
        return self._waveform, self._work.result()


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="ahead")


os.register_at_fork(after_in_child=_thread.cache_clear)  # its thread stays with the parent
