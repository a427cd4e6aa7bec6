"""The service itself, and the keys that open it."""

from collections.abc import Sequence
from typing import Any

from voxdex_client import models
from voxdex_client.requests import Sent, route


@route("POST", "/v1/keys", models.CreatedKey, keyed=True)
def create_key(
    scopes: Sequence[models.Scope],
    *,
    name: str | None = None,
    gallery: str | None = None,
    rate_limit_per_minute: int | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Make an API key; its secret is in the answer and never shown again."""
    fields = {
        "name": name,
        "scopes": list(scopes),
        "gallery": gallery,
        "rate_limit_per_minute": rate_limit_per_minute,
    }
    return Sent(json=fields, key=idempotency_key)


@route("GET", "/v1/keys", models.Page[models.Key])
def list_keys(*, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List the API keys, without their secrets."""
    return Sent(query={"limit": limit, "cursor": cursor})


@route("DELETE", "/v1/keys/{public_id}", models.Key)
def revoke_key(public_id: str) -> Sent:
    """Revoke an API key."""
    return Sent(path={"public_id": public_id})


@route("GET", "/v1/session", models.Session)
def session() -> Sent:
    """Tell who asks and what they may; answered without a key too."""
    return Sent()


@route("GET", "/v1/encoders", models.Encoders)
def encoders() -> Sent:
    """List the encoders that the service knows."""
    return Sent()


@route("GET", "/v1/system", models.System)
def system() -> Sent:
    """Tell what the process that answers is made of and how it is."""
    return Sent()


@route("GET", "/v1/stats", models.Stats)
def stats() -> Sent:
    """Count what is stored in the galleries that the key opens."""
    return Sent()


@route("GET", "/healthz", models.Alive)
def health() -> Sent:
    """Tell whether the service answers at all."""
    return Sent()


@route("GET", "/readyz", models.Readiness, also=frozenset({503}))
def readiness() -> Sent:
    """Tell whether the service can do its work; and which part is at fault where it cannot."""
    return Sent()


@route("GET", "/metrics", str)
def metrics() -> Sent:
    """Return the service's metrics in the text format of Prometheus."""
    return Sent()


@route("GET", "/v1/openapi.json", dict[str, Any])
def openapi() -> Sent:
    """Return the service's description of itself."""
    return Sent()
