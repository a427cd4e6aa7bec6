"""People without a name who are heard again and again."""

import datetime as dt
from collections.abc import Sequence

from voxdex_client import models
from voxdex_client.requests import Sent, route


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
