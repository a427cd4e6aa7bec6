"""Recordings over the API."""

import datetime as dt
from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.common import View
from indexer.db.models import RecordingState

_EXAMPLE: dict[str, Any] = {
    "id": 42,
    "uri": "upload:monday.flac",
    "state": "ready",
    "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "duration_s": 28.1,
    "speech_s": 28.1,
    "sample_rate_hz": 16000,
    "channels": 1,
    "container": "flac",
    "codec": "pcm_16",
    "size_bytes": 512345,
    "session": "monday",
    "recorded_at": "2026-01-26T08:00:00Z",
    "labels": ["meeting"],
    "error_code": None,
    "error_message": None,
    "created_at": "2026-01-31T09:00:00Z",
    "utterance_count": 3,
    "speakers": ["Ann Lee"],
}


class Recording(View):
    """A recording and what was found in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: int
    uri: str = Field(description="Where it was read from; `upload:` and the client's name for an upload.")
    state: RecordingState
    content_sha256: str
    duration_s: float | None
    speech_s: float | None = Field(description="Seconds that were embedded.")
    sample_rate_hz: int | None
    channels: int | None
    container: str | None
    codec: str | None
    size_bytes: int | None
    session: str | None
    recorded_at: dt.datetime | None
    labels: list[str]
    error_code: str | None = Field(description="Why it is partial or failed.")
    error_message: str | None
    created_at: dt.datetime
    utterance_count: int
    speakers: list[str] = Field(description="Whom it is enrolled as.")


class Utterance(View):
    """A stretch of one voice."""

    id: int
    channel: int | None = Field(description="Number from 0; null: the mix of all.")
    start_s: float
    end_s: float
    speakers: list[str]


class RecordingDetail(Recording):
    """A recording with every stretch that was embedded."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "utterances": [{"id": 7, "channel": None, "start_s": 0.0, "end_s": 10.0, "speakers": ["Ann Lee"]}],
                }
            ]
        }
    )

    utterances: list[Utterance]
