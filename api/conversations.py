"""Who speaks when in a recording, as the command line and the service tell it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region, bridged, speech_s
from indexer.audio.rttm import RttmTurn
from indexer.audio.sources import AudioSource
from indexer.embedding.encoder import Encoder
from indexer.errors import NotEnoughSpeech
from indexer.hearing import hear_tracks
from indexer.listening import Listening
from indexer.settings import AudioSettings, SpeechSettings
from indexer.takes import Take

if TYPE_CHECKING:
    from api.deciding import Asked
    from api.voices import Voices


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A stretch of one voice.

    Attributes
    ----------
    voice
        Number within the recording, from 0, by first appearance.
    channel
        Channel number where channels were kept apart, else None.
    """

    voice: int
    channel: int | None
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SpokenVoice:
    """How much of a recording is one voice's.

    Attributes
    ----------
    decision
        What `identify` says of it; None where no gallery was asked.
    speaker
        Who it is; None unless identified.
    """

    voice: int
    channel: int | None
    speech_s: float
    turns: int
    decision: str | None = None
    speaker: str | None = None

    @property
    def label(self) -> str:
        """Its speaker's name, or "voice 1", "voice 2", ..."""
        return self.speaker or f"voice {self.voice + 1}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Who speaks when in one recording.

    Attributes
    ----------
    turns
        By rising start; those of one channel are disjoint. Where two voices overlap in a channel, the one that is
        heard better has the time.
    voices
        Whoever speaks most comes first.
    issues
        Why the recording was read in part only, or which of several audio tracks was; empty where all of it was.
    """

    name: str
    duration_s: float
    turns: tuple[SpokenTurn, ...]
    voices: tuple[SpokenVoice, ...]
    issues: tuple[str, ...]

    @property
    def labels(self) -> dict[int, str]:
        """What each voice is called."""
        return {one.voice: one.label for one in self.voices}

    def as_rttm(self) -> list[RttmTurn]:
        """Return the turns under the recording's name without folder and extension."""
        stem, labels = PurePath(self.name).stem, self.labels
        return [RttmTurn(stem, turn.start_s, turn.end_s - turn.start_s, labels[turn.voice]) for turn in self.turns]


def diarize(
    encoder: Encoder,
    source: AudioSource,
    listening: Listening,
    *,
    channels: ChannelPolicy,
    limits: AudioSettings,
    name: str,
) -> Conversation:
    """Find who speaks when in a recording.

    Raises
    ------
    NotEnoughSpeech
        If nobody speaks in it.
    InvalidAudio
        If it cannot be used: unreadable, over a limit.
    NotFound
        If it does not exist, or speech was marked and none of this recording.
    """
    take = Take(source, channels=listening.channels(channels), limits=limits, name=name)
    tracks = hear_tracks(take, listening, encoder, name=name, utterance_s=limits.utterance_s)
    turns = (
        SpokenTurn(
            turn.voice,
            track.track if len(tracks) > 1 else None,
            round(turn.start_s, 3),
            round(turn.end_s, 3),
        )
        for track in tracks
        for turn in track.turns
    )
    return _conversation(name, take.duration_s, turns, take.facts.remarks)


def diarize_and_identify(
    voices: "Voices",
    source: AudioSource,
    listening: Listening,
    *,
    channels: str | None,
    name: str,
    speech: SpeechSettings,
    asked: "Asked",
    exclusive: bool = False,
) -> Conversation:
    """Find who speaks when in a recording, and who of a gallery each voice is.

    Voices are told apart under the gallery's first encoder. A voice that is too short to embed has no turns.

    Raises
    ------
    NotEnoughSpeech
        If no voice can be embedded.
    InvalidAudio, NotFound
        As in `diarize`, or if the gallery is gone.
    """
    from api.probing import HearingAsked, hear

    heard = hear(
        voices,
        source,
        name=name,
        asked=HearingAsked(channels),
        speech=speech,
        request=False,
        listening=listening,
    )
    if not heard.voices:
        raise NotEnoughSpeech(heard.issues[0])
    answers = voices.identify_each(heard, top_k=1, asked=asked, exclusive=exclusive, best_enrollments=0)
    said = {
        voice.voice: ("not_enough_speech", None) if answer is None else (answer.answer.outcome, answer.answer.speaker)
        for voice, answer in zip(heard.voices, answers, strict=True)
    }
    turns = (
        SpokenTurn(voice.voice, voice.channel, round(turn.start_s, 3), round(turn.end_s, 3))
        for voice in heard.voices
        for turn in voice.turns
    )
    facts = heard.voices[0].recording
    return _conversation(name, facts.duration_s, turns, facts.remarks, said.__getitem__)


def _conversation(
    name: str,
    duration_s: float,
    turns: Iterable[SpokenTurn],
    issues: tuple[str, ...],
    said: Callable[[int], tuple[str | None, str | None]] = lambda _: (None, None),
) -> Conversation:
    by_voice: dict[tuple[int, int | None], list[Region]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        by_voice.setdefault((turn.voice, turn.channel), []).append(Region(turn.start_s, turn.end_s))
    by_voice = {key: bridged(own, 0.0) for key, own in by_voice.items()}
    joined = [SpokenTurn(voice, channel, *region) for (voice, channel), own in by_voice.items() for region in own]
    voices = [
        SpokenVoice(voice, channel, round(speech_s(own), 3), len(own), *said(voice))
        for (voice, channel), own in by_voice.items()
    ]
    joined.sort(key=lambda turn: (turn.start_s, turn.end_s))
    voices.sort(key=lambda one: -one.speech_s)
    return Conversation(name, duration_s, tuple(joined), tuple(voices), issues)
