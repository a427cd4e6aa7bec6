"""Who speaks when -> utterances: contiguous stretches of one voice that can be cut again from their two times alone."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from indexer.audio.regions import Region
from indexer.listening import VoiceTurn
from indexer.types import SAMPLE_RATE_HZ

PAUSE_S = 2.0
"""An utterance ends at a longer pause: what comes then may be another occasion."""

GRID_S = 0.5
"""Lengths of utterances are multiples of it where the audio allows, so that many go through the network at once."""

_GRID = round(GRID_S * SAMPLE_RATE_HZ)
_LEAST_CUT = 2 * _GRID
"""Shorter utterances give nothing away for the grid."""


@dataclass(frozen=True, slots=True)
class PlacedUtterance:
    """Where an utterance is in its track.

    Attributes
    ----------
    voice
        Whose it is.
    start_s, end_s
        Whole samples at 16 kHz: `cut_stretches` gives the same samples whenever it is asked.
    speech
        Where in it somebody speaks, on the time axis of the track.
    """

    voice: int
    start_s: float
    end_s: float
    speech: tuple[Region, ...]

    @property
    def samples(self) -> int:
        """How long it is."""
        return round(self.end_s * SAMPLE_RATE_HZ) - round(self.start_s * SAMPLE_RATE_HZ)

    @property
    def spoken(self) -> list[Region]:
        """Where in it somebody speaks, on its own time axis."""
        return [Region(start_s - self.start_s, end_s - self.start_s) for start_s, end_s in self.speech]


@dataclass(slots=True)
class _Run:
    """Turns of one voice, between which nobody else speaks and no pause is long; in samples."""

    voice: int
    turns: list[tuple[int, int]] = field(default_factory=list)

    @property
    def start(self) -> int:
        return self.turns[0][0]

    @property
    def end(self) -> int:
        return self.turns[-1][1]


def place_utterances(turns: Sequence[VoiceTurn], *, duration_s: float, utterance_s: float) -> list[PlacedUtterance]:
    """Lay utterances over the turns of one track, so that all speech is in one of them, save a little at their edges.

    Parameters
    ----------
    turns
        By rising start, disjoint.
    duration_s
        Of the track.
    utterance_s
        Most seconds of an utterance; one that would be longer is cut into pieces of that length, the last two of
        which are alike. What the grid asks for may make a short one up to 0.5 s longer.

    Returns
    -------
    list of PlacedUtterance
        Rising and disjoint. Each begins and ends with speech, but for what was added for the grid: silence where there
        is some, never another voice. Where there is none, up to 0.5 s at its end are left out instead.
    """
    most, last = round(utterance_s * SAMPLE_RATE_HZ), math.floor(duration_s * SAMPLE_RATE_HZ + 0.5)
    runs = list(_runs(turns, last))
    placed: list[PlacedUtterance] = []
    free_from = 0
    for place, run in enumerate(runs):
        until = runs[place + 1].start if place + 1 < len(runs) else last
        for start, end, is_last in _pieces(run, most):
            first, stop = _on_grid(start, end, free_from, until if is_last else end)
            free_from = max(stop, end)
            speech = tuple(
                Region(max(a, first) / SAMPLE_RATE_HZ, min(b, stop) / SAMPLE_RATE_HZ)
                for a, b in run.turns
                if a < stop and b > first
            )
            placed.append(PlacedUtterance(run.voice, first / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ, speech))
    return placed


def _runs(turns: Iterable[VoiceTurn], last: int) -> Iterator[_Run]:
    run: _Run | None = None
    for voice, start_s, end_s in turns:
        start, end = max(0, round(start_s * SAMPLE_RATE_HZ)), min(last, round(end_s * SAMPLE_RATE_HZ))
        if end <= start:
            continue
        if run is None or run.voice != voice or start - run.end > PAUSE_S * SAMPLE_RATE_HZ:
            if run is not None:
                yield run
            run = _Run(voice)
        run.turns.append((start, end))
    if run is not None:
        yield run


def _pieces(run: _Run, most: int) -> Iterator[tuple[int, int, bool]]:
    """Cut a run into stretches of at most `most` samples that begin and end with speech; True for the last one."""
    start = run.start
    while run.end - start > most:
        left = run.end - start
        # What remains for the last two is shared between them: a scrap is no good probe of a voice.
        size = most if left >= 1.5 * most else math.ceil(left / 2 / _GRID) * _GRID
        cut = start + min(size, most)
        yield start, max(min(cut, b) for a, b in run.turns if a < cut), False
        start = next(max(cut, a) for a, b in run.turns if b > cut)
    yield start, run.end, True


def _on_grid(start: int, end: int, free_from: int, until: int) -> tuple[int, int]:
    """Widen a stretch into what is free around it to a multiple of the grid, or shorten it to one."""
    wanted = math.ceil((end - start) / _GRID) * _GRID
    stop = min(max(until, end), start + wanted)
    first = max(min(free_from, start), stop - wanted)
    if stop - first == wanted:
        return first, stop
    shorter = (end - start) // _GRID * _GRID
    return (start, start + shorter) if shorter >= _LEAST_CUT else (first, stop)
