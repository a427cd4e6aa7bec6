"""Recordings that the service keeps."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from voxdex_client import models
from voxdex_client.audio import Audio
from voxdex_client.requests import Sent, route
from voxdex_client.routes.sending import with_audio


@route("POST", "/v1/galleries/{gallery}/recordings", models.TakenRecording, keyed=True)
def create_recording(
    gallery: str,
    audio: Audio,
    *,
    speaker: str | None = None,
    consent_reference: str | None = None,
    session: str | None = None,
    recorded_at: dt.datetime | None = None,
    labels: Sequence[str] | None = None,
    channels: str | None = None,
    speakers: str | None = None,
    speech: str | None = None,
    min_speech_s: float | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Put a recording into a gallery; one whose content is there already is returned as it is."""
    query: dict[str, Any] = {
        "speaker": speaker,
        "consent_reference": consent_reference,
        "session": session,
        "recorded_at": recorded_at,
        "label": labels,
        "channels": channels,
        "speakers": speakers,
        "speech": speech,
        "min_speech_s": min_speech_s,
    }
    return with_audio(audio, {"gallery": gallery}, query, idempotency_key)


@route("GET", "/v1/galleries/{gallery}/recordings", models.Page[models.Recording])
def list_recordings(
    gallery: str,
    *,
    state: models.RecordingState | None = None,
    q: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Sent:
    """List the recordings of a gallery, or those in a state, or with `q` in their place."""
    return Sent(path={"gallery": gallery}, query={"state": state, "q": q, "limit": limit, "cursor": cursor})


@route("GET", "/v1/galleries/{gallery}/recordings/{recording_id}", models.RecordingDetail)
def get_recording(gallery: str, recording_id: int) -> Sent:
    """Show a recording with its utterances."""
    return Sent(path={"gallery": gallery, "recording_id": recording_id})


@route("GET", "/v1/galleries/{gallery}/recordings/{recording_id}/audio", bytes)
def get_audio(
    gallery: str,
    recording_id: int,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    channels: str | None = None,
) -> Sent:
    """Return a stretch of a recording as a WAV file, to listen to it."""
    return Sent(
        path={"gallery": gallery, "recording_id": recording_id},
        query={"start_s": start_s, "end_s": end_s, "channels": channels},
    )


@route("GET", "/v1/galleries/{gallery}/recordings/{recording_id}/waveform", models.Waveform)
def get_waveform(
    gallery: str,
    recording_id: int,
    *,
    points: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    channels: str | None = None,
) -> Sent:
    """Tell how loud a recording is along its length, in at most `points` figures."""
    return Sent(
        path={"gallery": gallery, "recording_id": recording_id},
        query={"points": points, "start_s": start_s, "end_s": end_s, "channels": channels},
    )


@route("GET", "/v1/galleries/{gallery}/recordings/{recording_id}/voices", models.RecordingVoices)
def get_recording_voices(gallery: str, recording_id: int, *, top_k: int | None = None) -> Sent:
    """Tell who speaks when in a stored recording: whom each voice is enrolled as, else who it sounds like."""
    return Sent(path={"gallery": gallery, "recording_id": recording_id}, query={"top_k": top_k})


@route("DELETE", "/v1/galleries/{gallery}/recordings/{recording_id}", models.Erased)
def delete_recording(gallery: str, recording_id: int) -> Sent:
    """Erase a recording, its vectors and its uploaded audio."""
    return Sent(path={"gallery": gallery, "recording_id": recording_id})
