"""How an upload is to be listened to, as the parameters of a query; what is left out is the setting's."""

from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from api.schemas.common import Text


async def _how(
    channels: Annotated[
        Text | None,
        Query(
            max_length=16,
            description="mix, left, right, a channel number, or each (which no enrollment can be where several "
            "channels hold sound). Left out: the setting; for a recording that is there already, as it is kept.",
        ),
    ] = None,
    speakers: Annotated[
        Text | None,
        Query(
            max_length=16,
            description="Voices of the recording: auto (found), one, channels (one a channel), or how many. "
            "Left out: the setting.",
        ),
    ] = None,
    speech: Annotated[
        Literal["auto", "off"] | None,
        Query(description="auto: speech is found; off: all that sounds is taken for it. Left out: the setting."),
    ] = None,
    min_speech_s: Annotated[
        float | None,
        Query(
            ge=0,
            le=3600,
            allow_inf_nan=False,
            description="Least speech that a voice is enrolled with. Left out: the setting.",
        ),
    ] = None,
) -> dict[str, Any]:
    return {"channels": channels, "speakers": speakers, "speech": speech, "min_speech_s": min_speech_s}


How = Annotated[dict[str, Any], Depends(_how)]
"""As `Intake.take` wants it."""
