"""What encoders can answer without a gallery."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from api.deciding import NOTHING, Asked, Deciding
from api.probe_warnings import pair_warnings
from indexer.audio.decode import AudioSource, ChannelPolicy
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.embedding.registry import EncoderSpec
from indexer.listening import Listening
from indexer.probes import HeardVoice, Probe, embed_probes, hear_voices
from indexer.settings import Settings
from indexer.types import SpeakerId
from search.identification import ProbeQuality, ScoredSpeaker
from search.operating_point import OperatingPoint, verification_point
from search.scoring import speaker_score
from search.verification import Verification, verify


@dataclass(frozen=True, slots=True)
class BestEnrollment:
    """An enrolled stretch that a probe resembles, for a person to listen to; `score` is the cosine with it."""

    utterance_id: int
    recording_id: int
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True, slots=True)
class VerifiedVoice:
    """Whether one voice is whom it claims to be; attributes as in `api.voices.IdentifiedVoice`."""

    answer: Verification
    best_enrollments: list[BestEnrollment]
    warnings: tuple[str, ...]


class Comparison:
    """Embeds recordings, hears the voices in them, and compares two of these."""

    def __init__(
        self, encoders: EncoderSet, spec: EncoderSpec, settings: Settings, listening: Callable[[], Listening]
    ) -> None:
        self.encoders = encoders
        self._spec = spec
        self._settings = settings
        self._listening = listening
        self._deciding = Deciding(settings, spec, encoders.ids)

    @property
    def encoder(self) -> Encoder:
        """The first encoder, whose cosines are the scores."""
        return self.encoders.first

    def probe(self, file: Path, *, raw: bool = False) -> list[Probe]:
        """Embed a recording whole, once for each track of the channel policy; see `embed_probes` for the errors."""
        channels = ChannelPolicy.parse(self._settings.audio.channels)
        return embed_probes(self.encoder, file, channels=channels, limits=self._settings.audio, raw=raw)

    def hear(
        self,
        file: AudioSource,
        *,
        channels: str | None = None,
        listening: Listening | None = None,
        name: str | None = None,
        request: bool = False,
    ) -> list[HeardVoice]:
        """Embed each voice of a recording; see `hear_voices` for the errors.

        Parameters
        ----------
        channels, listening
            None: as the settings say.
        request
            Whether the limits of requests hold, rather than those of recordings.
        """
        return hear_voices(
            self.encoders,
            file,
            listening or self._listening(),
            channels=ChannelPolicy.parse(channels or self._settings.audio.channels),
            limits=self._settings.probe_audio if request else self._settings.audio,
            name=name,
        )

    def listening(self) -> Listening:
        """Return how recordings are listened to, unless a request says otherwise."""
        return self._listening()

    def compare(self, first: HeardVoice, second: HeardVoice, asked: Asked = NOTHING) -> VerifiedVoice:
        """Tell whether two voices are the same."""
        rules, notes = self._deciding.verification(asked)
        scores = [speaker_score(first.vectors[number], second.vectors[number]) for number in self.encoders.ids]
        quality = second.quality
        other = ScoredSpeaker(
            SpeakerId(0),
            second.name,
            scores[0],
            enrollments=1,
            speech_s=quality.net_speech_s,
            snr_db=quality.snr_db,
            telephone=quality.telephone,
            second_score=scores[1] if len(scores) > 1 else None,
        )
        answer = verify(other, quality=probe_quality(first), rules=rules)
        warned = (*notes, *pair_warnings(first, second))
        return VerifiedVoice(answer, [], warned)

    def verification_point(self, asked: Asked = NOTHING) -> OperatingPoint:
        """Operating point of a claim."""
        rules, _ = self._deciding.verification(asked)
        return verification_point(rules.calibration, rules.layers, encoder=rules.encoder)


def probe_quality(heard: HeardVoice) -> ProbeQuality:
    """Return what limits how well a voice that was heard can be told."""
    return ProbeQuality(heard.quality.net_speech_s, heard.quality.snr_db, heard.quality.telephone)
