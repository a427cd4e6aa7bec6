"""The voices of a request: heard under the limits of a probe, and whether there is enough of each to decide.

A recording that decodes and holds too little speech is an answer ("not enough speech: this much, that much is needed")
and not an error; a decision about it would be a guess.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from indexer.audio.decode import AudioSource
from indexer.audio.gates import SpeechGate, needed_of_probe_s
from indexer.audio.quality import Quality
from indexer.errors import TooLittleSpeech, one_line
from indexer.listening import Listening, parse_speakers
from indexer.probes import HeardVoice
from indexer.settings import SpeechSettings
from indexer.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from api.comparison import Comparison


@dataclass(frozen=True, slots=True)
class HearingAsked:
    """How a request has its recording listened to; None: as the settings say.

    Attributes
    ----------
    channels
        Channel policy.
    speakers
        auto, one, channels, or how many voices there are.
    allow_poor
        Whether a decision is wanted however little or noisy the speech is, as long as the encoder embeds it.
    """

    channels: str | None = None
    speakers: str | None = None
    allow_poor: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a recording.

    Attributes
    ----------
    voices
        Whoever speaks most comes first; empty where there was not enough speech of anybody.
    refused
        For each voice why no decision is made about it; None where one is.
    speech_s, needed_s
        Seconds of speech of the first voice, or of all that sounds where there is none; the fewest for a decision.
    issues
        Why the recording was read in part only, which of several audio tracks was, or why no decision is made about
        its first voice.
    """

    voices: tuple[HeardVoice, ...]
    refused: tuple[str | None, ...]
    speech_s: float
    needed_s: float
    issues: tuple[str, ...]

    @property
    def dominant(self) -> HeardVoice | None:
        """The voice that an answer is about; None where no decision is made about it."""
        return self.voices[0] if self.voices and self.refused[0] is None else None

    @property
    def quality(self) -> Quality | None:
        """How good the first voice was heard; None where nobody was."""
        return self.voices[0].quality if self.voices else None


def hear(
    comparison: "Comparison",
    recording: AudioSource,
    *,
    name: str,
    asked: HearingAsked,
    speech: SpeechSettings,
    request: bool = True,
    listening: Listening | None = None,
) -> Heard:
    """Embed the voices of a recording, and judge each.

    Parameters
    ----------
    name
        What messages call the recording.
    request
        Whether the limits of requests hold, rather than those of recordings.
    listening
        How to listen, unless `asked` says how many speak; None: as the settings say.

    Raises
    ------
    InvalidAudio
        If the recording cannot be decoded, or exceeds a limit.
    InvalidRequest
        If a policy is unknown, or two contradict each other.
    """
    listening = listening or comparison.listening()
    if asked.speakers is not None:
        listening = replace(listening, speakers=parse_speakers(asked.speakers))
    needed_s, setting = comparison.encoders.min_samples / SAMPLE_RATE_HZ, "what the encoder takes"
    if not asked.allow_poor and speech.min_identify_s > needed_s:
        needed_s, setting = speech.min_identify_s, "VOXDEX_SPEECH__MIN_IDENTIFY_S"
    gate = None if asked.allow_poor else SpeechGate(needed_s, setting, speech.min_snr_db)
    try:
        voices = comparison.hear(recording, channels=asked.channels, listening=listening, name=name, request=request)
    except TooLittleSpeech as error:
        return Heard((), (), error.speech_s, max(needed_s, error.needed_s or 0.0), (one_line(error),))
    asks = gate is not None and speech.min_identify_s > 0.0
    needs = [_needed_s(voice, needed_s) if asks else needed_s for voice in voices]
    refused = tuple(_refusal(gate, voice, needs_s) for voice, needs_s in zip(voices, needs, strict=True))
    remarks = voices[0].recording.remarks
    issues = remarks if refused[0] is None else (*remarks, refused[0])
    return Heard(tuple(voices), refused, voices[0].quality.net_speech_s, needs[0], issues)


def _needed_s(voice: HeardVoice, least_s: float) -> float:
    quality = voice.quality
    return needed_of_probe_s(
        least_s,
        net_speech_s=quality.net_speech_s,
        duration_s=voice.recording.duration_s,
        snr_db=quality.snr_db,
    )


def _refusal(gate: SpeechGate | None, voice: HeardVoice, needed_s: float) -> str | None:
    refused = gate.refusal(voice.quality, voice.name, needed_s) if gate is not None else None
    return f"{one_line(refused)}, or allow poor ones" if refused is not None else None
