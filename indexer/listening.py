"""How a recording is listened to: what finds speech and tells voices apart, and what somebody says of both beforehand.

`indexer` knows these by their protocols alone; `search.listening` puts them together.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region, SpeechDetector
from indexer.audio.rttm import RttmTurn
from indexer.errors import InvalidRequest
from indexer.settings import SPEAKERS_PATTERN
from indexer.types import EncoderId, Vectors

Speakers = Literal["auto", "one", "channels"] | int
"""Voices of a recording: found, one whatever is heard, one in each channel, or so many."""


def parse_speakers(text: str) -> Speakers:
    """Read `auto`, `one`, `channels`, or a number from 1 to 20.

    Raises
    ------
    InvalidRequest
        If the text is none of these.
    """
    word = text.strip().lower()
    if re.fullmatch(SPEAKERS_PATTERN, word) is None:
        raise InvalidRequest(f"speakers = {text!r}: give auto, one, channels, or how many speak: 1 to 20")
    if word.isdigit():
        return int(word) if word != "1" else "one"
    return cast(Literal["auto", "one", "channels"], word)


class VoiceTurn(NamedTuple):
    """A stretch in which one voice speaks, in seconds from the beginning of its track.

    Voices are numbered from 0 in the order in which they are first heard.
    """

    voice: int
    start_s: float
    end_s: float


class Diarizer(Protocol):
    """Tells the voices of one track apart; safe to call from several threads."""

    def for_encoder(self, encoder_id: EncoderId) -> "Diarizer":
        """Return the diarizer of this encoder's vectors; encoders differ in how alike two voices are."""

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        """Return the stretches of these regions whose vectors it wants to see."""

    def turns(
        self, regions: Sequence[Region], windows: Sequence[Region], vectors: Vectors, *, speakers: int | None
    ) -> list[VoiceTurn]:
        """Return who speaks when, by rising start; disjoint.

        Parameters
        ----------
        windows, vectors
            What `windows` asked for, and (W, D) unit vectors of it, in its order.
        speakers
            How many voices there are; None where that is to be found.
        """


class Suspicion(NamedTuple):
    """There may be several voices.

    Attributes
    ----------
    pairs
        Stretches of what may be one voice, and of what may be another: each group embedded by itself tells. Without
        any, only a diarizer can.
    """

    pairs: tuple[tuple[tuple[Region, ...], tuple[Region, ...]], ...] = ()


class Screen(Protocol):
    """Tells cheaply, and only where it is sure, that one voice is all there is."""

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        """Return the stretches of these regions whose vectors it wants to see, by rising start."""

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        """Return None where (W, D) unit vectors of those windows are all of one voice, and else what may not be."""

    def least_voices(self, vectors: Vectors, encoder_id: EncoderId) -> int | None:
        """Tell from (P, 2, D) unit vectors of the suspected pairs how many voices there are at least.

        1: all is one voice after all; None: only a diarizer can tell.
        """


class UnlikeStretch(NamedTuple):
    """A stretch of a recording that was taken for one voice, and may be somebody else's.

    Attributes
    ----------
    start_s, end_s
        From the beginning of the recording.
    cosine
        With the rest of its speech.
    """

    start_s: float
    end_s: float
    cosine: float


class Doubt(NamedTuple):
    """One voice may not be all there is, though nothing says so for sure.

    Attributes
    ----------
    windows
        Stretches by rising start; each embedded by itself tells more.
    among
        Out of how many windows these were chosen.
    """

    windows: tuple[Region, ...]
    among: int


class SecondVoiceFinder(Protocol):
    """Finds what may be a second voice where nothing says so for sure; only for somebody to listen to."""

    def doubt(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Doubt | None:
        """Return what is to be looked at more closely, from what a `Screen` was shown; None where there is no doubt."""

    def tells_best(self, encoder_ids: Sequence[EncoderId]) -> EncoderId:
        """Return of some encoders that of whose windows more is to be expected."""

    def find(self, doubt: Doubt, vectors: Vectors, encoder_id: EncoderId) -> UnlikeStretch | None:
        """Return the stretch that is least like the rest, from the (W, D) unit vectors of the windows of a doubt.

        None where all is like enough.
        """


def speech_by_voice(heard: Iterable[tuple[int | None, float]]) -> dict[int, float]:
    """Add up the seconds of each voice, most first; what is nobody's is left out."""
    seconds: dict[int, float] = {}
    for voice, speech_s in heard:
        if voice is not None:
            seconds[voice] = seconds.get(voice, 0.0) + speech_s
    return dict(sorted(seconds.items(), key=lambda voice: (-voice[1], voice[0])))


@dataclass(frozen=True)
class Listening:
    """What is done to a recording before its utterances are cut.

    Attributes
    ----------
    detector
        Finds speech.
    diarizer
        Tells voices apart.
    screen
        Spares recordings of one voice the diarizer.
    speakers
        How many voices there are.
    given
        Speech that somebody marked, by the name of the recording without folder and extension, as
        `indexer.audio.speech_files` reads it. It takes the place of the detector; None: nothing was marked.
    second_voice
        Looks again at what is enrolled as one voice; None: nothing does.
    """

    detector: SpeechDetector
    diarizer: Diarizer
    screen: Screen
    speakers: Speakers = "auto"
    given: Mapping[str, Sequence[RttmTurn]] | None = None
    second_voice: SecondVoiceFinder | None = None

    def channels(self, asked: ChannelPolicy) -> ChannelPolicy:
        """Return which channels are heard: each, where each is somebody's own, and otherwise those that are asked for.

        Raises
        ------
        InvalidRequest
            If a voice a channel and a mix of channels are asked for at once.
        """
        if self.speakers != "channels" or asked.kind == "each":
            return asked
        if asked.kind == "one":
            raise InvalidRequest(
                f"speakers = channels takes each channel for one voice, and channels = {asked} was asked for: leave "
                "one of the two out"
            )
        return ChannelPolicy.parse("each")
