"""Diarization against a reference: error rate with its parts, and how often the number of voices is right."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from indexer.audio.channels import ChannelPolicy
from indexer.audio.rttm import RttmTurn
from indexer.audio.sniff import looks_like_audio
from indexer.audio.speech_files import turn_regions
from indexer.embedding.encoder import Encoder
from indexer.errors import InvalidRequest, NotEnoughSpeech, NotFound
from indexer.hearing import hear_tracks
from indexer.listening import Listening
from indexer.settings import AudioSettings
from indexer.takes import Take
from search.bootstrap import Estimate, Resampling
from search.diarization_error import DiarizationError, measure_diarization


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording and who truly speaks when in it."""

    name: str
    file: Path
    turns: tuple[RttmTurn, ...]

    @property
    def speakers(self) -> int:
        """How many people speak."""
        return len({turn.speaker for turn in self.turns})


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is given beforehand, and what is not scored.

    Attributes
    ----------
    given_speech
        Whether it is told where anybody speaks; else that is found too.
    known_speakers
        Whether it is told how many speak.
    collar_s
        Seconds on either side of every true boundary that are not scored.
    skip_overlap
        Whether overlapped speech is left out.
    """

    given_speech: bool
    known_speakers: bool
    collar_s: float = 0.0
    skip_overlap: bool = False


@dataclass(frozen=True, slots=True)
class DiarizationFigures:
    """What an encoder achieves on all recordings together.

    Attributes
    ----------
    figures
        der, and its parts miss, false_alarm and confusion, as shares of the true speech; count_right, the share of
        recordings with the right number of voices. Intervals are by recording.
    counts
        "true>found" numbers of voices, and in how many recordings.
    recordings
        Error rate and numbers of voices of each.
    """

    encoder: str
    conditions: Conditions
    speech_s: float
    figures: Mapping[str, Estimate]
    counts: Mapping[str, int]
    recordings: tuple[Mapping[str, float | int | str], ...]


def find_references(turns: Mapping[str, Sequence[RttmTurn]], root: Path) -> list[Reference]:
    """Pair the recordings that an RTTM speaks of with the files below a folder that are called like them.

    Raises
    ------
    NotFound
        If a recording is missing.
    InvalidRequest
        If two files are called like one, or nobody speaks in any.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.stem in turns and path.is_file() and looks_like_audio(path):
            files[path.stem].append(path)
    references = []
    for name, own in turns.items():
        if not files[name]:
            raise NotFound(f"{root}: no recording called {name}, of which the reference speaks; check --audio-root")
        if len(files[name]) > 1:
            raise InvalidRequest(f"{files[name][0]} and {files[name][1]} are both called {name}: leave one")
        references.append(Reference(name, files[name][0], tuple(own)))
    if not any(reference.turns for reference in references):
        raise InvalidRequest("nobody speaks in the reference: give an RTTM with SPEAKER lines")
    return references


def find_turns(
    reference: Reference, encoder: Encoder, listening: Listening, conditions: Conditions, limits: AudioSettings
) -> list[RttmTurn]:
    """Diarize one recording as the product does, told beforehand what the conditions give."""
    if conditions.given_speech:
        speech = [
            RttmTurn(reference.name, start_s, end_s - start_s, "speech")
            for start_s, end_s in turn_regions(reference.turns)
        ]
        listening = replace(listening, given={reference.file.stem: speech})
    if conditions.known_speakers:
        listening = replace(listening, speakers="one" if reference.speakers == 1 else reference.speakers)
    take = Take(reference.file, channels=listening.channels(ChannelPolicy.parse("mix")), limits=limits)
    try:
        tracks = hear_tracks(take, listening, encoder, name=reference.file.name, utterance_s=limits.utterance_s)
    except NotEnoughSpeech:  # Silence, too: all of its speech was missed.
        return []
    return [
        RttmTurn(reference.name, turn.start_s, turn.end_s - turn.start_s, str(turn.voice))
        for track in tracks
        for turn in track.turns
    ]


def evaluate_diarization(
    references: Iterable[Reference],
    encoder: Encoder,
    listening: Listening,
    conditions: Conditions,
    limits: AudioSettings,
    resampling: Resampling,
    advance: Callable[[], None],
) -> DiarizationFigures:
    """Diarize every recording and compare it with its reference.

    Raises
    ------
    InvalidAudio
        If a recording cannot be used: a figure without it would be of other data.
    """
    names: list[str] = []
    errors: list[DiarizationError] = []
    for reference in references:
        found = find_turns(reference, encoder, listening, conditions, limits)
        errors.append(
            measure_diarization(
                reference.turns, found, collar_s=conditions.collar_s, skip_overlap=conditions.skip_overlap
            )
        )
        names.append(reference.name)
        advance()
    total = reduce(add, errors)
    return DiarizationFigures(
        encoder.name,
        conditions,
        total.speech_s,
        resampling.estimate(_measure(errors), resampling.speaker_weights(names)),
        dict(sorted(Counter(f"{error.speakers}>{error.voices}" for error in errors).items())),
        tuple(
            {"name": name, "der": error.rate, "speakers": error.speakers, "voices": error.voices}
            for name, error in zip(names, errors, strict=True)
        ),
    )


def _measure(errors: Sequence[DiarizationError]) -> Callable[[np.ndarray | None], dict[str, float]]:
    speech_s = np.array([error.speech_s for error in errors])
    parts = {
        "miss": np.array([error.miss_s for error in errors]),
        "false_alarm": np.array([error.false_alarm_s for error in errors]),
        "confusion": np.array([error.confusion_s for error in errors]),
    }
    right = np.array([error.speakers == error.voices for error in errors], dtype=np.float64)

    def measure(weights: np.ndarray | None) -> dict[str, float]:
        mass = np.ones(len(errors)) if weights is None else weights
        total_s = float(mass @ speech_s)
        if total_s <= 0:
            raise InvalidRequest("0 s of the reference's speech are scored: take a smaller collar")
        shares = {name: float(mass @ seconds) / total_s for name, seconds in parts.items()}
        return {"der": sum(shares.values()), **shares, "count_right": float(np.average(right, weights=mass))}

    return measure
