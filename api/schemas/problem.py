"""What an error says: RFC 9457, with a stable code."""

from pydantic import BaseModel, ConfigDict, Field


class InvalidField(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(extra="forbid")

    location: str = Field(description="Where: body, query, path or header, then the field.", examples=["body.name"])
    message: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """An error, as RFC 9457 writes it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:voxdex:problem:not-found",
                    "title": "Not found",
                    "status": 404,
                    "detail": "no gallery 'calls'",
                    "code": "not-found",
                    "request_id": "5f0c2a9e4d7b4c55",
                }
            ]
        },
    )

    type: str = Field(description="`urn:voxdex:problem:` and the code; stable.")
    title: str = Field(description="The kind of error in words.")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What is wrong with this request, and what to do about it.")
    code: str = Field(description="The kind of error; stable, for programs.")
    request_id: str | None = Field(default=None, description="Also in every log line about this request.")
    errors: list[InvalidField] | None = Field(default=None, description="Each field that is wrong.")
    speech_s: float | None = Field(default=None, description="Seconds of speech, where there are too few to enroll.")
    needed_s: float | None = Field(default=None, description="Seconds that are needed then.")
