"""Answers about voices as documents: what the API returns, and what the command line prints as JSON."""

from collections.abc import Callable, Sequence
from typing import Any

from api.comparison import Comparison, VerifiedVoice
from api.conversations import Conversation
from api.probe_warnings import voices_warning
from api.probing import Heard
from api.schemas.voices import (
    BestEnrollment,
    Candidate,
    CompareAnswer,
    DiarizeAnswer,
    IdentifyAnswer,
    OperatingPoint,
    ProbeHeard,
    RecordingFound,
    SearchAnswer,
    Stretch,
    Turn,
    VerifyAnswer,
    VoiceHeard,
    VoiceIdentified,
    VoiceQuality,
)
from api.voice_search import Occurrences
from api.voices import IdentifiedVoice, Voices
from indexer.audio.quality import Quality as Measured
from indexer.types import EncoderId
from search.evidence import EVEN
from search.occurrences import Occurrence
from search.operating_point import OperatingPoint as Point
from search.verification import Verification


def identified(
    voices: Voices,
    heard: Heard,
    answers: Sequence[IdentifiedVoice | None],
    point: Callable[[], Point],
    *,
    embedding: bool = False,
) -> IdentifyAnswer:
    """Say who each voice of a recording is.

    Parameters
    ----------
    answers
        One for each voice; None where no decision is made about it.
    point
        Gives the operating point where there is no answer.
    """
    each = [_voice(heard, place, answer, point) for place, answer in enumerate(answers)]
    first = each[0] if each else None
    return IdentifyAnswer(
        decision=first.decision if first else "not_enough_speech",
        speaker=first.speaker if first else None,
        operating_point=first.operating_point if first else _point_view(point()),
        candidates=first.candidates if first else [],
        warnings=[*voices_warning(heard.voices), *(first.warnings if first else [])],
        voices=each,
        embedding=heard.voices[0].vectors[voices.encoder.id].tolist() if embedding and heard.voices else None,
        encoder_id=voices.encoder.id,
        **_heard(heard),
    )


def verified(
    voices: Voices, heard: Heard, speaker: str, answer: VerifiedVoice | None, point: Callable[[], Point]
) -> VerifyAnswer:
    """Say whether a recording is of whom it claims to be; `point` gives what would decide where there is no answer."""
    return VerifyAnswer(
        speaker=speaker,
        second_score=answer.answer.second_score if answer else None,
        best_enrollments=[BestEnrollment.model_validate(one) for one in answer.best_enrollments] if answer else [],
        encoder_id=voices.encoder.id,
        warnings=[*voices_warning(heard.voices), *(answer.warnings if answer else ())],
        **_decided(answer, point),
        **_heard(heard),
    )


def compared(
    comparison: Comparison, first: Heard, second: Heard, answer: VerifiedVoice | None, point: Callable[[], Point]
) -> CompareAnswer:
    """Say whether two recordings are of the same voice; `point` gives what would decide where there is no answer."""
    several = [f"{heard.voices[0].name}: {text}" for heard in (first, second) for text in voices_warning(heard.voices)]
    return CompareAnswer(
        first=ProbeHeard(**_heard(first)),
        second=ProbeHeard(**_heard(second)),
        encoder_id=comparison.encoder.id,
        warnings=[*several, *(answer.warnings if answer else ())],
        **_decided(answer, point),
    )


def diarized(heard: Conversation, encoder_id: EncoderId) -> DiarizeAnswer:
    """Say who speaks when."""
    return DiarizeAnswer(
        duration_s=round(heard.duration_s, 3),
        voices=[
            VoiceHeard(
                voice=one.voice,
                channel=one.channel,
                speech_s=one.speech_s,
                turns=[
                    Turn(start_s=turn.start_s, end_s=turn.end_s)
                    for turn in heard.turns
                    if (turn.voice, turn.channel) == (one.voice, one.channel)
                ],
            )
            for one in heard.voices
        ],
        issues=list(heard.issues),
        encoder_id=encoder_id,
    )


def found(voices: Voices, heard: Heard, occurrences: Occurrences, shown: int) -> SearchAnswer:
    """Say where a voice occurs, in at most so many recordings."""
    view = _point_view(occurrences.operating_point, score=occurrences.threshold, size=occurrences.utterances)
    return SearchAnswer(
        decision="found" if occurrences.found else "not_found",
        operating_point=view,
        warnings=[*voices_warning(heard.voices), *occurrences.warnings],
        found=occurrences.found,
        truncated=occurrences.truncated,
        eligible=occurrences.eligible,
        recordings=[_recording(occurrence) for occurrence in occurrences.recordings[:shown]],
        encoder_id=voices.encoder.id,
        **_heard(heard),
    )


def not_searched(voices: Voices, heard: Heard, point: Point, eligible: int | None) -> SearchAnswer:
    """Say that there was not enough speech to search with."""
    return SearchAnswer(
        decision="not_enough_speech",
        operating_point=_point_view(point),
        warnings=voices_warning(heard.voices),
        found=0,
        truncated=False,
        eligible=eligible,
        recordings=[],
        encoder_id=voices.encoder.id,
        **_heard(heard),
    )


def _heard(heard: Heard) -> dict[str, Any]:
    return {
        "speech_s": round(heard.speech_s, 3),
        "needed_s": round(heard.needed_s, 3),
        "issues": list(heard.issues),
        "quality": _quality(heard.quality) if heard.quality else None,
        "voices_heard": len(heard.voices),
    }


def _quality(measured: Measured) -> VoiceQuality:
    return VoiceQuality(
        net_speech_s=round(measured.net_speech_s, 3),
        snr_db=measured.snr_db,
        clipped_share=measured.clipped_share,
        bandwidth_hz=measured.bandwidth_hz,
        level_dbfs=measured.level_dbfs,
        telephone=measured.is_telephone,
    )


def _voice(heard: Heard, place: int, answer: IdentifiedVoice | None, point: Callable[[], Point]) -> VoiceIdentified:
    voice = heard.voices[place]
    said: dict[str, Any] = {
        "voice": voice.voice,
        "channel": voice.channel,
        "turns": [Turn(start_s=round(turn.start_s, 3), end_s=round(turn.end_s, 3)) for turn in voice.turns],
        "quality": _quality(voice.quality),
    }
    if answer is None:
        return VoiceIdentified(
            decision="not_enough_speech",
            speaker=None,
            operating_point=_point_view(point()),
            candidates=[],
            warnings=[text for text in (heard.refused[place],) if text is not None],
            **said,
        )
    decided = answer.answer
    return VoiceIdentified(
        decision=decided.outcome,
        speaker=decided.speaker,
        operating_point=point_of(answer),
        candidates=candidates_view(answer),
        warnings=list(answer.warnings),
        **said,
    )


def point_of(answer: IdentifiedVoice) -> OperatingPoint:
    """Say where it was decided who a voice is."""
    decided = answer.answer
    return _point_view(
        decided.operating_point, score=decided.score_at_threshold, size=decided.gallery_size, prior=decided.prior
    )


def candidates_view(answer: IdentifiedVoice) -> list[Candidate]:
    """Say who a voice sounds like, best first."""
    return [
        Candidate(
            rank=one.rank,
            speaker=one.speaker,
            score=one.score,
            llr=one.llr,
            posterior=one.posterior,
            margin=one.margin,
            llr_margin=one.llr_margin,
            second_score=one.second_score,
            enrollments=one.enrollments,
            best_enrollments=[
                BestEnrollment.model_validate(stretch) for stretch in answer.best_enrollments.get(one.speaker_id, [])
            ],
        )
        for one in answer.answer.candidates
    ]


def _decided(answer: VerifiedVoice | None, point: Callable[[], Point]) -> dict[str, Any]:
    if answer is None:
        return {
            "decision": "not_enough_speech",
            "score": None,
            "llr": None,
            "posterior": None,
            "operating_point": _point_view(point()),
        }
    decided: Verification = answer.answer
    return {
        "decision": decided.outcome,
        "score": decided.score,
        "llr": decided.llr,
        "posterior": decided.posterior,
        "operating_point": _point_view(decided.operating_point, score=decided.score_at_threshold, prior=decided.prior),
    }


def _point_view(
    point: Point, *, score: float | None = None, size: int | None = None, prior: float = EVEN
) -> OperatingPoint:
    return OperatingPoint(
        asked=point.asked,
        decides_by="llr" if point.llr_threshold is not None else "score",
        llr_threshold=point.llr_threshold,
        score_threshold=point.score_threshold if point.score_threshold is not None else score,
        possible_llr_threshold=point.possible_llr_threshold,
        possible_score_threshold=point.possible_score_threshold,
        source=point.source,
        calibration_id=point.calibration_id,
        gallery_size=size,
        prior=prior,
    )


def _recording(occurrence: Occurrence) -> RecordingFound:
    return RecordingFound(
        recording_id=occurrence.recording_id,
        uri=occurrence.uri,
        score=occurrence.score,
        llr=occurrence.llr,
        speakers=list(occurrence.speakers),
        stretches=[Stretch.model_validate(stretch) for stretch in occurrence.stretches],
        truncated=occurrence.truncated,
    )
