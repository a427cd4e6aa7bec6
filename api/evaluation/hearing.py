"""What is heard of a recording: the vectors of its voice and how much it says, as the product hears it, or plainly."""

import ast
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import indexer
from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import AudioSource
from indexer.audio.speech import make_detector
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import InvalidAudio
from indexer.probes import embed_probes, hear_voices
from indexer.settings import Settings
from indexer.types import EncoderId
from search.listening import make_listening

PLAIN_SOURCES = (
    "indexer/audio/channels.py",
    "indexer/audio/completeness.py",
    "indexer/audio/decode.py",
    "indexer/audio/endings.py",
    "indexer/audio/headers.py",
    "indexer/audio/levels.py",
    "indexer/audio/plain_wav.py",
    "indexer/audio/pyav_reader.py",
    "indexer/audio/remarks.py",
    "indexer/audio/resample.py",
    "indexer/audio/segmentation.py",
    "indexer/audio/sniff.py",
    "indexer/audio/soundfile_reader.py",
    "indexer/audio/sources.py",
    "indexer/embedding/aggregation.py",
    "indexer/probes.py",
)
"""Code that decides what an encoder is given; what it makes of that, its id stands for."""

PRODUCT_SOURCES = (
    *PLAIN_SOURCES,
    "indexer/ahead.py",
    "indexer/audio/changes.py",
    "indexer/audio/edges.py",
    "indexer/audio/meter.py",
    "indexer/audio/quality.py",
    "indexer/audio/regions.py",
    "indexer/audio/rttm.py",
    "indexer/audio/silero.py",
    "indexer/audio/speech.py",
    "indexer/audio/speech_files.py",
    "indexer/audio/utterances.py",
    "indexer/hearing.py",
    "indexer/listening.py",
    "indexer/listening_choices.py",
    "indexer/window_vectors.py",
    "search/diarization.py",
    "search/listening.py",
    "search/resegmentation.py",
    "search/screening.py",
    "search/voice_groups.py",
)
"""The same of speech alone, and of several voices."""


@dataclass(frozen=True, slots=True)
class HeardRecording:
    """One recording, as far as evaluation needs it.

    Attributes
    ----------
    vectors : mapping of encoder id to (D,) float32 array
        Unit vectors of the voice, the dominant one where there are several; empty where none could be made.
    duration_s, net_speech_s
        Seconds of the recording, and of speech of this voice in it.
    snr_db
        None where unknown.
    telephone
        1 where it came over a telephone, 0 where it did not, None where unknown.
    voices
        How many were heard.
    refusal
        Code of the error, where the recording cannot be used.
    """

    vectors: Mapping[EncoderId, NDArray[np.float32]]
    duration_s: float
    net_speech_s: float
    snr_db: float | None = None
    voices: int = 1
    refusal: str | None = None
    telephone: float | None = None


class Hearing(Protocol):
    """A way to hear recordings; `id` changes when what it hears does."""

    @property
    def id(self) -> str:
        """Hash of the code and the settings that matter."""

    @property
    def encoders(self) -> Sequence[Encoder]:
        """What makes the vectors."""

    def hear(self, source: AudioSource, name: str) -> HeardRecording:
        """Hear one recording; what cannot be used is told by `refusal`."""


class WholeFile:
    """The baseline: the recording as it is, through the network in one piece; what SpeechBrain's users do."""

    def __init__(self, encoder: Encoder, settings: Settings) -> None:
        self.encoders: Sequence[Encoder] = (encoder,)
        self._settings = settings
        self.id = _fingerprint("whole", PLAIN_SOURCES, [settings.audio.model_dump(mode="json")])

    def hear(self, source: AudioSource, name: str) -> HeardRecording:
        """Embed all of it; no speech is looked for."""
        return refused_or(lambda: self._hear(source, name))

    def _hear(self, source: AudioSource, name: str) -> HeardRecording:
        (encoder,) = self.encoders
        probe = embed_probes(
            encoder, source, channels=ChannelPolicy.parse("mix"), limits=self._settings.audio, name=name
        )[0]
        return HeardRecording({encoder.id: probe.vector}, probe.duration_s, probe.duration_s)


class ProductHearing:
    """What the product hears: the voices of a recording by their speech alone, of which the dominant one is kept.

    Of several encoders, voices are told apart by the first.
    """

    def __init__(self, encoders: Sequence[Encoder], settings: Settings) -> None:
        self.encoders = encoders
        self._settings = settings
        self._listening = make_listening(settings.speech, make_detector(settings.speech))
        heard_by = [settings.audio.model_dump(mode="json"), settings.speech.model_dump(mode="json")]
        self.id = _fingerprint("product", PRODUCT_SOURCES, heard_by)

    def hear(self, source: AudioSource, name: str) -> HeardRecording:
        """Embed the dominant voice."""
        return refused_or(lambda: self._hear(source, name))

    def _hear(self, source: AudioSource, name: str) -> HeardRecording:
        pairs = [EncoderSet(*self.encoders[first : first + 2]) for first in range(0, len(self.encoders), 2)]
        heard = [
            hear_voices(
                encoders,
                source,
                self._listening,
                channels=ChannelPolicy.parse(self._settings.audio.channels),
                limits=self._settings.audio,
                name=name,
            )
            for encoders in pairs
        ]
        voice = heard[0][0]
        return HeardRecording(
            vectors={encoder: vector for voices in heard for encoder, vector in voices[0].vectors.items()},
            duration_s=voice.recording.duration_s,
            net_speech_s=voice.quality.net_speech_s,
            snr_db=voice.quality.snr_db,
            voices=len(heard[0]),
            telephone=voice.quality.telephone,
        )


def refused_or(hear: Callable[[], HeardRecording]) -> HeardRecording:
    """Hear a recording, or say why it cannot be."""
    try:
        return hear()
    except InvalidAudio as error:
        return HeardRecording({}, 0.0, 0.0, refusal=error.code, voices=0)


def _fingerprint(kind: str, sources: Sequence[str], settings: Sequence[object]) -> str:
    plain = json.dumps([kind, _code_hash(tuple(sources)), settings], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


@lru_cache(maxsize=8)
def _code_hash(sources: tuple[str, ...]) -> str:
    """Hash the code that recordings go through, so that a vector of other code is never taken for one of this.

    Comments and layout do not matter.
    """
    root = Path(indexer.__file__).parent.parent
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source}\n{ast.dump(ast.parse((root / source).read_bytes()))}\n".encode())
    return digest.hexdigest()
