"""Every route of the service, described once; `client` and `aio` send what is described here."""

import datetime as dt
from collections.abc import Sequence
from types import NoneType
from typing import Any

from voxdex_client import models
from voxdex_client.audio import Audio, Body, Recording
from voxdex_client.requests import UNSET, Query, Sent, Unset, route


def _with_audio(audio: Audio, path: dict[str, str | int], query: Query, key: str | None = None) -> Sent:
    recording = Recording(audio)
    return Sent(path=path, query={**query, "filename": recording.name}, body=Body.raw(recording), key=key)


# Galleries


@route("POST", "/v1/galleries", models.Gallery, keyed=True)
def create_gallery(
    name: str,
    *,
    encoder: str | None = None,
    second_encoder: str | None = None,
    identification_threshold: float | None = None,
    verification_threshold: float | None = None,
    possible_threshold: float | None = None,
    target_fpir: float | None = None,
    possible_fpir: float | None = None,
    target_p_fa: float | None = None,
    consent_required: bool = False,
    retention_days: int | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Make a gallery: an enrolled set that is searched under one encoder, or under two whose scores are fused."""
    fields = {
        "name": name,
        "encoder": encoder,
        "second_encoder": second_encoder,
        "identification_threshold": identification_threshold,
        "verification_threshold": verification_threshold,
        "possible_threshold": possible_threshold,
        "target_fpir": target_fpir,
        "possible_fpir": possible_fpir,
        "target_p_fa": target_p_fa,
        "consent_required": consent_required,
        "retention_days": retention_days,
    }
    return Sent(json=fields, key=idempotency_key)


@route("GET", "/v1/galleries", models.Page[models.Gallery])
def list_galleries(*, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List the galleries that the key opens."""
    return Sent(query={"limit": limit, "cursor": cursor})


@route("GET", "/v1/galleries/{gallery}", models.Gallery)
def get_gallery(gallery: str) -> Sent:
    """Show a gallery and what it holds."""
    return Sent(path={"gallery": gallery})


@route("PATCH", "/v1/galleries/{gallery}", models.Gallery)
def change_gallery(
    gallery: str,
    *,
    identification_threshold: float | Unset | None = UNSET,
    verification_threshold: float | Unset | None = UNSET,
    possible_threshold: float | Unset | None = UNSET,
    target_fpir: float | Unset | None = UNSET,
    possible_fpir: float | Unset | None = UNSET,
    target_p_fa: float | Unset | None = UNSET,
    calibration_id: str | Unset | None = UNSET,
    score_normalization: bool | Unset = UNSET,
    consent_required: bool | Unset = UNSET,
    retention_days: int | Unset | None = UNSET,
) -> Sent:
    """Change a gallery; what is left out stays, and None takes a value back."""
    fields = {
        "identification_threshold": identification_threshold,
        "verification_threshold": verification_threshold,
        "possible_threshold": possible_threshold,
        "target_fpir": target_fpir,
        "possible_fpir": possible_fpir,
        "target_p_fa": target_p_fa,
        "calibration_id": calibration_id,
        "score_normalization": score_normalization,
        "consent_required": consent_required,
        "retention_days": retention_days,
    }
    return Sent(path={"gallery": gallery}, json=fields)


@route("DELETE", "/v1/galleries/{gallery}", models.Erased)
def delete_gallery(gallery: str) -> Sent:
    """Erase a gallery: speakers, recordings, vectors and uploaded audio."""
    return Sent(path={"gallery": gallery})


# Speakers


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


# Enrollments


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
    return _with_audio(audio, {"gallery": gallery, "speaker": speaker}, query, idempotency_key)


@route("GET", "/v1/galleries/{gallery}/speakers/{speaker}/enrollments", models.Page[models.Enrollment])
def list_enrollments(gallery: str, speaker: str, *, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List the recordings that a speaker is enrolled with."""
    return Sent(path={"gallery": gallery, "speaker": speaker}, query={"limit": limit, "cursor": cursor})


@route("DELETE", "/v1/galleries/{gallery}/speakers/{speaker}/enrollments/{enrollment_id}", models.Erased)
def delete_enrollment(gallery: str, speaker: str, enrollment_id: int, *, erase: bool | None = None) -> Sent:
    """Take an enrollment back; with `erase`, its recording goes too."""
    return Sent(path={"gallery": gallery, "speaker": speaker, "enrollment_id": enrollment_id}, query={"erase": erase})


# Voices


@route("POST", "/v1/galleries/{gallery}/identify", models.Identification)
def identify(
    gallery: str,
    audio: Audio,
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    llr_threshold: float | None = None,
    fpir: float | None = None,
    p_target: float | None = None,
    c_miss: float | None = None,
    c_fa: float | None = None,
    possible_threshold: float | None = None,
    possible_llr_threshold: float | None = None,
    possible_fpir: float | None = None,
    prior: float | None = None,
    labels: Sequence[str] | None = None,
    exclusive: bool | None = None,
    best_enrollments: int | None = None,
    channels: str | None = None,
    speakers: str | int | None = None,
    allow_poor: bool | None = None,
    embedding: bool | None = None,
) -> Sent:
    """Tell who speaks in a recording, among the enrolled speakers of a gallery; the answer may be nobody.

    At most one of `threshold` (on the score), `llr_threshold`, `fpir` (share of unknown voices that may be named) and
    `p_target` with costs; without any, the gallery's or the setting's decides. `exclusive`: no two voices of the
    recording may be the same person. `speakers`: auto, one, channels, or how many speak in it.
    """
    query: dict[str, Any] = {
        "top_k": top_k,
        "threshold": threshold,
        "llr_threshold": llr_threshold,
        "fpir": fpir,
        "p_target": p_target,
        "c_miss": c_miss,
        "c_fa": c_fa,
        "possible_threshold": possible_threshold,
        "possible_llr_threshold": possible_llr_threshold,
        "possible_fpir": possible_fpir,
        "prior": prior,
        "label": labels,
        "exclusive": exclusive,
        "best_enrollments": best_enrollments,
        "channels": channels,
        "speakers": speakers,
        "allow_poor": allow_poor,
        "embedding": embedding,
    }
    return _with_audio(audio, {"gallery": gallery}, query)


@route("POST", "/v1/galleries/{gallery}/verify", models.Verification)
def verify(
    gallery: str,
    audio: Audio,
    speaker: str,
    *,
    threshold: float | None = None,
    llr_threshold: float | None = None,
    p_fa: float | None = None,
    p_target: float | None = None,
    c_miss: float | None = None,
    c_fa: float | None = None,
    prior: float | None = None,
    best_enrollments: int | None = None,
    channels: str | None = None,
    speakers: str | int | None = None,
    allow_poor: bool | None = None,
) -> Sent:
    """Tell whether a recording is of the enrolled speaker it claims to be.

    At most one of `threshold` (on the score), `llr_threshold`, `p_fa` (share of strangers that may be accepted) and
    `p_target` with costs; without any, the gallery's or the setting's decides.
    """
    query: dict[str, Any] = {
        "speaker_id": speaker,
        "threshold": threshold,
        "llr_threshold": llr_threshold,
        "p_fa": p_fa,
        "p_target": p_target,
        "c_miss": c_miss,
        "c_fa": c_fa,
        "prior": prior,
        "best_enrollments": best_enrollments,
        "channels": channels,
        "speakers": speakers,
        "allow_poor": allow_poor,
    }
    return _with_audio(audio, {"gallery": gallery}, query)


@route("POST", "/v1/compare", models.Comparison)
def compare(
    first: Audio,
    second: Audio,
    *,
    encoder: str | None = None,
    threshold: float | None = None,
    llr_threshold: float | None = None,
    p_fa: float | None = None,
    p_target: float | None = None,
    c_miss: float | None = None,
    c_fa: float | None = None,
    prior: float | None = None,
    channels: str | None = None,
    speakers: str | int | None = None,
    allow_poor: bool | None = None,
) -> Sent:
    """Tell whether two recordings are of the same voice; needs no gallery. Where to decide is asked as in `verify`."""
    query: dict[str, Any] = {
        "encoder": encoder,
        "threshold": threshold,
        "llr_threshold": llr_threshold,
        "p_fa": p_fa,
        "p_target": p_target,
        "c_miss": c_miss,
        "c_fa": c_fa,
        "prior": prior,
        "channels": channels,
        "speakers": speakers,
        "allow_poor": allow_poor,
    }
    return Sent(query=query, body=Body.form({"first": Recording(first), "second": Recording(second)}))


@route("POST", "/v1/diarize", models.Diarization)
def diarize(
    audio: Audio, *, encoder: str | None = None, channels: str | None = None, speakers: str | int | None = None
) -> Sent:
    """Tell who speaks when in a recording; needs no gallery. `speakers`: auto, one, channels, or how many speak."""
    return _with_audio(audio, {}, {"encoder": encoder, "channels": channels, "speakers": speakers})


@route("POST", "/v1/inspect", models.Inspection)
def inspect(audio: Audio, *, points: int | None = None, channels: str | None = None) -> Sent:
    """Tell what a recording is, how loud along its length, and where somebody speaks; nothing is decided."""
    return _with_audio(audio, {}, {"points": points, "channels": channels})


@route("POST", "/v1/decode", bytes)
def decode(audio: Audio, *, channels: str | None = None) -> Sent:
    """Return a recording as a WAV file of 16 kHz, whatever its format."""
    return _with_audio(audio, {}, {"channels": channels})


@route("POST", "/v1/galleries/{gallery}/search", models.SearchResult)
def search(
    gallery: str,
    audio: Audio,
    *,
    threshold: float | None = None,
    llr_threshold: float | None = None,
    fpir: float | None = None,
    top_k: int | None = None,
    limit: int | None = None,
    labels: Sequence[str] | None = None,
    speakers: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
    recorded_from: dt.datetime | None = None,
    recorded_until: dt.datetime | None = None,
    min_duration_s: float | None = None,
    min_speech_s: float | None = None,
    min_sample_rate_hz: int | None = None,
    max_sample_rate_hz: int | None = None,
    channels: str | None = None,
    speakers_heard: str | int | None = None,
    allow_poor: bool | None = None,
) -> Sent:
    """Find the recordings of a gallery in which a voice occurs, and the stretches where it does.

    `top_k` asks for the best so many utterances, whatever they score unless `threshold` is given too. The rest is a
    filter: recordings with all `labels`, of one of the `sessions`, made at `recorded_from` or later and before
    `recorded_until`, of so much speech, of such a sample rate; utterances enrolled as one of the `speakers`, so long.
    `speakers_heard`: auto, one, channels, or how many speak in the recording that is sent.
    """
    query: dict[str, Any] = {
        "threshold": threshold,
        "llr_threshold": llr_threshold,
        "fpir": fpir,
        "top_k": top_k,
        "limit": limit,
        "label": labels,
        "speaker": speakers,
        "session": sessions,
        "recorded_from": recorded_from,
        "recorded_until": recorded_until,
        "min_duration_s": min_duration_s,
        "min_speech_s": min_speech_s,
        "min_sample_rate_hz": min_sample_rate_hz,
        "max_sample_rate_hz": max_sample_rate_hz,
        "channels": channels,
        "speakers": speakers_heard,
        "allow_poor": allow_poor,
    }
    return _with_audio(audio, {"gallery": gallery}, query)


# Recordings


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
    return _with_audio(audio, {"gallery": gallery}, query, idempotency_key)


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


# Unknown voices


@route("POST", "/v1/galleries/{gallery}/unknown-voices/cluster", models.Job, keyed=True)
def find_unknown_voices(
    gallery: str,
    *,
    threshold: float | None = None,
    fpir: float | None = None,
    min_utterances: int = 2,
    min_recordings: int = 2,
    min_speech_s: float = 2.0,
    idempotency_key: str | None = None,
) -> Sent:
    """Have the utterances that are enrolled as nobody grouped by voice: a job; names that were given before stay."""
    fields = {
        "threshold": threshold,
        "fpir": fpir,
        "min_utterances": min_utterances,
        "min_recordings": min_recordings,
        "min_speech_s": min_speech_s,
    }
    return Sent(path={"gallery": gallery}, json=fields, key=idempotency_key)


@route("GET", "/v1/galleries/{gallery}/unknown-voices", models.Page[models.UnknownVoice])
def list_unknown_voices(gallery: str, *, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List who is heard again and again without a name."""
    return Sent(path={"gallery": gallery}, query={"limit": limit, "cursor": cursor})


@route("GET", "/v1/galleries/{gallery}/unknown-voices/{voice}", models.UnknownVoice)
def get_unknown_voice(gallery: str, voice: str) -> Sent:
    """Show an unknown voice, as "Unknown-17"."""
    return Sent(path={"gallery": gallery, "voice": voice})


@route("GET", "/v1/galleries/{gallery}/unknown-voices/{voice}/utterances", models.Page[models.UnknownUtterance])
def list_unknown_utterances(gallery: str, voice: str, *, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List where an unknown voice is heard; `recordings.audio` plays each stretch."""
    return Sent(path={"gallery": gallery, "voice": voice}, query={"limit": limit, "cursor": cursor})


@route("POST", "/v1/galleries/{gallery}/unknown-voices/{voice}/promote", models.Speaker, keyed=True)
def promote_unknown_voice(
    gallery: str,
    voice: str,
    speaker: str,
    *,
    consent_reference: str | None = None,
    consented_at: dt.datetime | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Enroll all that an unknown voice says as a speaker, who is made if new."""
    fields = {"speaker": speaker, "consent_reference": consent_reference, "consented_at": consented_at}
    return Sent(path={"gallery": gallery, "voice": voice}, json=fields, key=idempotency_key)


@route("POST", "/v1/galleries/{gallery}/unknown-voices/{voice}/merge", models.UnknownVoice, keyed=True)
def merge_unknown_voice(gallery: str, voice: str, into: str, *, idempotency_key: str | None = None) -> Sent:
    """Make an unknown voice one with another, whose name stays."""
    return Sent(path={"gallery": gallery, "voice": voice}, json={"into": into}, key=idempotency_key)


@route("POST", "/v1/galleries/{gallery}/unknown-voices/{voice}/split", models.Parted, keyed=True)
def split_unknown_voice(
    gallery: str, voice: str, *, utterance_ids: Sequence[int] | None = None, idempotency_key: str | None = None
) -> Sent:
    """Make two of an unknown voice, by the utterances named or by its vectors."""
    fields = {"utterance_ids": None if utterance_ids is None else list(utterance_ids)}
    return Sent(path={"gallery": gallery, "voice": voice}, json=fields, key=idempotency_key)


@route("DELETE", "/v1/galleries/{gallery}/unknown-voices/{voice}/utterances/{utterance_id}", models.UnknownVoice)
def remove_unknown_utterance(gallery: str, voice: str, utterance_id: int) -> Sent:
    """State that an utterance is not of an unknown voice; the utterance itself stays."""
    return Sent(path={"gallery": gallery, "voice": voice, "utterance_id": utterance_id})


@route("DELETE", "/v1/galleries/{gallery}/unknown-voices/{voice}", models.Ungrouped)
def delete_unknown_voice(gallery: str, voice: str) -> Sent:
    """Forget an unknown voice; its utterances stay."""
    return Sent(path={"gallery": gallery, "voice": voice})


# What a gallery is like as a whole


@route("GET", "/v1/galleries/{gallery}/quality", models.GalleryQuality)
def gallery_quality(gallery: str) -> Sent:
    """Tell how well a gallery's recordings are told apart, and the errors to expect at each threshold."""
    return Sent(path={"gallery": gallery})


@route("GET", "/v1/galleries/{gallery}/map", models.GalleryMap)
def gallery_map(gallery: str) -> Sent:
    """Place a gallery's speakers on a plane, near to whom they sound like."""
    return Sent(path={"gallery": gallery})


@route("GET", "/v1/calibrations", models.Calibrations)
def calibrations() -> Sent:
    """List the calibrations that galleries can be given."""
    return Sent()


# Jobs


@route("POST", "/v1/galleries/{gallery}/jobs", models.Job, keyed=True)
def create_job(
    gallery: str,
    source: str,
    *,
    kind: models.SourceKind | None = None,
    speaker_from: str = "none",
    channels: str | None = None,
    speakers: str | None = None,
    speech: str | None = None,
    on_duplicate: models.OnDuplicate = "skip",
    webhook_url: str | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Have workers ingest a folder, a manifest or a URL, as they see it."""
    fields = {
        "source": source,
        "kind": kind,
        "speaker_from": speaker_from,
        "channels": channels,
        "speakers": speakers,
        "speech": speech,
        "on_duplicate": on_duplicate,
        "webhook_url": webhook_url,
    }
    return Sent(path={"gallery": gallery}, json=fields, key=idempotency_key)


@route("GET", "/v1/jobs", models.Page[models.Job])
def list_jobs(
    *,
    gallery: str | None = None,
    state: models.JobState | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Sent:
    """List jobs, the newest first."""
    return Sent(query={"gallery": gallery, "state": state, "limit": limit, "cursor": cursor})


@route("GET", "/v1/jobs/{job_id}", models.Job)
def get_job(job_id: int) -> Sent:
    """Show a job and how far it got."""
    return Sent(path={"job_id": job_id})


@route("GET", "/v1/jobs/{job_id}/items", models.Page[models.JobItem])
def list_job_items(
    job_id: int,
    *,
    state: models.JobItemState | None = None,
    status: models.JobItemState | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Sent:
    """List the files of a job, or those in one state (or `status`): with `failed`, each has its reason."""
    return Sent(path={"job_id": job_id}, query={"state": state, "status": status, "limit": limit, "cursor": cursor})


@route("GET", "/v1/jobs/{job_id}/events", NoneType)
def job_events(job_id: int) -> Sent:
    """Follow a job."""
    return Sent(path={"job_id": job_id})


@route("POST", "/v1/jobs/{job_id}/cancel", models.Job, keyed=True)
def cancel_job(job_id: int, *, idempotency_key: str | None = None) -> Sent:
    """End a job; what is ingested stays."""
    return Sent(path={"job_id": job_id}, key=idempotency_key)


@route("POST", "/v1/jobs/{job_id}/retry-failed", models.Requeued, keyed=True)
def retry_failed(job_id: int, *, idempotency_key: str | None = None) -> Sent:
    """Try the failed files of a job again."""
    return Sent(path={"job_id": job_id}, key=idempotency_key)


# Keys


@route("POST", "/v1/keys", models.CreatedKey, keyed=True)
def create_key(
    scopes: Sequence[models.Scope],
    *,
    name: str | None = None,
    gallery: str | None = None,
    rate_limit_per_minute: int | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Make an API key; its secret is in the answer and never shown again."""
    fields = {
        "name": name,
        "scopes": list(scopes),
        "gallery": gallery,
        "rate_limit_per_minute": rate_limit_per_minute,
    }
    return Sent(json=fields, key=idempotency_key)


@route("GET", "/v1/keys", models.Page[models.Key])
def list_keys(*, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List the API keys, without their secrets."""
    return Sent(query={"limit": limit, "cursor": cursor})


@route("DELETE", "/v1/keys/{public_id}", models.Key)
def revoke_key(public_id: str) -> Sent:
    """Revoke an API key."""
    return Sent(path={"public_id": public_id})


# The service itself


@route("GET", "/v1/session", models.Session)
def session() -> Sent:
    """Tell who asks and what they may; answered without a key too."""
    return Sent()


@route("GET", "/v1/encoders", models.Encoders)
def encoders() -> Sent:
    """List the encoders that the service knows."""
    return Sent()


@route("GET", "/v1/system", models.System)
def system() -> Sent:
    """Tell what the process that answers is made of and how it is."""
    return Sent()


@route("GET", "/v1/stats", models.Stats)
def stats() -> Sent:
    """Count what is stored in the galleries that the key opens."""
    return Sent()


@route("GET", "/healthz", models.Alive)
def health() -> Sent:
    """Tell whether the service answers at all."""
    return Sent()


@route("GET", "/readyz", models.Readiness, also=frozenset({503}))
def readiness() -> Sent:
    """Tell whether the service can do its work; and which part is at fault where it cannot."""
    return Sent()


@route("GET", "/metrics", str)
def metrics() -> Sent:
    """Return the service's metrics in the text format of Prometheus."""
    return Sent()


@route("GET", "/v1/openapi.json", dict[str, Any])
def openapi() -> Sent:
    """Return the service's description of itself."""
    return Sent()
