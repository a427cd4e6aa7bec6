"""Who speaks when in a recording, as the command line and the service tell it."""

from dataclasses import dataclass
from pathlib import Path, PurePath

from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region, speech_s
from indexer.audio.rttm import RttmTurn
from indexer.embedding.encoder import Encoder
from indexer.hearing import Take, hear_tracks
from indexer.listening import Listening
from indexer.settings import AudioSettings


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A stretch of one voice.

    Attributes
    ----------
    voice
        "voice 1", "voice 2", ... in the order in which they are first heard.
    channel
        Channel number where channels were kept apart, else None.
    """

    voice: str
    channel: int | None
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SpokenVoice:
    """How much of a recording is one voice's."""

    voice: str
    channel: int | None
    speech_s: float
    turns: int


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
        Why the recording was read in part only; empty where all of it was.
    """

    name: str
    duration_s: float
    turns: tuple[SpokenTurn, ...]
    voices: tuple[SpokenVoice, ...]
    issues: tuple[str, ...]

    def as_rttm(self) -> list[RttmTurn]:
        """Return the turns under the recording's name without folder and extension."""
        stem = PurePath(self.name).stem
        return [RttmTurn(stem, turn.start_s, turn.end_s - turn.start_s, turn.voice) for turn in self.turns]


def diarize(
    encoder: Encoder, source: Path, listening: Listening, *, channels: ChannelPolicy, limits: AudioSettings, name: str
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
    tracks = hear_tracks(take, listening, encoder, name=name)
    turns = [
        SpokenTurn(
            f"voice {turn.voice + 1}",
            track.track if len(tracks) > 1 else None,
            round(turn.start_s, 3),
            round(turn.end_s, 3),
        )
        for track in tracks
        for turn in track.turns
    ]
    turns.sort(key=lambda turn: (turn.start_s, turn.end_s))
    by_voice: dict[tuple[str, int | None], list[Region]] = {}
    for turn in turns:
        by_voice.setdefault((turn.voice, turn.channel), []).append(Region(turn.start_s, turn.end_s))
    voices = [
        SpokenVoice(voice, channel, round(speech_s(own), 3), len(own)) for (voice, channel), own in by_voice.items()
    ]
    voices.sort(key=lambda one: -one.speech_s)
    return Conversation(name, take.duration_s, tuple(turns), tuple(voices), take.facts.issues)
