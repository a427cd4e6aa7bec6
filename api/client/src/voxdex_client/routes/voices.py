"""Questions about a voice."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from voxdex_client import models
from voxdex_client.audio import Audio, Body, Recording
from voxdex_client.requests import Sent, route
from voxdex_client.routes.sending import with_audio


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
    return with_audio(audio, {"gallery": gallery}, query)


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
    return with_audio(audio, {"gallery": gallery}, query)


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
    return with_audio(audio, {}, {"encoder": encoder, "channels": channels, "speakers": speakers})


@route("POST", "/v1/inspect", models.Inspection)
def inspect(audio: Audio, *, points: int | None = None, channels: str | None = None) -> Sent:
    """Tell what a recording is, how loud along its length, and where somebody speaks; nothing is decided."""
    return with_audio(audio, {}, {"points": points, "channels": channels})


@route("POST", "/v1/decode", bytes)
def decode(audio: Audio, *, channels: str | None = None) -> Sent:
    """Return a recording as a WAV file of 16 kHz, whatever its format."""
    return with_audio(audio, {}, {"channels": channels})


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
    return with_audio(audio, {"gallery": gallery}, query)
