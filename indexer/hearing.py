"""Who speaks when in a recording: speech is found while it is decoded, voices by vectors that whoever asks has made.

A short recording stays in memory for that; a long one is decoded again, so that no recording needs more memory than
another.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.audio.decode import AudioInfo, AudioSource, ChannelPolicy, open_audio
from indexer.audio.meter import Levels
from indexer.audio.regions import Region, SpeechStream, speech_s
from indexer.audio.rttm import RttmTurn, overlap_free_turns
from indexer.audio.segmentation import Stretch, cut_stretches
from indexer.audio.speech import SoundDetector, make_detector
from indexer.audio.speech_files import read_speech_files, turn_regions
from indexer.audio.utterances import PlacedUtterance, place_utterances
from indexer.errors import InvalidRequest, NoSpeech, NotEnoughSpeech, NotFound
from indexer.listening import Listening, Speakers, VoiceTurn, parse_speakers
from indexer.settings import AudioSettings, SpeechSettings
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Vectors, Waveform

Blocks = Iterator[NDArray[np.float32]]
"""(tracks, n) float32 samples of a recording, one after the other."""


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


KEPT_S = 1200.0
"""Most audio of a recording, all tracks together, that stays in memory: 77 MB."""

WINDOWS_AT_ONCE = 40
"""Windows that are embedded together: two minutes of audio."""

LEAST_SEVERAL_S = 3.0
"""Speech below which one voice is taken for granted: vectors of less are too unlike to tell two voices by."""


SCREENED_SHARE = 0.5
"""Least share of the speech in the windows of a screen for its word to count: many short turns give it few or none. Of
308 recordings of one voice of 3 s or more (read, spelled, telephone), none had less than 0.66."""


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """What is known of a recording that was read to its end.

    Attributes
    ----------
    duration_s
        Seconds that could be decoded.
    issues
        Why it was read in part only; empty when all of it was.
    """

    info: AudioInfo
    levels: Levels
    duration_s: float
    issues: tuple[str, ...]


def _as_they_are(blocks: Blocks) -> Blocks:
    return blocks


class Take:
    """A recording that is read more than once.

    Parameters
    ----------
    watched
        What every reading goes through: whoever counts, or stops, does it there.

    Attributes
    ----------
    info
        What the recording is, once it could be opened.
    """

    def __init__(
        self,
        source: AudioSource,
        *,
        channels: ChannelPolicy,
        limits: AudioSettings,
        name: str | None = None,
        watched: Callable[[Blocks], Blocks] = _as_they_are,
    ) -> None:
        self._source = source
        self._channels = channels
        self._limits = limits
        self._name = name
        self._watched = watched
        self._kept: list[NDArray[np.float32]] | None = None
        self._facts: RecordingFacts | None = None
        self.info: AudioInfo | None = None

    @property
    def facts(self) -> RecordingFacts:
        """What is known of it; only after the first reading."""
        assert self._facts is not None
        return self._facts

    @property
    def duration_s(self) -> float:
        """How long it is; only after the first reading."""
        return self.facts.duration_s

    def blocks(self) -> Blocks:
        """Read the recording from its beginning; the first time must go to the end."""
        if self._kept is not None:
            yield from self._watched(iter(self._kept))
            return
        # A stream is read once; its file is as long as whoever sent it was allowed to.
        most = KEPT_S * SAMPLE_RATE_HZ if isinstance(self._source, Path | bytes) else np.inf
        kept: list[NDArray[np.float32]] | None = [] if self._facts is None else None
        held = 0
        with open_audio(self._source, channels=self._channels, limits=self._limits, name=self._name) as reader:
            self.info = reader.info
            for block in self._watched(reader.blocks()):
                held += block.size
                if kept is not None:
                    kept = [*kept, block] if held <= most else None
                yield block
            self._facts = RecordingFacts(reader.info, reader.levels, reader.decoded_s, reader.issues)
        self._kept = kept


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
    turns: list[VoiceTurn] = field(default_factory=list)
    several: bool = False
    """Whether there may be several voices."""


def listening_as_asked(
    listening: Listening, settings: SpeechSettings, *, speakers: str | None = None, speech: str | None = None
) -> Listening:
    """Return how recordings are listened to where somebody asks for it to be otherwise than set.

    Parameters
    ----------
    speakers
        As `parse_speakers` reads it; None: as it is.
    speech
        `auto` finds speech, `off` takes all that sounds for it, `given:PATH` reads where it is from a file or folder;
        None: as it is.

    Raises
    ------
    InvalidRequest
        If a word is none of these.
    NotFound, CorruptArtifact, UnsupportedFormat
        If marked speech cannot be read.
    """
    if speakers is not None:
        listening = replace(listening, speakers=parse_speakers(speakers))
    if speech is None:
        return listening
    kind, _, path = speech.partition(":")
    if kind == "given" and path:
        return replace(listening, given=read_speech_files(Path(path)))
    if speech == "off":
        return replace(listening, detector=SoundDetector())
    if speech == "auto":
        if not isinstance(listening.detector, SoundDetector):
            return listening
        return replace(listening, detector=make_detector(settings.model_copy(update={"detector": "silero"})))
    raise InvalidRequest(f"speech = {speech!r}: give auto, off, or given:PATH with a file or folder of marked speech")


def hear_tracks(take: Take, listening: Listening, encoder: WindowEncoder, *, name: str) -> list[HeardTrack]:
    """Find who speaks when in each track of a recording.

    Parameters
    ----------
    take
        Read here for the first time, and again where several voices may be in it.
    encoder
        Embeds windows, where voices are to be told apart.
    name
        What messages call the recording; by its stem, marked speech is found.

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
    tracks = [_Track(regions) for regions in _regions(take, listening, marked)]
    if not any(track.regions for track in tracks):
        error = NoSpeech(
            f"{name}: nobody speaks in its {take.duration_s:.3g} s; if somebody does, have all that sounds taken for "
            "speech: VOXDEX_SPEECH__DETECTOR=off, or --speech off where a command has it"
        )
        error.needed_s = 0.1
        raise error
    named = overlap_free_turns(marked) if marked and len({turn.speaker for turn in marked}) > 1 else []
    if named and listening.speakers == "auto":
        _take_marked_voices(tracks, named)
    else:
        _tell_voices(take, tracks, listening, encoder)
    return _numbered(tracks, listening.speakers)


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
            f"{needed_s:g} s of one voice: give a longer recording"
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


def _regions(take: Take, listening: Listening, marked: Sequence[RttmTurn] | None) -> list[list[Region]]:
    """Read the recording once, and return the speech of each track."""
    streams: list[SpeechStream] = []
    found: list[list[Region]] = []
    for block in take.blocks():
        if not found:
            found = [[] for _ in block]
            streams = [] if marked is not None else [listening.detector.stream() for _ in block]
        for regions, stream, samples in zip(found, streams, block, strict=False):
            regions += stream.push(samples)
    for regions, stream in zip(found, streams, strict=False):
        regions += stream.finish()
    if marked is not None:
        inside = [
            Region(region.start_s, min(region.end_s, take.duration_s))
            for region in turn_regions(marked)
            if region.start_s < take.duration_s
        ]
        found = [list(inside) for _ in found]
    return found


def _take_marked_voices(tracks: Sequence[_Track], named: Sequence[RttmTurn]) -> None:
    for track in tracks:
        end_s = track.regions[-1].end_s if track.regions else 0.0
        numbers: dict[str, int] = {}
        track.turns = [
            VoiceTurn(numbers.setdefault(turn.speaker, len(numbers)), turn.start_s, min(turn.end_s, end_s))
            for turn in named
            if turn.start_s < end_s
        ]


def _tell_voices(take: Take, tracks: Sequence[_Track], listening: Listening, encoder: WindowEncoder) -> None:
    wanted = listening.speakers if isinstance(listening.speakers, int) else None
    for track in tracks:
        track.turns = [VoiceTurn(0, region.start_s, region.end_s) for region in track.regions]
        enough = speech_s(track.regions) >= LEAST_SEVERAL_S
        track.several = bool(track.regions) and (wanted is not None or (listening.speakers == "auto" and enough))
    if wanted is None:
        # Spares recordings of one voice the diarizer, which embeds everything several times over.
        windows = [listening.screen.windows(track.regions) if track.several else [] for track in tracks]
        for track, (screened, vectors) in zip(tracks, _embedded(take, windows, encoder), strict=True):
            enough = speech_s(screened) >= SCREENED_SHARE * speech_s(track.regions)
            track.several = track.several and not (enough and listening.screen.is_one_voice(vectors, encoder.id))
    diarizer = listening.diarizer.for_encoder(encoder.id)
    windows = [diarizer.windows(track.regions) if track.several else [] for track in tracks]
    for track, (embedded, vectors) in zip(tracks, _embedded(take, windows, encoder), strict=True):
        if embedded:
            track.turns = diarizer.turns(track.regions, embedded, vectors, speakers=wanted)


def _embedded(
    take: Take, windows: Sequence[Sequence[Region]], encoder: WindowEncoder
) -> list[tuple[list[Region], Vectors]]:
    """Embed windows of each track, reading the recording once; those that cannot be embedded are left out."""
    wanted = {Stretch(track, *window) for track, own in enumerate(windows) for window in own}
    found: dict[Stretch, NDArray[np.float32]] = {}
    long_enough = (
        piece
        for piece in (cut_stretches(take.blocks(), list(wanted)) if wanted else ())
        if len(piece.waveform) >= encoder.min_samples
    )
    while some := list(itertools.islice(long_enough, WINDOWS_AT_ONCE)):
        places = [Stretch(piece.track, piece.start_s, piece.end_s) for piece in some]
        found.update(zip(places, encoder.embed([piece.waveform for piece in some]), strict=True))
    embedded = []
    for track, own in enumerate(windows):
        kept = [window for window in own if Stretch(track, *window) in found]
        rows = [found[Stretch(track, *window)] for window in kept]
        embedded.append((kept, np.array(rows, dtype=np.float32)))
    return embedded


def _numbered(tracks: Sequence[_Track], speakers: Speakers) -> list[HeardTrack]:
    """Count voices on from track to track, unless one voice was said to be in all of them."""
    heard: list[HeardTrack] = []
    first = 0
    for number, track in enumerate(tracks):
        heard.append(HeardTrack(number, tuple(turn._replace(voice=turn.voice + first) for turn in track.turns)))
        if speakers != "one":
            first += len({turn.voice for turn in track.turns})
    return heard
