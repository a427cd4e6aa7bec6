"""Puts together what listens to recordings; loads no network, for what finds speech is given."""

from indexer.audio.regions import SpeechDetector
from indexer.listening import Listening, parse_speakers
from indexer.settings import SpeechSettings
from search.diarization import ClusteringDiarizer
from search.screening import OneVoiceScreen


def make_listening(settings: SpeechSettings, detector: SpeechDetector) -> Listening:
    """Return what listens as the settings say, with `indexer.audio.speech.make_detector`'s result."""
    return Listening(detector, ClusteringDiarizer(), OneVoiceScreen(), parse_speakers(settings.speakers))
