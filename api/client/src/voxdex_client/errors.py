"""What can go wrong, as types: the service answers with problem documents (RFC 9457), each with a stable code."""

import email.utils
import time
from typing import Any

import httpx


class VoxdexError(Exception):
    """Root of everything this package raises on purpose."""


class ConnectionFailed(VoxdexError):
    """The service could not be reached, or the connection broke and no further try was left."""


class UnexpectedAnswer(VoxdexError):
    """Something answered that is not this version of the service (a proxy, another server)."""


class WaitTimeout(VoxdexError):
    """The job had not ended when the time to wait for it was over; it goes on."""


class WebhookVerificationError(VoxdexError):
    """A webhook is unsigned, signed by somebody else, damaged or too old: do not act on it."""


class ApiError(VoxdexError):
    """The service refused or failed.

    Attributes
    ----------
    status : int
        HTTP status.
    code : str
        Stable, machine-readable name, as in `not-found`.
    detail : str
        What happened, with values, limits and the remedy, for people.
    request_id : str or None
        What the service calls this request in its log.
    retry_after : float or None
        Seconds after which the service asks to be tried again.
    problem : dict
        The whole problem document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        problem: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.problem = problem or {}


class InvalidRequest(ApiError):
    """The request has no meaning: an unknown option, a value out of range."""


class InvalidAudio(ApiError):
    """The recording cannot be used (too short, too large, corrupt, not audio); another recording can."""


class Unauthenticated(ApiError):
    """No key, or none that the service knows."""


class AccessDenied(ApiError):
    """The key may not do this."""


class NotFound(ApiError):
    """The gallery, speaker, recording or job does not exist, or the key does not open it."""


class Conflict(ApiError):
    """The request contradicts what is stored: a name is taken, another encoder is needed, consent is missing."""


class RateLimited(ApiError):
    """The key's requests of this minute are used up."""


class Unavailable(ApiError):
    """The service cannot answer now; the same request may succeed later."""


class ServerError(ApiError):
    """The service failed; its log knows more under the request's id."""


_AUDIO_CODES = frozenset(
    {
        "invalid-audio",
        "unsupported-format",
        "corrupt-audio",
        "audio-too-short",
        "not-enough-speech",
        "no-speech",
        "too-noisy",
        "payload-too-large",
        "worker-lost",
    }
)
_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthenticated,
    403: AccessDenied,
    404: NotFound,
    410: NotFound,
    409: Conflict,
    413: InvalidAudio,
    415: InvalidAudio,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(response: httpx.Response) -> ApiError:
    """Turn an answer of status 400 or above, whose body has been read, into the error to raise."""
    try:
        document = response.json()
    except ValueError:
        document = None
    problem: dict[str, Any] = document if isinstance(document, dict) else {}
    status = response.status_code
    code = str(problem.get("code") or f"http-{status}")
    detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase or "no reason given")
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else InvalidRequest)
    if code in _AUDIO_CODES:
        kind = InvalidAudio
    return kind(
        status,
        code,
        detail,
        request_id=problem.get("request_id") or response.headers.get("x-request-id"),
        retry_after=retry_after_of(response),
        problem=problem,
    )


def retry_after_of(response: httpx.Response) -> float | None:
    """Seconds that `Retry-After` asks to wait, given as seconds or as a date; None where it is absent or garbled."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
