"""Questions about voices: who is it, is it them, are these two the same, where else do they speak."""

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import conversations, voice_answers
from api.comparison import Comparison
from api.filter_query import Filter
from api.openapi import problems
from api.probing import Heard, HearingAsked, hear
from api.repeated_queries import FILE_NAME_LIMIT, RepeatedQueries, read_once
from api.runtime import Runtime, runtime_of
from api.schemas.common import GalleryName, Name, Text, View
from api.schemas.voices import CompareAnswer, DiarizeAnswer, IdentifyAnswer, SearchAnswer, VerifyAnswer
from api.security import Identifier
from api.uploads import Upload, audio_body, received
from api.voice_query import AskedToIdentify, AskedToSearch, AskedToVerify, Hearing, Voices
from api.voices import BEST_ENROLLMENTS, SHOWN_WITH_ENROLLMENTS
from api.voices import Voices as GalleryVoices
from indexer.audio.decode import ChannelPolicy
from indexer.errors import EncoderChanged, GalleryGone, NotFound
from indexer.listening_choices import listening_as_asked
from indexer.observability import DECISIONS, SEARCH_SECONDS
from search.identification import MAX_TOP_K
from search.operating_point import OperatingPoint

router = APIRouter(tags=["voices"], route_class=RepeatedQueries)

MOST_FOUND = 1000
SHOWN = 20

_MOST_BEST_ENROLLMENTS = 20

_BestEnrollments = Annotated[
    int,
    Query(
        ge=0,
        le=_MOST_BEST_ENROLLMENTS,
        description="Most enrollments shown that the voice resembles, so that a person can listen to them (of the "
        f"first {SHOWN_WITH_ENROLLMENTS} candidates).",
    ),
]
_FileName = Annotated[
    Text | None, Query(alias="filename", max_length=FILE_NAME_LIMIT, description="What messages call it.")
]

Find = Callable[[str], GalleryVoices]
"""Gives what answers from the gallery of a name."""

_Answer = TypeVar("_Answer", IdentifyAnswer, VerifyAnswer, CompareAnswer, SearchAnswer)


@router.post(
    "/galleries/{gallery}/identify",
    response_model=IdentifyAnswer,
    openapi_extra=audio_body("file"),
    responses=problems(404, 408, 413, 415),
)
@read_once
async def identify(
    request: Request,
    principal: Identifier,
    gallery: GalleryName,
    asked: AskedToIdentify,
    hearing: Hearing,
    top_k: Annotated[int, Query(ge=1, le=MAX_TOP_K, description="Most candidates.")] = 5,
    exclusive: Annotated[
        bool,
        Query(description="Whether no two voices of the recording may be the same person, in a conversation."),
    ] = False,
    best_enrollments: _BestEnrollments = BEST_ENROLLMENTS,
    label: Annotated[
        list[Name] | None, Query(max_length=50, description="Only speakers with all these labels.")
    ] = None,
    embedding: Annotated[bool, Query(description="Return the vector too; needs the scope `embeddings`.")] = False,
    _filename: _FileName = None,
) -> Response:
    """Tell who speaks in a recording, among the enrolled speakers of a gallery; the answer may be nobody.

    Where several voices speak, each has an answer of its own; the answer as a whole is about whoever speaks most.
    """
    if embedding:
        principal.require("embeddings")

    def answer(runtime: Runtime, find: Find, uploads: Mapping[str, Upload]) -> IdentifyAnswer:
        voices = find(gallery)
        heard = _hear(runtime, voices, uploads["file"], hearing)

        def point() -> OperatingPoint:
            return voices.identification_point(asked, label)

        if all(heard.refused):  # Or nobody was heard.
            return voice_answers.identified(voices, heard, [None] * len(heard.voices), point)
        with SEARCH_SECONDS.time():
            answers = voices.identify_each(
                heard, top_k=top_k, asked=asked, labels=label, exclusive=exclusive, best_enrollments=best_enrollments
            )
        shown = embedding and heard.dominant is not None
        return voice_answers.identified(voices, heard, answers, point, embedding=shown)

    return await _answered("identify", request, ("file",), answer)


@router.post(
    "/galleries/{gallery}/verify",
    response_model=VerifyAnswer,
    openapi_extra=audio_body("file"),
    responses=problems(404, 408, 413, 415),
)
@read_once
async def verify(
    request: Request,
    _: Identifier,
    gallery: GalleryName,
    asked: AskedToVerify,
    hearing: Hearing,
    speaker_id: Annotated[Name, Query(description="Name of the speaker who they claim to be.", examples=["Ada"])],
    best_enrollments: _BestEnrollments = BEST_ENROLLMENTS,
    _filename: _FileName = None,
) -> Response:
    """Tell whether a recording is of the enrolled speaker it claims to be.

    Where several voices speak, whoever speaks most is compared, and a warning says so.
    """

    def answer(runtime: Runtime, find: Find, uploads: Mapping[str, Upload]) -> VerifyAnswer:
        voices = find(gallery)
        heard = _hear(runtime, voices, uploads["file"], hearing)

        def point() -> OperatingPoint:
            return voices.verification_point(asked)

        if heard.dominant is None:
            runtime.services.catalog.speaker(gallery, speaker_id)  # Nobody of that name: that is the answer then.
            return voice_answers.verified(voices, heard, speaker_id, None, point)
        with SEARCH_SECONDS.time():
            found = voices.verify(heard.dominant, speaker_id, asked=asked, best_enrollments=best_enrollments)
        return voice_answers.verified(voices, heard, speaker_id, found, point)

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
    asked: AskedToVerify,
    hearing: Hearing,
    encoder: Annotated[
        Name | None, Query(description="Name of an encoder whose weights are here; left out: the default one.")
    ] = None,
) -> Response:
    """Tell whether two recordings are of the same voice; needs no gallery."""

    def answer(runtime: Runtime, find: Find, uploads: Mapping[str, Upload]) -> CompareAnswer:
        comparison = runtime.live.comparison(_at_hand(runtime, encoder))
        first, second = (_hear(runtime, comparison, uploads[part], hearing) for part in ("first", "second"))
        found = None
        if first.dominant is not None and second.dominant is not None:
            found = comparison.compare(first.dominant, second.dominant, asked)
        return voice_answers.compared(comparison, first, second, found, lambda: comparison.verification_point(asked))

    return await _answered("compare", request, ("first", "second"), answer)


@router.post(
    "/diarize",
    response_model=DiarizeAnswer,
    openapi_extra=audio_body("file"),
    responses=problems(404, 408, 413, 415),
)
async def diarize(
    request: Request,
    _: Identifier,
    listening: Voices,
    encoder: Annotated[
        Name | None, Query(description="Name of an encoder whose weights are here; left out: the default one.")
    ] = None,
    _filename: _FileName = None,
) -> Response:
    """Tell who speaks when in a recording; needs no gallery, and `identify` says who they are.

    Where two people speak at once in a channel, the one who is heard better has the time.
    """

    def answer(runtime: Runtime, find: Find, uploads: Mapping[str, Upload]) -> DiarizeAnswer:
        comparison = runtime.live.comparison(_at_hand(runtime, encoder))
        settings, upload = runtime.settings, uploads["file"]
        heard = conversations.diarize(
            comparison.encoder,
            upload.source,
            listening_as_asked(comparison.listening(), settings.speech, speakers=listening.speakers),
            channels=ChannelPolicy.parse(listening.channels or settings.audio.channels),
            limits=settings.probe_audio,
            name=upload.name or "the recording",
        )
        return voice_answers.diarized(heard, comparison.encoder.id)

    return await _in_thread(request, ("file",), answer)


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
    asked: AskedToSearch,
    hearing: Hearing,
    top_k: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_TOP_K,
            description="Look at the best so many utterances that the filter leaves, whatever they score unless a "
            "threshold is given too. Left out: at every one that reaches the threshold.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, le=MOST_FOUND, description=f"Most recordings. Left out: {SHOWN}, and with `top_k` all of them."),
    ] = None,
    _filename: _FileName = None,
) -> Response:
    """Find the recordings of a gallery in which a voice occurs, and the stretches where it does.

    What the other parameters leave out is passed over within the search, so that the best of the rest are found however
    few they are. Where several voices speak in the recording that is sent, whoever speaks most is looked for.
    """

    def answer(runtime: Runtime, find: Find, uploads: Mapping[str, Upload]) -> SearchAnswer:
        voices = find(gallery)
        heard = _hear(runtime, voices, uploads["file"], hearing)
        if heard.dominant is None:
            return voice_answers.not_searched(voices, heard, *voices.search_point(asked, wanted))
        with SEARCH_SECONDS.time():
            found = voices.search(heard.dominant, asked=asked, filter=wanted, top_k=top_k)
        return voice_answers.found(voices, heard, found, limit or (SHOWN if top_k is None else MOST_FOUND))

    return await _answered("search", request, ("file",), answer)


async def _answered(
    kind: str,
    request: Request,
    parts: tuple[str, ...],
    answer: Callable[[Runtime, Find, Mapping[str, Upload]], _Answer],
) -> Response:
    """Receive the recordings, answer in a thread, and count the decision."""

    def counted(runtime: Runtime, find: Find, uploads: Mapping[str, Upload]) -> _Answer:
        decided = answer(runtime, find, uploads)
        DECISIONS.labels(kind, decided.decision).inc()
        return decided

    return await _in_thread(request, parts, counted)


async def _in_thread(
    request: Request, parts: tuple[str, ...], answer: Callable[[Runtime, Find, Mapping[str, Upload]], View]
) -> Response:
    runtime = runtime_of(request)
    most, floor = runtime.settings.api.max_probe_bytes, runtime.settings.media.min_free_bytes
    with runtime.probe_threads.admitted():
        async with received(
            request, runtime.media, max_bytes=most, min_free_bytes=floor, parts=parts, in_memory=True
        ) as uploads:

            def written() -> bytes:
                try:
                    decided = answer(runtime, runtime.live.recall, uploads)
                except (EncoderChanged, GalleryGone):  # Right under this request, which is then about what is there.
                    decided = answer(runtime, runtime.live.get, uploads)
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


def _hear(runtime: Runtime, comparison: Comparison, upload: Upload, hearing: HearingAsked) -> Heard:
    name = upload.name or "the recording"
    return hear(comparison, upload.source, name=name, asked=hearing, speech=runtime.settings.speech)
