"""Recordings over the API."""

import datetime as dt
from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.common import View, shown_cosine
from indexer.db.models import RecordingState
from indexer.listening import UnlikeStretch

_EXAMPLE: dict[str, Any] = {
    "id": 42,
    "uri": "upload:monday.flac",
    "state": "ready",
    "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "duration_s": 28.1,
    "speech_s": 25.4,
    "voices": 1,
    "audio_track": 1,
    "audio_tracks": 1,
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
    speech_s: float | None = Field(description="Seconds of speech that were embedded.")
    voices: int | None = Field(description="How many voices were heard; null: nobody looked.")
    audio_track: int | None = Field(
        description="Which audio track of its container was read, from 1, and is played; null: not known, of "
        "recordings that were taken in before this was kept."
    )
    audio_tracks: int | None = Field(description="How many audio tracks there were; null: not known.")
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


class PossibleSecondVoice(View):
    """A stretch of a recording that was enrolled as one voice, and may be somebody else's: listen to it."""

    start_s: float = Field(description="From the beginning of the recording.")
    end_s: float
    cosine: float = Field(ge=-1, le=1, description="With the rest of the recording's speech.")

    @classmethod
    def of(cls, stretch: UnlikeStretch | None) -> "PossibleSecondVoice | None":
        """Return what was found; None where nothing was."""
        if stretch is None:
            return None
        start_s, end_s, cosine = stretch
        return cls(start_s=round(start_s, 3), end_s=round(end_s, 3), cosine=shown_cosine(cosine))


class TakenRecording(Recording):
    """A recording that was just taken in."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "warnings": [], "possible_second_voice": None}]}
    )

    warnings: list[str] = Field(description="What to know of it, as that several voices were heard.")
    possible_second_voice: PossibleSecondVoice | None = Field(
        default=None,
        description="What may be a second voice of one that is enrolled, where it is not sure that there is one; "
        "`warnings` say so too.",
    )


class UtteranceQuality(View):
    """How good an utterance is to tell a voice by."""

    net_speech_s: float = Field(description="Seconds in which somebody speaks.")
    snr_db: float | None = Field(description="Speech above the noise behind it, estimated.")
    clipped_share: float = Field(ge=0, le=1, description="Share of samples at full scale.")
    bandwidth_hz: float = Field(description="Where the spectrum of the speech ends; a telephone's does below 4300.")
    level_dbfs: float = Field(description="Root mean square of the speech, below full scale.")


class Utterance(View):
    """A stretch of one voice."""

    id: int
    channel: int | None = Field(description="Number from 0; null: the mix of all.")
    start_s: float
    end_s: float
    voice: int | None = Field(description="Whose it is, numbered within the recording; null: nobody looked.")
    quality: UtteranceQuality | None = Field(description="Null: nobody looked.")
    speakers: list[str]


class RecordingDetail(Recording):
    """A recording with every stretch that was embedded."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "utterances": [
                        {
                            "id": 7,
                            "channel": None,
                            "start_s": 0.0,
                            "end_s": 10.0,
                            "voice": 0,
                            "quality": {
                                "net_speech_s": 9.1,
                                "snr_db": 24.5,
                                "clipped_share": 0.0,
                                "bandwidth_hz": 7900.0,
                                "level_dbfs": -22.8,
                            },
                            "speakers": ["Ann Lee"],
                        }
                    ],
                }
            ]
        }
    )

    utterances: list[Utterance]
