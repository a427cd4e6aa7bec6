"""What somebody asks to be otherwise while recordings are listened to, by the words of commands and requests."""

from dataclasses import replace
from pathlib import Path

from indexer.audio.speech import SoundDetector, make_detector
from indexer.audio.speech_files import read_speech_files
from indexer.errors import InvalidRequest
from indexer.listening import Listening, parse_speakers
from indexer.settings import SpeechSettings


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
