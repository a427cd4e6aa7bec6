"""Who speaks when -> utterances: contiguous stretches of one voice that can be cut again from their two times alone."""

import itertools
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

CONTEXT_S = 1.0
"""What is kept of the sound around speech: short probes are told apart better with it than without."""

_CONTEXT = round(CONTEXT_S * SAMPLE_RATE_HZ)
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
    """Turns of one voice, between which nobody else speaks and no pause is long; in samples.

    `free_from` and `free_to` are how far it may be widened: half of the way to whoever speaks before and after.
    """

    voice: int
    turns: list[tuple[int, int]] = field(default_factory=list)
    free_from: int = 0
    free_to: int = 0

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
        Rising and disjoint. Each holds up to `CONTEXT_S` of what sounds before and after its speech, and never another
        voice; a track of one voice that is not much longer than that stays whole. Where there is nothing around it to
        make its length one of the grid, up to 0.5 s at its end are left out instead.
    """
    most, last = round(utterance_s * SAMPLE_RATE_HZ), math.floor(duration_s * SAMPLE_RATE_HZ + 0.5)
    placed: list[PlacedUtterance] = []
    for run in _runs(turns, last):
        *before, (start, end) = _pieces(run, most)
        for first, stop in (*before, (start, end) if (start, end) == (0, last) else _on_grid(start, end, run)):
            speech = tuple(
                Region(max(a, first) / SAMPLE_RATE_HZ, min(b, stop) / SAMPLE_RATE_HZ)
                for a, b in run.turns
                if a < stop and b > first
            )
            placed.append(PlacedUtterance(run.voice, first / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ, speech))
    return placed


def _runs(turns: Iterable[VoiceTurn], last: int) -> list[_Run]:
    runs: list[_Run] = []
    for voice, start_s, end_s in turns:
        start, end = max(0, round(start_s * SAMPLE_RATE_HZ)), min(last, round(end_s * SAMPLE_RATE_HZ))
        if end <= start:
            continue
        if not runs or runs[-1].voice != voice or start - runs[-1].end > PAUSE_S * SAMPLE_RATE_HZ:
            runs.append(_Run(voice))
        runs[-1].turns.append((start, end))
    for before, after in itertools.pairwise(runs):
        before.free_to = after.free_from = (before.end + after.start) // 2
    if runs:
        runs[-1].free_to = last
    return runs


def _pieces(run: _Run, most: int) -> Iterator[tuple[int, int]]:
    """Cut a run and what sounds around it into stretches of at most `most` samples, none of which begins in a pause."""
    start, end = max(run.free_from, run.start - _CONTEXT), min(run.free_to, run.end + _CONTEXT)
    while end - start > most:
        left = end - start
        # What remains for the last two is shared between them: a scrap is no good probe of a voice.
        size = most if left >= 1.5 * most else math.ceil(left / 2 / _GRID) * _GRID
        cut = start + min(size, most)
        yield start, cut
        if cut >= run.end:
            return
        start = next(max(cut, a) for a, b in run.turns if b > cut)
    yield start, end


def _on_grid(start: int, end: int, run: _Run) -> tuple[int, int]:
    """Give a stretch a length of the grid: by what sounds around its speech, else by a little of its end."""
    over = (end - start) % _GRID
    after = max(0, end - run.end)  # What may go without any speech.
    before = max(0, run.start - start)
    if over <= after + before and end - start > over:
        return start + max(0, over - after), end - min(over, after)
    lacking = _GRID - over
    later = min(lacking, run.free_to - end) if end >= run.end else 0
    earlier = min(lacking - later, start - run.free_from) if start <= run.start else 0
    if later + earlier == lacking:
        return start - earlier, end + later
    return (start, end - over) if end - start - over >= _LEAST_CUT else (start - earlier, end + later)
