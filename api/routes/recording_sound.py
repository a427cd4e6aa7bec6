"""Stored recordings to look at and to listen to, and who was found in them."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.openapi import problems
from api.ranges import in_part
from api.recorded_voices import recorded_voices
from api.routes.sound import WAV, OneTrack, Points
from api.runtime import Parts
from api.schemas.common import GalleryName, RowNumber
from api.schemas.recording_voices import RecordingVoices
from api.schemas.sound import WaveformView
from api.security import Identifier, Reader
from indexer.audio.channels import ChannelPolicy
from indexer.audio.outline import outline
from indexer.stretches import MOST_STRETCH_S, audio_of, stretch_as_wav

router = APIRouter(prefix="/galleries/{gallery}/recordings/{recording_id}", tags=["recordings"])


MOST_CANDIDATES = 20

_Second = Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False)]
_Start = Annotated[_Second, Query(description="Where the stretch begins.")]
_PART: dict[str, Any] = {**WAV, "description": "The bytes that `Range` asks for"}


@router.get("/audio", response_class=Response, responses={200: WAV, 206: _PART, **problems(404, 410, 413, 415, 416)})
async def get_audio(
    request: Request,
    gallery: GalleryName,
    recording_id: RowNumber,
    principal: Reader,
    parts: Parts,
    start_s: _Start = 0.0,
    end_s: Annotated[
        _Second | None,
        Query(description=f"Where it ends; left out: the recording's end. {MOST_STRETCH_S:g} s are the most."),
    ] = None,
    channels: OneTrack = None,
) -> Response:
    """Listen to a stretch of a recording, where its audio is still there; players may ask for it by byte ranges.

    Of several audio tracks it is the one that was read when the recording was taken in.
    """

    def work() -> tuple[bytes, str]:
        row, _ = parts.services.catalog.recording(gallery, recording_id)
        with audio_of(row, parts.media, parts.settings) as path:
            wav = stretch_as_wav(
                path,
                start_s=start_s,
                end_s=end_s,
                channels=channels,
                settings=parts.settings,
                name=f"recording {recording_id}",
                audio_track=row.audio_track,
            )
        which = f"{row.content_sha256} {row.audio_track} {start_s} {end_s} {channels}"
        return wav, hashlib.sha256(which.encode()).hexdigest()[:32]

    # Files are hashed, decoded from their beginning, perhaps fetched: not in the threads that every request needs.
    with parts.listening_threads.admitted():
        wav, etag = await parts.listening_threads.run(work)
    return in_part(wav, request.headers, media_type="audio/wav", etag=etag)


@router.get("/waveform", responses=problems(404, 410, 413, 415))
async def get_waveform(
    gallery: GalleryName,
    recording_id: RowNumber,
    principal: Reader,
    parts: Parts,
    points: Points = 1000,
    start_s: _Start = 0.0,
    end_s: Annotated[_Second | None, Query(description="Where it ends; left out: the recording's end.")] = None,
    channels: OneTrack = None,
) -> WaveformView:
    """Tell how loud a recording is along its length, where its audio is still there.

    Of several audio tracks it is the one that was read when the recording was taken in.
    """

    def work() -> WaveformView:
        row, _ = parts.services.catalog.recording(gallery, recording_id)
        with audio_of(row, parts.media, parts.settings) as path:
            found = outline(
                path,
                points=points,
                channels=ChannelPolicy.parse(channels or "mix"),
                limits=parts.settings.audio,
                name=f"recording {recording_id}",
                start_s=start_s,
                end_s=end_s,
                audio_track=row.audio_track,
            )
        return WaveformView.of(found)

    with parts.listening_threads.admitted():
        return await parts.listening_threads.run(work)


@router.get("/voices", responses=problems(404))
def get_voices(
    gallery: GalleryName,
    recording_id: RowNumber,
    principal: Identifier,
    parts: Parts,
    top_k: Annotated[int, Query(ge=1, le=MOST_CANDIDATES, description="Most candidates of a voice.")] = 3,
) -> RecordingVoices:
    """Tell who speaks when in a stored recording: whom each voice is enrolled as, else who it sounds like.

    Answered from the vectors that were made when it was taken in; its audio need not be there any more.
    """
    return recorded_voices(parts, gallery, recording_id, top_k=top_k)
