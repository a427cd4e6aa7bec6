"""Keys over the API."""

import datetime as dt
from typing import Annotated

from pydantic import ConfigDict, Field

from api.keys import Scope
from api.schemas.common import Body, Name, View

RateLimit = Annotated[
    int | None, Field(ge=1, le=1_000_000, description="Requests of a minute; null: the service's setting.")
]


class KeyRequest(Body):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"scopes": ["identify"], "gallery": "calls", "name": "call center"},
                {"scopes": ["admin"]},
            ]
        }
    )

    scopes: list[Scope] = Field(
        min_length=1, max_length=5, description="write includes read; admin includes all but embeddings."
    )
    gallery: Name | None = Field(default=None, description="The one gallery it opens; null: every gallery.")
    name: Name | None = Field(default=None, description="What people call it.")
    rate_limit_per_minute: RateLimit = None


class Key(View):
    """A key, without its secret."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "public_id": "4f1d0c9be27a3b58",
                    "name": "call center",
                    "scopes": ["identify"],
                    "gallery": "calls",
                    "rate_limit_per_minute": None,
                    "created_at": "2026-01-31T09:00:00Z",
                    "last_used_at": None,
                    "revoked_at": None,
                }
            ]
        }
    )

    public_id: str
    name: str
    scopes: list[Scope]
    gallery: str | None
    rate_limit_per_minute: int | None
    created_at: dt.datetime
    last_used_at: dt.datetime | None = Field(description="To the minute.")
    revoked_at: dt.datetime | None


class CreatedKey(Key):
    """A key that was just made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "key": "vdx_4f1d0c9be27a3b58_" + "x" * 43,
                    "public_id": "4f1d0c9be27a3b58",
                    "name": "call center",
                    "scopes": ["identify"],
                    "gallery": "calls",
                    "rate_limit_per_minute": None,
                    "created_at": "2026-01-31T09:00:00Z",
                    "last_used_at": None,
                    "revoked_at": None,
                }
            ]
        }
    )

    key: str = Field(description="The whole key; shown this once, and kept nowhere.")
