"""Verification of the messages that the service sends at the end of a job (Standard Webhooks)."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

from pydantic import ValidationError

from voxdex_client.errors import WebhookVerificationError
from voxdex_client.models import WebhookEvent

TOLERANCE_S = 300.0
"""Oldest and most future timestamp that is accepted, so that a captured message cannot be replayed later."""


def verify_webhook(
    secret: str, body: bytes | str, headers: Mapping[str, str], *, tolerance_s: float = TOLERANCE_S
) -> WebhookEvent:
    """Check that a message comes from the holder of the secret and is fresh, and return what it says.

    Deliver it once: remember `event.id` (the header `webhook-id`), for a message whose answer was lost comes again.

    Parameters
    ----------
    secret : str
        The service's VOXDEX_WEBHOOKS__SECRET: `whsec_` and base64.
    body : bytes or str
        The request's body as it came, before any parsing: the signature is over its bytes.
    headers : mapping
        The request's headers, in any case.
    tolerance_s : float
        Seconds that the two clocks may differ by, transport included.

    Raises
    ------
    WebhookVerificationError
        If a header is missing, the signature does not match, or the timestamp is outside the tolerance.
    ValueError
        If the secret is not `whsec_` and base64.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"]
    except KeyError as error:
        raise WebhookVerificationError(f"the header {error.args[0]} is missing") from None
    if not timestamp.isdecimal() or len(timestamp) > 15:
        raise WebhookVerificationError("the header webhook-timestamp is not a number of seconds")
    raw = body.encode() if isinstance(body, str) else body
    signed = message_id.encode() + b"." + timestamp.encode() + b"." + raw
    expected = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    # Several signatures while a secret is being replaced; each comparison takes constant time.
    if not any(hmac.compare_digest(expected, signature) for signature in _signatures(signatures)):
        raise WebhookVerificationError("no signature matches: another secret, or a changed body")
    if abs(time.time() - int(timestamp)) > tolerance_s:
        raise WebhookVerificationError(f"the message is not from the last {tolerance_s:g} s")
    try:
        return WebhookEvent.from_message(message_id, raw)
    except ValidationError as error:
        raise WebhookVerificationError(f"the message is signed and not understood: {error}") from error


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("the webhook secret is not whsec_ and base64") from error
    if not key:
        raise ValueError("the webhook secret is empty")
    return key


def _signatures(header: str) -> list[bytes]:
    found = []
    for part in header.split():
        version, _, value = part.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(value, validate=True))
            except binascii.Error:
                continue
    return found
