"""Who speaks in a stored recording, over the API."""

from typing import Literal

from pydantic import ConfigDict, Field

from api.schemas.common import View
from api.schemas.voices import Candidate, OperatingPoint, Turn


class RecordedVoice(View):
    """One voice of a stored recording."""

    voice: int | None = Field(description="Number within the recording, from 0; null: nobody told its voices apart.")
    channel: int | None = Field(description="Number from 0 where channels were kept apart.")
    speech_s: float = Field(description="Seconds of speech that were embedded.")
    turns: list[Turn] = Field(description="When it speaks, in order of time.")
    speakers: list[str] = Field(description="Whom it is enrolled as.")
    unknown_voice: str | None = Field(description="The unknown voice that it was found to be.")
    decision: Literal["enrolled", "identified", "possible", "unknown", "not_enough_speech"] = Field(
        description="`enrolled`: somebody said whose voice it is, so nothing is decided."
    )
    speaker: str | None = Field(description="Who it is; null unless enrolled or identified.")
    candidates: list[Candidate] = Field(description="Best first; empty where nothing is decided.")
    operating_point: OperatingPoint | None = Field(description="Null where nothing is decided.")
    warnings: list[str]


class RecordingVoices(View):
    """Who speaks when in a stored recording."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "duration_s": 9.5,
                    "voices": [
                        {
                            "voice": 0,
                            "channel": None,
                            "speech_s": 6.0,
                            "turns": [{"start_s": 0.3, "end_s": 6.3}],
                            "speakers": ["Ann Lee"],
                            "unknown_voice": None,
                            "decision": "enrolled",
                            "speaker": "Ann Lee",
                            "candidates": [],
                            "operating_point": None,
                            "warnings": [],
                        }
                    ],
                }
            ]
        }
    )

    duration_s: float | None
    voices: list[RecordedVoice] = Field(description="Whoever speaks most comes first.")
