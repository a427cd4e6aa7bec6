"""Speakers and their enrollments."""

import datetime as dt
from collections.abc import Sequence

from voxdex_client import models
from voxdex_client.audio import Audio
from voxdex_client.requests import UNSET, Sent, Unset, route
from voxdex_client.routes.sending import with_audio


@route("POST", "/v1/galleries/{gallery}/speakers", models.Speaker, keyed=True)
def create_speaker(
    gallery: str,
    name: str,
    *,
    labels: Sequence[str] = (),
    consent_reference: str | None = None,
    consented_at: dt.datetime | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Make a speaker, without a voice yet."""
    fields = {
        "name": name,
        "labels": list(labels),
        "consent_reference": consent_reference,
        "consented_at": consented_at,
    }
    return Sent(path={"gallery": gallery}, json=fields, key=idempotency_key)


@route("GET", "/v1/galleries/{gallery}/speakers", models.Page[models.Speaker])
def list_speakers(
    gallery: str,
    *,
    label: str | None = None,
    q: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Sent:
    """List the speakers of a gallery, or those with a label, or with `q` in their name."""
    return Sent(path={"gallery": gallery}, query={"label": label, "q": q, "limit": limit, "cursor": cursor})


@route("GET", "/v1/galleries/{gallery}/speakers/{speaker}", models.Speaker)
def get_speaker(gallery: str, speaker: str) -> Sent:
    """Show a speaker."""
    return Sent(path={"gallery": gallery, "speaker": speaker})


@route("PATCH", "/v1/galleries/{gallery}/speakers/{speaker}", models.Speaker)
def change_speaker(
    gallery: str,
    speaker: str,
    *,
    name: str | Unset = UNSET,
    labels: Sequence[str] | Unset = UNSET,
    consent_reference: str | Unset | None = UNSET,
    consented_at: dt.datetime | Unset | None = UNSET,
) -> Sent:
    """Change a speaker; what is left out stays, and `labels` replaces all of them."""
    fields = {
        "name": name,
        "labels": labels if isinstance(labels, Unset) else list(labels),
        "consent_reference": consent_reference,
        "consented_at": consented_at,
    }
    return Sent(path={"gallery": gallery, "speaker": speaker}, json=fields)


@route("GET", "/v1/galleries/{gallery}/speakers/{speaker}/erasure", models.Erasable)
def show_erasure(gallery: str, speaker: str, *, keep_recordings: bool | None = None) -> Sent:
    """Tell what `delete` would erase now; nothing is erased."""
    return Sent(path={"gallery": gallery, "speaker": speaker}, query={"keep_recordings": keep_recordings})


@route("DELETE", "/v1/galleries/{gallery}/speakers/{speaker}", models.Erased)
def delete_speaker(gallery: str, speaker: str, *, keep_recordings: bool | None = None) -> Sent:
    """Erase a speaker with their recordings, or with `keep_recordings` only who it is that speaks in them."""
    return Sent(path={"gallery": gallery, "speaker": speaker}, query={"keep_recordings": keep_recordings})


@route("POST", "/v1/galleries/{gallery}/speakers/{speaker}/merge", models.Speaker, keyed=True)
def merge_speaker(gallery: str, speaker: str, into: str, *, idempotency_key: str | None = None) -> Sent:
    """Move everything that is known of a speaker to another one, who turned out to be the same person."""
    return Sent(path={"gallery": gallery, "speaker": speaker}, json={"into": into}, key=idempotency_key)


@route("POST", "/v1/galleries/{gallery}/speakers/{speaker}/enrollments", models.NewEnrollment, keyed=True)
def create_enrollment(
    gallery: str,
    speaker: str,
    audio: Audio,
    *,
    consent_reference: str | None = None,
    channels: str | None = None,
    speakers: str | None = None,
    speech: str | None = None,
    min_speech_s: float | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Enroll a recording of a speaker, who is made if new; `InvalidAudio` says why one cannot be used."""
    query = {
        "consent_reference": consent_reference,
        "channels": channels,
        "speakers": speakers,
        "speech": speech,
        "min_speech_s": min_speech_s,
    }
    return with_audio(audio, {"gallery": gallery, "speaker": speaker}, query, idempotency_key)


@route("GET", "/v1/galleries/{gallery}/speakers/{speaker}/enrollments", models.Page[models.Enrollment])
def list_enrollments(gallery: str, speaker: str, *, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List the recordings that a speaker is enrolled with."""
    return Sent(path={"gallery": gallery, "speaker": speaker}, query={"limit": limit, "cursor": cursor})


@route("DELETE", "/v1/galleries/{gallery}/speakers/{speaker}/enrollments/{enrollment_id}", models.Erased)
def delete_enrollment(gallery: str, speaker: str, enrollment_id: int, *, erase: bool | None = None) -> Sent:
    """Take an enrollment back; with `erase`, its recording goes too."""
    return Sent(path={"gallery": gallery, "speaker": speaker, "enrollment_id": enrollment_id}, query={"erase": erase})
