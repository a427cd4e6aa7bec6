"""Windows within recordings and their vectors, by which voices are told apart."""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from indexer.audio.regions import Region
from indexer.audio.segmentation import Stretch, UtteranceAudio, cut_stretches
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Span, Vectors, Waveform

WINDOWS_AT_ONCE = 40
"""Windows that are embedded together: a minute of audio."""


class WindowEncoder(Protocol):
    """As much of an encoder as it takes to tell voices apart."""

    @property
    def id(self) -> EncoderId:
        """What its vectors are comparable under."""

    @property
    def min_samples(self) -> int:
        """Fewest samples that it embeds."""

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed some dozens of windows as (W, D) unit rows."""


class UtteranceEncoder(WindowEncoder, Protocol):
    """What embeds utterances and windows in them out of one pass; every `Encoder` does."""

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed utterances, and (W, D) unit rows of stretches inside each."""


class SeenWindows:
    """Windows of one track and their vectors, collected by utterance, in whatever order these are embedded."""

    def __init__(self) -> None:
        self._windows: list[Region] = []
        self._rows: list[Vectors] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._windows)

    def add(self, windows: Sequence[Region], vectors: Vectors) -> None:
        """Take the windows of one more utterance, on the time axis of the track."""
        if windows:
            self._windows += windows
            self._rows.append(vectors)

    def in_order(self) -> tuple[list[Region], Vectors]:
        """Return the windows by rising start, and their (W, D) unit rows."""
        order = sorted(range(len(self._windows)), key=self._windows.__getitem__)
        rows: Vectors = np.concatenate(self._rows)[order]
        return [self._windows[place] for place in order], rows


def spans_of(windows: Sequence[Region], audio: UtteranceAudio) -> list[Span]:
    """Return where windows of a track are within an utterance of it, in samples."""
    first, samples = round(audio.start_s * SAMPLE_RATE_HZ), len(audio.waveform)
    return [
        (max(0, round(start_s * SAMPLE_RATE_HZ) - first), min(samples, round(end_s * SAMPLE_RATE_HZ) - first))
        for start_s, end_s in windows
    ]


def embed_windows(
    take: Take, windows: Sequence[Sequence[Region]], encoder: WindowEncoder
) -> list[tuple[list[Region], Vectors]]:
    """Embed windows of each track, reading the recording once.

    Parameters
    ----------
    windows
        By track, in seconds.

    Returns
    -------
    list of (list of Region, float32 array of (W, D))
        By track, the windows that are long enough for the encoder, and their unit rows.
    """
    places = {Stretch(track, *window): row for track, own in enumerate(windows) for row, window in enumerate(own)}
    found: list[Vectors | None] = [None] * len(windows)
    made = [np.zeros(len(own), dtype=np.bool_) for own in windows]
    long_enough = (
        piece
        for piece in (cut_stretches(take.blocks(), list(places)) if places else ())
        if len(piece.waveform) >= encoder.min_samples
    )
    while some := list(itertools.islice(long_enough, WINDOWS_AT_ONCE)):
        vectors = encoder.embed([piece.waveform for piece in some])
        for piece, vector in zip(some, vectors, strict=True):
            rows = found[piece.track]
            if rows is None:  # One array from the beginning: of hours there are 100,000 and more.
                rows = found[piece.track] = np.empty((len(windows[piece.track]), len(vector)), dtype=np.float32)
            row = places[Stretch(piece.track, piece.start_s, piece.end_s)]
            rows[row], made[piece.track][row] = vector, True
    embedded: list[tuple[list[Region], Vectors]] = []
    for own, vectors_of, there in zip(windows, found, made, strict=True):
        if vectors_of is None:
            embedded.append(([], np.empty((0, 0), dtype=np.float32)))
        else:
            kept = [window for window, is_there in zip(own, there, strict=True) if is_there]
            embedded.append((kept, vectors_of if there.all() else vectors_of[there]))
    return embedded
