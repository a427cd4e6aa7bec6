"""A recording that is not kept, to look at and to listen to before anything is asked about it."""

import io
from collections.abc import Callable
from typing import Annotated

import soundfile
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.openapi import problems
from api.runtime import Runtime, runtime_of
from api.schemas.common import FileName, Text
from api.schemas.sound import Inspection
from api.schemas.voices import Turn
from api.security import Identifier
from api.uploads import Upload, audio_body, received
from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import decode
from indexer.audio.outline import outline
from indexer.audio.regions import speech_s
from indexer.errors import InvalidRequest
from indexer.types import SAMPLE_RATE_HZ

router = APIRouter(tags=["voices"])

MOST_POINTS = 20_000

Points = Annotated[int, Query(ge=1, le=MOST_POINTS, description="Most peaks.")]
OneTrack = Annotated[
    Text | None, Query(max_length=16, description="mix, left, right or a channel number; left out: mix.")
]
WAV = {
    "description": "WAV: 16 kHz, 16 bits, one track",
    "content": {
        "audio/wav": {
            "schema": {"type": "string", "format": "binary"},
            "example": "RIFF....WAVEfmt ... (the bytes of the file)",
        }
    },
}


@router.post(
    "/inspect",
    response_model=Inspection,
    openapi_extra=audio_body("file"),
    responses=problems(408, 413, 415),
)
async def inspect(
    request: Request, _: Identifier, points: Points = 1000, channels: OneTrack = None, _filename: FileName = None
) -> Response:
    """Tell what a recording is, how loud it is along its length, and where somebody speaks; nothing is decided."""

    def work(runtime: Runtime, upload: Upload) -> Response:
        found = outline(
            upload.source,
            points=points,
            channels=ChannelPolicy.parse(channels or "mix"),
            limits=runtime.settings.probe_audio,
            name=upload.name or "the recording",
            detector=runtime.services.listening.detector,
        )
        shown = Inspection.of(
            found,
            sample_rate_hz=found.info.sample_rate_hz,
            channels=found.info.channels,
            container=found.info.container,
            codec=found.info.codec,
            speech=[Turn.model_validate(region) for region in found.speech],
            speech_s=speech_s(found.speech),
        )
        return Response(shown.model_dump_json(), media_type="application/json")

    return await _received(request, work)


@router.post(
    "/decode",
    response_class=Response,
    openapi_extra=audio_body("file"),
    responses={200: WAV, **problems(408, 413, 415)},
)
async def decode_recording(
    request: Request, _: Identifier, channels: OneTrack = None, _filename: FileName = None
) -> Response:
    """Give a recording back as WAV, to listen to it where nothing else plays its format."""
    policy = ChannelPolicy.parse(channels or "mix")
    if policy.kind == "each":
        raise InvalidRequest("channels = each gives several tracks, and a WAV of one is made; name a channel, or mix")

    def work(runtime: Runtime, upload: Upload) -> Response:
        name = upload.name or "the recording"
        heard = decode(upload.source, channels=policy, limits=runtime.settings.probe_audio, name=name)
        written = io.BytesIO()
        soundfile.write(written, heard.waveforms[0].clip(-1, 1), SAMPLE_RATE_HZ, "PCM_16", format="WAV")
        return Response(written.getvalue(), media_type="audio/wav")

    return await _received(request, work)


async def _received(request: Request, work: Callable[[Runtime, Upload], Response]) -> Response:
    runtime = runtime_of(request)
    most, floor = runtime.settings.api.max_probe_bytes, runtime.settings.media.min_free_bytes
    with runtime.probe_threads.admitted():
        async with received(request, runtime.media, max_bytes=most, min_free_bytes=floor, in_memory=True) as uploads:
            return await runtime.probe_threads.run(lambda: work(runtime, uploads["file"]))
