"""What requests with a recording have in common."""

from voxdex_client.audio import Audio, Body, Recording
from voxdex_client.requests import Query, Sent


def with_audio(audio: Audio, path: dict[str, str | int], query: Query, key: str | None = None) -> Sent:
    """Return a request that sends a recording as its body."""
    recording = Recording(audio)
    return Sent(path=path, query={**query, "filename": recording.name}, body=Body.raw(recording), key=key)
