"""Questions about voices: who is it, is it them, are these two the same, where else do they speak."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.filter_query import Filter
from api.openapi import problems
from api.probing import Heard, hear
from api.runtime import Runtime, runtime_of
from api.schemas.common import Cosine, GalleryName, Name, Text
from api.schemas.voices import (
    Candidate,
    CompareAnswer,
    IdentifyAnswer,
    ProbeHeard,
    RecordingFound,
    SearchAnswer,
    Stretch,
    Threshold,
    VerifyAnswer,
)
from api.security import Identifier
from api.uploads import Upload, audio_body, received
from api.voices import Comparison
from indexer.errors import EncoderChanged, NotFound
from indexer.observability import DECISIONS, SEARCH_SECONDS
from search.identification import MAX_TOP_K
from search.occurrences import Occurrence
from search.operating_point import OperatingPoint

router = APIRouter(tags=["voices"])

MOST_FOUND = 1000
SHOWN = 20

_ThresholdGiven = Annotated[
    Cosine | None,
    Query(description="Accept from this score on; left out: the gallery's, the setting's, the encoder's."),
]
_Channels = Annotated[
    Text | None,
    Query(
        max_length=16,
        description="mix, left, right, a channel number from 0, or each (refused where several channels hold sound: "
        "a decision is about one voice). Left out: the setting.",
        examples=["mix"],
    ),
]
_FileName = Annotated[Text | None, Query(alias="filename", max_length=1000, description="What messages call it.")]

_Answer = TypeVar("_Answer", IdentifyAnswer, VerifyAnswer, CompareAnswer, SearchAnswer)


@router.post(
    "/galleries/{gallery}/identify",
    response_model=IdentifyAnswer,
    openapi_extra=audio_body("file"),
    responses=problems(404, 408, 413, 415),
)
async def identify(
    request: Request,
    principal: Identifier,
    gallery: GalleryName,
    top_k: Annotated[int, Query(ge=1, le=MAX_TOP_K, description="Most candidates.")] = 5,
    threshold: _ThresholdGiven = None,
    label: Annotated[
        list[Name] | None, Query(max_length=50, description="Only speakers with all these labels.")
    ] = None,
    channels: _Channels = None,
    embedding: Annotated[bool, Query(description="Return the vector too; needs the scope `embeddings`.")] = False,
    _filename: _FileName = None,
) -> Response:
    """Tell who speaks in a recording, among the enrolled speakers of a gallery; the answer may be nobody."""
    if embedding:
        principal.require("embeddings")

    def answer(runtime: Runtime, uploads: Mapping[str, Upload]) -> IdentifyAnswer:
        voices = runtime.live.get(gallery)
        heard = _hear(runtime, voices, uploads["file"], channels)
        said = {**_heard(heard), "encoder_id": voices.encoder.id}
        if heard.probe is None:
            point = _threshold(voices.identification_point(threshold))
            return IdentifyAnswer(decision="not_enough_speech", speaker=None, threshold=point, candidates=[], **said)
        with SEARCH_SECONDS.time():
            found = voices.identify(heard.probe, top_k=top_k, threshold=threshold, labels=label)
        return IdentifyAnswer(
            decision=found.outcome,
            speaker=found.speaker,
            threshold=_threshold(found.operating_point),
            candidates=[
                Candidate(rank=one.rank, speaker=one.speaker, score=one.score, enrollments=one.enrollments)
                for one in found.candidates
            ],
            embedding=heard.probe.vector.tolist() if embedding else None,
            **said,
        )

    return await _answered("identify", request, ("file",), answer)


@router.post(
    "/galleries/{gallery}/verify",
    response_model=VerifyAnswer,
    openapi_extra=audio_body("file"),
    responses=problems(404, 408, 413, 415),
)
async def verify(
    request: Request,
    _: Identifier,
    gallery: GalleryName,
    speaker_id: Annotated[Name, Query(description="Name of the speaker who they claim to be.", examples=["Ada"])],
    threshold: _ThresholdGiven = None,
    channels: _Channels = None,
    _filename: _FileName = None,
) -> Response:
    """Tell whether a recording is of the enrolled speaker it claims to be."""

    def answer(runtime: Runtime, uploads: Mapping[str, Upload]) -> VerifyAnswer:
        voices = runtime.live.get(gallery)
        heard = _hear(runtime, voices, uploads["file"], channels)
        said = {**_heard(heard), "encoder_id": voices.encoder.id, "speaker": speaker_id}
        if heard.probe is None:
            runtime.services.catalog.speaker(gallery, speaker_id)  # Nobody of that name: that is the answer then.
            point = _threshold(voices.verification_point(threshold))
            return VerifyAnswer(decision="not_enough_speech", score=None, threshold=point, **said)
        with SEARCH_SECONDS.time():
            found = voices.verify(heard.probe, speaker_id, threshold=threshold)
        return VerifyAnswer(
            decision=found.outcome, score=found.score, threshold=_threshold(found.operating_point), **said
        )

    return await _answered("verify", request, ("file",), answer)


@router.post(
    "/compare",
    response_model=CompareAnswer,
    openapi_extra=audio_body("first", "second"),
    responses=problems(404, 408, 413, 415),
)
async def compare(
    request: Request,
    _: Identifier,
    encoder: Annotated[
        Name | None, Query(description="Name of an encoder whose weights are here; left out: the default one.")
    ] = None,
    threshold: _ThresholdGiven = None,
    channels: _Channels = None,
) -> Response:
    """Tell whether two recordings are of the same voice; needs no gallery."""

    def answer(runtime: Runtime, uploads: Mapping[str, Upload]) -> CompareAnswer:
        comparison = runtime.live.comparison(_at_hand(runtime, encoder))
        first, second = (_hear(runtime, comparison, uploads[part], channels) for part in ("first", "second"))
        said: dict[str, Any] = {
            "first": ProbeHeard(**_heard(first)),
            "second": ProbeHeard(**_heard(second)),
            "encoder_id": comparison.encoder.id,
        }
        if first.probe is None or second.probe is None:
            point = _threshold(comparison.verification_point(threshold))
            return CompareAnswer(decision="not_enough_speech", score=None, threshold=point, **said)
        found = comparison.compare(first.probe, second.probe, threshold=threshold)
        return CompareAnswer(
            decision=found.outcome, score=found.score, threshold=_threshold(found.operating_point), **said
        )

    return await _answered("compare", request, ("first", "second"), answer)


@router.post(
    "/galleries/{gallery}/search",
    response_model=SearchAnswer,
    openapi_extra=audio_body("file"),
    responses=problems(404, 408, 413, 415),
)
async def search(
    request: Request,
    _: Identifier,
    gallery: GalleryName,
    wanted: Filter,
    threshold: _ThresholdGiven = None,
    top_k: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_TOP_K,
            description="Look at the best so many utterances that the filter leaves, whatever they score unless "
            "`threshold` is given too. Left out: at every one that reaches the threshold.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, le=MOST_FOUND, description=f"Most recordings. Left out: {SHOWN}, and with `top_k` all of them."),
    ] = None,
    channels: _Channels = None,
    _filename: _FileName = None,
) -> Response:
    """Find the recordings of a gallery in which a voice occurs, and the stretches where it does.

    What the other parameters leave out is passed over within the search, so that the best of the rest are found however
    few they are.
    """

    def answer(runtime: Runtime, uploads: Mapping[str, Upload]) -> SearchAnswer:
        voices = runtime.live.get(gallery)
        heard = _hear(runtime, voices, uploads["file"], channels)
        said = {**_heard(heard), "encoder_id": voices.encoder.id}
        if heard.probe is None:
            return SearchAnswer(
                decision="not_enough_speech",
                threshold=_threshold(voices.identification_point(threshold)),
                found=0,
                truncated=False,
                eligible=voices.eligible(wanted),
                recordings=[],
                **said,
            )
        with SEARCH_SECONDS.time():
            found = voices.search(heard.probe, threshold=threshold, filter=wanted, top_k=top_k)
        shown = limit or (SHOWN if top_k is None else MOST_FOUND)
        return SearchAnswer(
            decision="found" if found.found else "not_found",
            threshold=_threshold(found.operating_point),
            found=found.found,
            truncated=found.truncated,
            eligible=found.eligible,
            recordings=[_recording(occurrence) for occurrence in found.recordings[:shown]],
            **said,
        )

    return await _answered("search", request, ("file",), answer)


async def _answered(
    kind: str,
    request: Request,
    parts: tuple[str, ...],
    answer: Callable[[Runtime, Mapping[str, Upload]], _Answer],
) -> Response:
    """Receive the recordings, answer in a thread, and count the decision."""
    runtime = runtime_of(request)
    most, floor = runtime.settings.api.max_probe_bytes, runtime.settings.media.min_free_bytes
    with runtime.probe_threads.admitted():
        async with received(request, runtime.media, max_bytes=most, min_free_bytes=floor, parts=parts) as uploads:

            def written() -> bytes:
                try:
                    decided = answer(runtime, uploads)
                except EncoderChanged:  # Right under this request, which is then one under the new encoder.
                    decided = answer(runtime, uploads)
                DECISIONS.labels(kind, decided.decision).inc()
                # Here and not by the framework, which would do it in the event loop: a search can find a great deal.
                return decided.model_dump_json().encode()

            return Response(await runtime.probe_threads.run(written), media_type="application/json")


def _at_hand(runtime: Runtime, encoder: str | None) -> str | None:
    """Let a request name no encoder but those whose weights are here: no path, and nothing to download first."""
    registry = runtime.services.registry
    if encoder is not None and not any(
        spec.name == encoder and registry.cached(spec) is not None for spec in registry.list()
    ):
        raise NotFound(f"no encoder {encoder!r} whose weights are here: /v1/encoders says which are")
    return encoder


def _hear(runtime: Runtime, comparison: Comparison, upload: Upload, channels: str | None) -> Heard:
    name = upload.name or "the recording"
    return hear(comparison.encoder, upload.path, name=name, channels=channels, settings=runtime.settings)


def _heard(heard: Heard) -> dict[str, Any]:
    return {"speech_s": round(heard.speech_s, 3), "needed_s": round(heard.needed_s, 3), "issues": list(heard.issues)}


def _threshold(point: OperatingPoint) -> Threshold:
    return Threshold(value=point.score_threshold, source=point.source)


def _recording(occurrence: Occurrence) -> RecordingFound:
    return RecordingFound(
        recording_id=occurrence.recording_id,
        uri=occurrence.uri,
        score=occurrence.score,
        speakers=list(occurrence.speakers),
        stretches=[Stretch.model_validate(stretch) for stretch in occurrence.stretches],
        truncated=occurrence.truncated,
    )
