"""What recordings sound and look like, over the API."""

from typing import Any, Self

from pydantic import ConfigDict, Field, JsonValue

from api.schemas.common import View
from api.schemas.voices import Turn
from indexer.audio.outline import Outline
from indexer.audio.remarks import remarks

_PEAKS: list[JsonValue] = [0.02, 0.61, 0.44, 0.03]


_EXAMPLE: dict[str, JsonValue] = {
    "start_s": 0.0,
    "end_s": 9.5,
    "peaks": _PEAKS,
    "issues": [],
    "audio_track": 1,
    "audio_tracks": 1,
}


class WaveformView(View):
    """How loud a stored recording is along its length."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    start_s: float
    end_s: float
    peaks: list[float] = Field(description="Largest magnitude of each of so many equal parts, from 0 to 1.")
    issues: list[str] = Field(
        description="Why it was read in part only, and which of several audio tracks was; empty where all of it was."
    )
    audio_track: int = Field(description="Which audio track of its container was looked at, from 1.")
    audio_tracks: int = Field(description="How many audio tracks there are.")

    @classmethod
    def of(cls, found: Outline, **beside: Any) -> Self:
        """Show what a recording looks like; `beside` is what a subclass shows beside that."""
        return cls(
            start_s=found.start_s,
            end_s=found.end_s,
            peaks=found.peaks.tolist(),
            issues=list(remarks(found.info, found.issues)),
            audio_track=found.info.track,
            audio_tracks=found.info.audio_tracks,
            **beside,
        )


class Inspection(WaveformView):
    """What a recording is, how loud along its length, and where somebody speaks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "sample_rate_hz": 8000,
                    "channels": 1,
                    "container": "wav",
                    "codec": "mulaw",
                    "speech": [{"start_s": 0.3, "end_s": 6.3}],
                    "speech_s": 6.0,
                }
            ]
        }
    )

    sample_rate_hz: int
    channels: int
    container: str
    codec: str
    speech: list[Turn] = Field(description="Where somebody speaks, in order of time.")
    speech_s: float = Field(description="Seconds of it.")
