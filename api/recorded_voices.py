"""Who speaks in a stored recording, from the vectors that it left."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from api.schemas.recording_voices import RecordedVoice, RecordingVoices
from api.schemas.voices import Turn
from api.voice_answers import candidates_view, point_of
from indexer.audio.decode import AudioInfo
from indexer.audio.meter import Levels
from indexer.audio.quality import Quality, pooled_quality
from indexer.audio.regions import Region, bridged
from indexer.db.embeddings import Embeddings
from indexer.db.rows import RecordingSummary, UtteranceSummary
from indexer.db.unknown_voices import UnknownVoices
from indexer.db.voice_runs import VoiceRuns
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.probes import HeardVoice
from indexer.takes import RecordingFacts

if TYPE_CHECKING:
    from api.runtime import Runtime
    from api.voices import IdentifiedVoice, Voices

_PAUSE_S = 0.5
"""Utterances of a voice that are no farther apart are shown as one turn."""

_WIDE_HZ = 8000.0
"""Bandwidth that is taken for one that nobody measured."""


def recorded_voices(runtime: "Runtime", gallery: str, recording_id: int, *, top_k: int) -> RecordingVoices:
    """Tell for each voice of a recording whom it is enrolled as, else who it sounds like.

    Raises
    ------
    NotFound
        If the gallery has no such recording.
    """
    row, utterances = runtime.services.catalog.recording(gallery, recording_id)
    groups: dict[tuple[int | None, int | None], list[UtteranceSummary]] = {}
    for one in utterances:
        groups.setdefault((one.channel, one.voice), []).append(one)
    each = sorted(groups.values(), key=lambda group: -sum(one.speech_s for one in group))
    needed_s = runtime.settings.speech.min_identify_s
    asked = [
        group
        for group in each
        if not any(one.speakers for one in group) and sum(one.speech_s for one in group) >= needed_s
    ]
    voices = runtime.live.get(gallery)
    heard = [voice for voice in (_heard(voices, runtime, row, group) for group in asked) if voice is not None]
    answers = {
        (answer.heard.channel, answer.heard.voice): answer
        for answer in (voices.identify(heard, top_k=top_k) if heard else [])
    }
    with runtime.database.read_scope() as session:
        unknown = UnknownVoices(session, voices.gallery_id).names_of([one.utterance_id for one in utterances])
    return RecordingVoices(
        duration_s=row.duration_s,
        voices=[
            _view(
                group,
                answers.get((group[0].channel, _number(group))),
                next((unknown[one.utterance_id] for one in group if one.utterance_id in unknown), None),
            )
            for group in each
        ],
    )


def _heard(
    voices: "Voices", runtime: "Runtime", row: RecordingSummary, group: Sequence[UtteranceSummary]
) -> HeardVoice | None:
    """Return a voice as if it had just been heard; None where it has no vector under some encoder of the gallery."""
    weights = {one.utterance_id: max(one.speech_s, 1e-3) for one in group}
    vectors = {}
    with runtime.database.read_scope() as session:
        for encoder_id in voices.encoders.ids:
            found = VoiceRuns(session, voices.gallery_id).vectors_of(list(weights), encoder_id)
            if not found:
                return None
            stored = Embeddings(session).vectors([embedding_id for _, embedding_id in found])
            vectors[encoder_id] = aggregate_embeddings(stored, [weights[number] for number, _ in found])
    rate, channels = row.sample_rate_hz or 0, row.channels or 1
    info = AudioInfo(row.uri, row.container or "", row.codec or "", rate, channels, row.duration_s, "record")
    return HeardVoice(
        name=row.uri,
        channel=group[0].channel,
        voice=_number(group),
        turns=tuple(_turns(group)),
        quality=pooled_quality([one.quality or _unmeasured(one) for one in group]),
        vectors=vectors,
        recording=RecordingFacts(info, Levels(-math.inf, 0.0), row.duration_s or 0.0, ()),
    )


def _number(group: Sequence[UtteranceSummary]) -> int:
    return group[0].voice if group[0].voice is not None else -1


def _unmeasured(one: UtteranceSummary) -> Quality:
    return Quality(one.speech_s, None, 0.0, _WIDE_HZ, 0.0)


def _turns(group: Sequence[UtteranceSummary]) -> list[Region]:
    return bridged(sorted(Region(one.start_s, one.end_s) for one in group), _PAUSE_S)


def _view(group: Sequence[UtteranceSummary], answer: "IdentifiedVoice | None", unknown: str | None) -> RecordedVoice:
    speakers = sorted({name for one in group for name in one.speakers})
    named = speakers[0] if len(speakers) == 1 else None
    decided = answer.answer if answer is not None else None
    return RecordedVoice(
        voice=group[0].voice,
        channel=group[0].channel,
        speech_s=round(sum(one.speech_s for one in group), 3),
        turns=[Turn(start_s=round(turn.start_s, 3), end_s=round(turn.end_s, 3)) for turn in _turns(group)],
        speakers=speakers,
        unknown_voice=unknown,
        decision="enrolled" if speakers else decided.outcome if decided else "not_enough_speech",
        speaker=decided.speaker if decided else named,
        candidates=candidates_view(answer) if answer else [],
        operating_point=point_of(answer) if answer else None,
        warnings=list(answer.warnings) if answer else [],
    )
