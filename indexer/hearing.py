"""Who speaks when in a recording: speech is found while it is decoded, voices by vectors that whoever asks has made.

Every recording is taken for one voice first, and embedded as such; windows out of the same passes tell where that was
wrong.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from indexer.audio.changes import ChangeFinder
from indexer.audio.edges import REACH_S
from indexer.audio.regions import Region, SpeechStream, bridged, speech_s
from indexer.audio.remarks import beside
from indexer.audio.rttm import RttmTurn, overlap_free_turns
from indexer.audio.segmentation import Stretch, cut_stretches
from indexer.audio.speech_files import turn_regions
from indexer.audio.utterances import PlacedUtterance, place_utterances
from indexer.errors import NoSpeech, NotEnoughSpeech, NotFound
from indexer.listening import Listening, Speakers, Suspicion, VoiceTurn
from indexer.observability import counting_stage
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId
from indexer.window_vectors import SeenWindows, UtteranceEncoder, WindowEncoder, embed_windows, spans_of

UTTERANCES_AT_ONCE = 4
"""Utterances that are embedded together where nothing but their windows is wanted: 40 s of audio."""

LEAST_SEVERAL_S = 3.0
"""Speech below which one voice is taken for granted: vectors of less are too unlike to tell two voices by."""

SCREENED_SHARE = 0.5
"""Least share of the speech in the windows of a screen for its word to count: many short turns give it few or none. Of
308 recordings of one voice of 3 s or more (read, spelled, telephone), none had less than 0.66."""


@dataclass(frozen=True, slots=True)
class HeardTrack:
    """Who speaks when in one track.

    Attributes
    ----------
    turns
        By rising start, disjoint; voices are numbered within the recording. Empty where nobody speaks.
    """

    track: int
    turns: tuple[VoiceTurn, ...]

    @property
    def voices(self) -> set[int]:
        """Who is heard in it."""
        return {turn.voice for turn in self.turns}


@dataclass
class _Track:
    """One track while it is listened to; voices are numbered within it."""

    regions: list[Region]
    stream: SpeechStream | None = None
    """What found them; None where somebody marked them."""
    turns: list[VoiceTurn] = field(default_factory=list)
    several: bool = False
    """Whether there may be several voices."""
    suspicion: Suspicion = field(default_factory=Suspicion)
    """Where."""
    least_voices: int | None = None
    """How many voices there are for certain, where a closer look has told."""
    is_marked: bool = False
    """Whether somebody marked who speaks when."""


class Hearing:
    """Who speaks when in a recording, while it is found out.

    At first every track is taken for one voice. Where there may be several, utterances are laid and embedded all the
    same, and windows inside them tell whether that was right: for most recordings it was, and they are done.

    Parameters
    ----------
    tracks
        Their speech.
    listening
        How voices are told apart.
    """

    def __init__(self, tracks: Sequence[_Track], listening: Listening) -> None:
        self._tracks = tracks
        self._listening = listening
        self._wanted = listening.speakers if isinstance(listening.speakers, int) else None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be found out."""
        return not any(track.several for track in self._tracks)

    @property
    def is_in_doubt(self) -> bool:
        """Whether `judge` may find that one voice is all there is."""
        return self._wanted is None and not self.is_settled

    @property
    def is_as_supposed(self) -> bool:
        """Whether no track is known to hold several voices."""
        return all(len({turn.voice for turn in track.turns}) <= 1 for track in self._tracks)

    @property
    def tracks(self) -> list[HeardTrack]:
        """Who speaks when, as far as it is known, with a little of what sounds around: utterances are laid over it."""
        return _numbered([track.turns for track in self._tracks], self._listening.speakers)

    def told(self, take: Take) -> list[HeardTrack]:
        """Tell who speaks when: turns begin and end where speech itself does, and voices change where they sound so.

        Where one voice takes over from another within speech, the recording is read once more. Only where `listen` was
        told that edges will be asked for.
        """
        finders = [ChangeFinder([] if track.is_marked else track.turns) for track in self._tracks]
        wanted = [Stretch(number, *one) for number, finder in enumerate(finders) for one in finder.stretches]
        for piece in cut_stretches(take.blocks(), wanted) if wanted else ():
            finders[piece.track].hear(Region(piece.start_s, piece.end_s), piece.waveform)
        turns = []
        for track, finder in zip(self._tracks, finders, strict=True):
            own = track.turns if track.is_marked else finder.turns()
            turns.append(own if track.stream is None else _within(own, track.stream.spoken()))
        return _numbered(turns, self._listening.speakers)

    def windows(self, track: int, utterance: PlacedUtterance) -> list[Region]:
        """Return the stretches of an utterance whose vectors `judge` wants to see."""
        if not (self.is_in_doubt and self._tracks[track].several):
            return []
        return self._listening.screen.windows(utterance.speech)

    def judge(self, seen: Mapping[int, SeenWindows], encoder_id: EncoderId) -> None:
        """Settle the tracks whose windows are at first sight all of one voice.

        Parameters
        ----------
        seen
            By track, what was seen of its utterances.
        """
        for number, track in enumerate(self._tracks):
            if not (track.several and seen.get(number)):
                continue
            windows, vectors = seen[number].in_order()
            if speech_s(bridged(windows, 0.0)) >= SCREENED_SHARE * speech_s(track.regions):
                suspicion = self._listening.screen.suspect(windows, vectors, encoder_id)
                track.several = suspicion is not None
                track.suspicion = suspicion or Suspicion()

    def tell_apart(self, take: Take, encoder: WindowEncoder) -> None:
        """Find the voices of the tracks that are not settled; the recording is read once or twice more."""
        self._look_closer(take, encoder)
        diarizer = self._listening.diarizer.for_encoder(encoder.id)
        windows = [diarizer.windows(track.regions) if track.several else [] for track in self._tracks]
        for track, (embedded, vectors) in zip(self._tracks, embed_windows(take, windows, encoder), strict=True):
            if embedded:
                track.turns = diarizer.turns(track.regions, embedded, vectors, speakers=self._wanted)
                if self._wanted is None and len({turn.voice for turn in track.turns}) < (track.least_voices or 1):
                    track.turns = diarizer.turns(track.regions, embedded, vectors, speakers=track.least_voices)
            track.several = False

    def _look_closer(self, take: Take, encoder: WindowEncoder) -> None:
        """Settle the tracks in which the suspected stretches are of one voice after all; note where they are of two."""
        groups = [[side for pair in track.suspicion.pairs for side in pair] for track in self._tracks]
        places = [
            Stretch(number, *run) for number, own in enumerate(groups) for side in own for run in side if len(own)
        ]
        if not places:
            return
        cut = {
            (piece.track, piece.start_s, piece.end_s): piece.waveform for piece in cut_stretches(take.blocks(), places)
        }
        for number, (track, own) in enumerate(zip(self._tracks, groups, strict=True)):
            sides = [[cut[number, *run] for run in side if (number, *run) in cut] for side in own]
            if own and all(sum(map(len, side)) >= encoder.min_samples for side in sides):
                vectors = encoder.embed([np.concatenate(side) for side in sides])
                pairs = vectors.reshape(-1, 2, vectors.shape[1])
                track.least_voices = self._listening.screen.least_voices(pairs, encoder.id)
                track.several = track.least_voices != 1


def listen(
    take: Take,
    listening: Listening,
    *,
    name: str,
    edges: bool = True,
    read: Callable[[Take], None] | None = None,
) -> Hearing:
    """Find the speech in each track of a recording, which is read for the first time.

    Parameters
    ----------
    name
        What messages call the recording; by its stem, marked speech is found.
    edges
        Whether `Hearing.told` will be asked: utterances are laid without.
    read
        Is told when the recording is read, before the last of its speech is found.

    Raises
    ------
    NoSpeech
        If nobody speaks in any track.
    NotFound
        If speech was marked, and none of a recording of this name.
    InvalidAudio
        If the recording cannot be decoded.
    """
    marked = _marked(listening, name)
    tracks = _tracks(take, listening, marked, edges, read)
    if not any(track.regions for track in tracks):
        error = NoSpeech(
            f"{name}: nobody speaks in its {take.duration_s:.3g} s; if somebody does, have all that sounds taken for "
            f"speech: VOXDEX_SPEECH__DETECTOR=off, or --speech off where a command has it{beside(take.facts.info)}"
        )
        error.needed_s = 0.1
        raise error
    named = overlap_free_turns(marked) if marked and len({turn.speaker for turn in marked}) > 1 else []
    if named and listening.speakers == "auto":
        _take_marked_voices(tracks, named)
        return Hearing(tracks, listening)
    known = isinstance(listening.speakers, int)
    for track in tracks:
        track.turns = [VoiceTurn(0, region.start_s, region.end_s) for region in track.regions]
        enough = speech_s(track.regions) >= LEAST_SEVERAL_S
        track.several = bool(track.regions) and (known or (listening.speakers == "auto" and enough))
    return Hearing(tracks, listening)


def hear_tracks(
    take: Take, listening: Listening, encoder: UtteranceEncoder, *, name: str, utterance_s: float
) -> list[HeardTrack]:
    """Find who speaks when in each track of a recording.

    Parameters
    ----------
    take
        Read here for the first time, and again where several voices may be in it.
    encoder
        Embeds utterances and windows, where voices are to be told apart.
    name
        What messages call the recording; by its stem, marked speech is found.
    utterance_s
        Most seconds of an utterance.

    Raises
    ------
    NoSpeech, NotFound, InvalidAudio
        As `listen` does.
    """
    hearing = listen(take, listening, name=name)
    if hearing.is_in_doubt:
        hearing.judge(_seen(take, hearing, encoder, utterance_s), encoder.id)
    if not hearing.is_settled:
        hearing.tell_apart(take, encoder)
    return hearing.told(take)


def _seen(take: Take, hearing: Hearing, encoder: UtteranceEncoder, utterance_s: float) -> dict[int, SeenWindows]:
    placed = place_tracks(hearing.tracks, take, utterance_s=utterance_s, min_samples=encoder.min_samples)
    seen: dict[int, SeenWindows] = {}
    utterances = cut_stretches(take.blocks(), list(placed))
    while some := list(itertools.islice(utterances, UTTERANCES_AT_ONCE)):
        windows = [
            hearing.windows(audio.track, placed[Stretch(audio.track, audio.start_s, audio.end_s)]) for audio in some
        ]
        spans = [spans_of(own, audio) for own, audio in zip(windows, some, strict=True)]
        _, vectors = encoder.embed_with_windows([audio.waveform for audio in some], spans)
        for audio, own, rows in zip(some, windows, vectors, strict=True):
            seen.setdefault(audio.track, SeenWindows()).add(own, rows)
    return seen


def place_tracks(
    tracks: Sequence[HeardTrack], take: Take, *, utterance_s: float, min_samples: int
) -> dict[Stretch, PlacedUtterance]:
    """Lay utterances over the turns of all tracks of a recording that was read.

    Raises
    ------
    NotEnoughSpeech
        If none of them has `min_samples`, which is what the encoder needs.
    """
    placed = {
        Stretch(track.track, utterance.start_s, utterance.end_s): utterance
        for track in tracks
        for utterance in place_utterances(track.turns, duration_s=take.duration_s, utterance_s=utterance_s)
        if utterance.samples >= min_samples
    }
    if not placed:
        spoken_s = sum(turn.end_s - turn.start_s for track in tracks for turn in track.turns)
        needed_s = min_samples / SAMPLE_RATE_HZ
        error = NotEnoughSpeech(
            f"{take.facts.info.name}: {spoken_s:.2g} s of speech in {take.duration_s:.3g} s, and the encoder needs "
            f"{needed_s:g} s of one voice: give a longer recording{beside(take.facts.info)}"
        )
        error.speech_s, error.needed_s = spoken_s, needed_s
        raise error
    return placed


def _marked(listening: Listening, name: str) -> Sequence[RttmTurn] | None:
    if listening.given is None:
        return None
    stem = PurePosixPath(name).stem
    if stem not in listening.given:
        raise NotFound(f"{name}: no speech is marked under the name {stem}; mark it, or listen for speech")
    return listening.given[stem]


def _tracks(
    take: Take,
    listening: Listening,
    marked: Sequence[RttmTurn] | None,
    edges: bool,
    read: Callable[[Take], None] | None,
) -> list[_Track]:
    """Read the recording once, and return the speech of each track."""
    tracks: list[_Track] = []
    for block in take.blocks():
        if not tracks:
            tracks = [_Track([], None if marked is not None else listening.detector.stream(edges=edges)) for _ in block]
        with counting_stage("speech"):
            for track, samples in zip(tracks, block, strict=True):
                if track.stream is not None:
                    track.regions += track.stream.push(samples)
    if read is not None:
        read(take)
    with counting_stage("speech"):
        for track in tracks:
            if track.stream is not None:
                track.regions += track.stream.finish()
    if marked is not None:
        inside = [
            Region(region.start_s, min(region.end_s, take.duration_s))
            for region in turn_regions(marked)
            if region.start_s < take.duration_s
        ]
        for track in tracks:
            track.regions = list(inside)
    return tracks


def _take_marked_voices(tracks: Sequence[_Track], named: Sequence[RttmTurn]) -> None:
    for track in tracks:
        end_s = track.regions[-1].end_s if track.regions else 0.0
        numbers: dict[str, int] = {}
        track.is_marked = True
        track.turns = [
            VoiceTurn(numbers.setdefault(turn.speaker, len(numbers)), turn.start_s, min(turn.end_s, end_s))
            for turn in named
            if turn.start_s < end_s
        ]


def _within(turns: Sequence[VoiceTurn], spoken: Sequence[Region]) -> list[VoiceTurn]:
    """Move the ends of turns to where somebody speaks; a voice that nothing would be left of keeps its own."""
    cut: list[VoiceTurn] = []
    place = 0
    ends = [-math.inf, *(turn.end_s for turn in turns)]
    starts = [*(turn.start_s for turn in turns), math.inf]
    for turn, before_s, after_s in zip(turns, ends, starts[1:], strict=False):
        low_s = turn.start_s - min(REACH_S, (turn.start_s - before_s) / 2)
        high_s = turn.end_s + min(REACH_S, (after_s - turn.end_s) / 2)
        while place < len(spoken) and spoken[place].end_s <= low_s:
            place += 1
        at = place  # The next turn may share the last of these stretches.
        while at < len(spoken) and spoken[at].start_s < high_s:
            start_s, end_s = spoken[at]
            cut.append(turn._replace(start_s=max(low_s, start_s), end_s=min(high_s, end_s)))
            at += 1
    heard = {turn.voice for turn in cut}
    return sorted([*cut, *(turn for turn in turns if turn.voice not in heard)], key=lambda turn: turn.start_s)


def _numbered(tracks: Sequence[Sequence[VoiceTurn]], speakers: Speakers) -> list[HeardTrack]:
    """Count voices on from track to track, unless one voice was said to be in all of them."""
    heard: list[HeardTrack] = []
    first = 0
    for number, turns in enumerate(tracks):
        heard.append(HeardTrack(number, tuple(turn._replace(voice=turn.voice + first) for turn in turns)))
        if speakers != "one":
            first += len({turn.voice for turn in turns})
    return heard
