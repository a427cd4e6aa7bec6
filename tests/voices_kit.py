"""Voices as a service has heard them, and what it takes to ask about them without audio."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from api.deciding import Asked
from api.encoder_side import EncoderSide
from api.voices import IdentifiedVoice, Voices
from indexer.audio.decode import AudioInfo
from indexer.audio.meter import Levels
from indexer.audio.quality import Quality
from indexer.audio.regions import Region
from indexer.audio.speech import SoundDetector
from indexer.db.session import Database
from indexer.listening import Listening
from indexer.probes import HeardVoice
from indexer.settings import Settings
from indexer.takes import RecordingFacts
from indexer.types import EncoderId, GalleryId
from search.diarization import ClusteringDiarizer
from search.operating_point import Wanted
from search.screening import OneVoiceScreen

CLEAN = Quality(net_speech_s=3.0, snr_db=30.0, clipped_share=0.0, bandwidth_hz=7900.0, level_dbfs=-25.0)


def heard_voice(
    vectors: NDArray[np.float32], *encoder_ids: EncoderId, quality: Quality = CLEAN, voice: int = 0, name: str = "probe"
) -> HeardVoice:
    """Return a voice whose vector, or whose vector under each encoder, is known."""
    rows = vectors.reshape(len(encoder_ids), -1)
    facts = RecordingFacts(AudioInfo(name, "wav", "pcm_16", 16_000, 1, 3.0, "soundfile"), Levels(-25.0, 0.0), 3.0, ())
    turns = (Region(0.0, quality.net_speech_s),)
    return HeardVoice(name, None, voice, turns, quality, dict(zip(encoder_ids, rows, strict=True)), facts)


def one_voice() -> Listening:
    """Take all that sounds for the speech of one voice."""
    return Listening(SoundDetector(), ClusteringDiarizer(), OneVoiceScreen(), "one")


def voices_of(
    sides: Sequence[EncoderSide], settings: Settings, database: Database, gallery_id: GalleryId, gallery: str
) -> Voices:
    """Return what answers questions from a gallery."""
    return Voices(sides, settings, listening=one_voice, database=database, gallery=gallery, gallery_id=gallery_id)


def at(score: float | None = None, **wanted: float) -> Asked:
    """Ask for a threshold on the cosine, or whatever else."""
    return Asked(Wanted(score=score, **wanted))  # type: ignore[arg-type]


def identified(voices: Voices, heard: HeardVoice, *, top_k: int = 5, score: float | None = None) -> IdentifiedVoice:
    """Identify one voice."""
    (answer,) = voices.identify([heard], top_k=top_k, asked=at(score))
    return answer
