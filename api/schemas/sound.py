"""What recordings sound and look like, over the API."""

from pydantic import ConfigDict, Field, JsonValue

from api.schemas.common import View
from api.schemas.voices import Turn

_PEAKS: list[JsonValue] = [0.02, 0.61, 0.44, 0.03]


class WaveformView(View):
    """How loud a stored recording is along its length."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"start_s": 0.0, "end_s": 9.5, "peaks": _PEAKS, "issues": []}]}
    )

    start_s: float
    end_s: float
    peaks: list[float] = Field(description="Largest magnitude of each of so many equal parts, from 0 to 1.")
    issues: list[str] = Field(description="Why it was read in part only; empty where all of it was.")


class Inspection(WaveformView):
    """What a recording is, how loud along its length, and where somebody speaks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "start_s": 0.0,
                    "end_s": 9.5,
                    "peaks": _PEAKS,
                    "issues": [],
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
