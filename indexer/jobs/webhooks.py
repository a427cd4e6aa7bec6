"""Messages about the end of jobs: signed by the Standard Webhooks convention, sent until they are taken.

A message is a row that is written with the job's end; whichever process calls `deliver_due` next claims it, so a
message is lost with no process and sent by one at a time. A receiver may still see a message twice (it took it and the
answer was lost on the way): `webhook-id` stays the same, and tells.
"""

import asyncio
import base64
import datetime as dt
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from standardwebhooks import Webhook

from indexer.addresses import require_public_literal, resolve
from indexer.db.models import utc_now
from indexer.db.session import Database
from indexer.db.webhooks import ClaimedDelivery, Deliveries
from indexer.errors import InvalidRequest, Unavailable, one_line
from indexer.settings import Settings, WebhookSettings

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Longest that a receiver may take for everything: name look-up, connection, answer."""

BACKOFF_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0)
"""Waits between tries, each lengthened by up to `JITTER` of itself; the last one repeats."""

JITTER = 0.2
AT_ONCE = 32
"""Messages that one call sends side by side."""

_CLAIM_S = 300.0
"""How long a message stays with the process that took it: far longer than sending takes, name look-ups included."""

_MAX_URL = 2000
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64
"""Key material that the Standard Webhooks specification asks for."""


@dataclass(frozen=True)
class DeliveryReport:
    """What became of the messages that were due."""

    delivered: int = 0
    postponed: int = 0
    given_up: int = 0


class _RefusedError(Exception):
    """The receiver will never take this message, so that trying again is pointless."""


def require_receiver(url: str, settings: WebhookSettings) -> str:
    """Check a URL that a job's end is to be reported to, before the job is accepted.

    Names are not resolved here: what is behind them counts when they are called, and is checked then.

    Returns
    -------
    str
        The URL.

    Raises
    ------
    InvalidRequest
        If no signing secret is set, or if the URL is not one that may be called.
    """
    _signer(settings)
    refusal = f"webhook_url {url[:_MAX_URL]!r}"
    if len(url) > _MAX_URL:
        raise InvalidRequest(f"{refusal} has {len(url)} characters where {_MAX_URL} are kept: shorten it")
    try:
        parts, target = urlsplit(url), httpx.URL(url)
        host, _ = target.host, parts.port  # Both are read from the text only now.
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidRequest(f"{refusal} is no URL ({error}): write https://host/path") from error
    if parts.scheme not in ("https", "http") or not host:
        raise InvalidRequest(f"{refusal} is no web address: write https://host/path")
    if target.userinfo:
        raise InvalidRequest("webhook_url holds a user or a password, which would be stored: leave them out")
    if not settings.allow_private:
        remedy = "or set VOXDEX_WEBHOOKS__ALLOW_PRIVATE=true where receivers are trusted"
        if parts.scheme != "https":
            raise InvalidRequest(f"{refusal} is not encrypted: write https://, {remedy}")
        try:
            require_public_literal(host)
        except InvalidRequest as error:
            raise InvalidRequest(f"{refusal}: {error}; name a public receiver, {remedy}") from error
    return url


def deliver_due(database: Database, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> DeliveryReport:
    """Send the messages whose time has come; any number of processes may call it at once.

    Parameters
    ----------
    timeout_s : float
        Longest that one receiver may take; messages are sent side by side, so a call takes about as long at most.

    Raises
    ------
    Unavailable
        If the database cannot be reached; claimed messages are tried again some minutes later.
    """
    if settings.webhooks.secret is None:
        return DeliveryReport()  # Messages of a time when there was a secret wait for it to come back.
    try:
        signer = _signer(settings.webhooks)
    except InvalidRequest:  # Refused where a job is posted; whoever calls here has other things to do as well.
        logger.error("webhooks wait: VOXDEX_WEBHOOKS__SECRET cannot be used")
        return DeliveryReport()
    now = utc_now()
    with database.read_scope() as session:
        if not Deliveries(session).any_due(now):
            return DeliveryReport()
    with database.session_scope() as session:
        claims = Deliveries(session).claim_due(
            now, until=now + dt.timedelta(seconds=_CLAIM_S), attempts=settings.webhooks.attempts, limit=AT_ONCE
        )
    if not claims:
        return DeliveryReport()
    outcomes = asyncio.run(_send_all(claims, signer, settings.webhooks, timeout_s))
    return _record(database, settings.webhooks, claims, outcomes)


def _record(
    database: Database,
    settings: WebhookSettings,
    claims: Sequence[ClaimedDelivery],
    outcomes: Sequence[Exception | None],
) -> DeliveryReport:
    delivered = postponed = given_up = 0
    with database.session_scope() as session:
        deliveries = Deliveries(session)
        for claim, error in zip(claims, outcomes, strict=True):
            if error is None:
                deliveries.delivered(claim)
                delivered += 1
                continue
            final = isinstance(error, _RefusedError) or claim.attempt >= settings.attempts
            deliveries.failed(claim, one_line(error), next_attempt_at=None if final else _next_attempt(claim.attempt))
            given_up, postponed = given_up + final, postponed + (not final)
            # Reasons can hold the URL, which stays out of the log: many receivers put a secret into it.
            logger.warning(
                "webhook %s, attempt %d of %d: %s; %s",
                claim.message_id,
                claim.attempt,
                settings.attempts,
                "refused" if isinstance(error, _RefusedError) else "not taken",
                "given up" if final else "tried again later",
            )
    return DeliveryReport(delivered, postponed, given_up)


def _next_attempt(attempt: int) -> dt.datetime:
    wait_s = BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1]
    return utc_now() + dt.timedelta(seconds=wait_s * random.uniform(1, 1 + JITTER))


def _signer(settings: WebhookSettings) -> Webhook:
    if settings.secret is None:
        raise InvalidRequest("webhook_url is given and no webhook can be signed: set VOXDEX_WEBHOOKS__SECRET first")
    remedy = "make one with `openssl rand -base64 32` and put whsec_ before it"
    encoded = settings.secret.get_secret_value().removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError as error:
        raise InvalidRequest(f"VOXDEX_WEBHOOKS__SECRET is not whsec_ and base64: {remedy}") from error
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise InvalidRequest(
            f"VOXDEX_WEBHOOKS__SECRET holds {len(key)} bytes where {_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES} are "
            f"asked for: {remedy}"
        )
    return Webhook(key)


async def _send_all(
    claims: Sequence[ClaimedDelivery], signer: Webhook, settings: WebhookSettings, timeout_s: float
) -> list[Exception | None]:
    # No proxies and no .netrc of the environment: the address that was checked is the one that is called. No
    # connection is used twice, for it would be found by its address and belong to another name behind it.
    async with httpx.AsyncClient(
        verify=httpx.create_ssl_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=timeout_s,
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as client:
        return await asyncio.gather(*(_attempt(client, claim, signer, settings, timeout_s) for claim in claims))


async def _attempt(
    client: httpx.AsyncClient, claim: ClaimedDelivery, signer: Webhook, settings: WebhookSettings, timeout_s: float
) -> Exception | None:
    try:
        async with asyncio.timeout(timeout_s):  # httpx limits each read; a receiver that trickles would hold us longer
            await _send(client, claim, signer, settings)
    except TimeoutError:
        return Unavailable(f"no answer within {timeout_s:g} s")
    except httpx.HTTPError as error:
        # Its message can repeat the URL, which is nobody's business but the receiver's.
        return Unavailable(f"the receiver cannot be reached ({type(error).__name__})")
    except (_RefusedError, Unavailable) as error:
        return error
    except Exception as error:  # Of one message; what became of the others must be written.
        logger.exception("webhook %s: unforeseen failure", claim.message_id)
        return Unavailable(f"sending failed unexpectedly ({type(error).__name__})")
    return None


async def _send(client: httpx.AsyncClient, claim: ClaimedDelivery, signer: Webhook, settings: WebhookSettings) -> None:
    try:
        url = httpx.URL(require_receiver(claim.url, settings))  # The rule may have become stricter since it was stored.
        port = url.port or (443 if url.scheme == "https" else 80)
        name = url.raw_host.decode("ascii")
        addresses = await asyncio.to_thread(resolve, name, port, allow_private=settings.allow_private)
    except InvalidRequest as error:
        raise _RefusedError(one_line(error)) from error
    body = json.dumps(claim.payload, separators=(",", ":"), ensure_ascii=False)
    sent_at = utc_now()
    headers = {
        "content-type": "application/json",
        "user-agent": "voxdex-webhooks",
        "host": url.netloc.decode("ascii"),
        "webhook-id": claim.message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": signer.sign(claim.message_id, sent_at, body),
    }
    for position, address in enumerate(addresses):
        request = client.build_request(
            "POST",
            url.copy_with(host=address),  # The address that was checked; the certificate is that of the name.
            headers=headers,
            content=body.encode(),
            extensions={"sni_hostname": name},
        )
        try:
            response = await client.send(request, stream=True)  # The body is not read: only the status counts.
        except httpx.ConnectError:
            if position + 1 == len(addresses):
                raise
            continue
        await response.aclose()
        if response.status_code == httpx.codes.GONE:
            raise _RefusedError("the receiver answered 410: it wants no more messages")
        if not response.is_success:
            raise Unavailable(f"the receiver answered {response.status_code}")
        return
