"""Sessions of browsers over the API."""

import datetime as dt
from typing import Literal

from pydantic import ConfigDict, Field

from api.keys import Scope
from api.schemas.common import Body, Text, View


class SignIn(Body):
    """The key to sign in with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": "vdx_4f1d0c9be27a3b58_" + "x" * 43}]})

    key: Text = Field(min_length=1, max_length=200, description="The whole key.")


class Session(View):
    """Who asks, and what they may."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "state": "signed_in",
                    "key": "4f1d0c9be27a3b58",
                    "name": "call center",
                    "scopes": ["read", "identify"],
                    "gallery": "calls",
                    "expires_at": "2026-01-31T21:00:00Z",
                    "version": "0.1.0",
                }
            ]
        }
    )

    state: Literal["open", "signed_in", "signed_out"] = Field(
        description="`open`: no key is needed. `signed_out`: one is, and there is none in force."
    )
    key: str | None = Field(description="Public id of the key; null where there is none.")
    name: str | None = Field(description="What people call the key.")
    scopes: list[Scope] = Field(description="What may be done, the implied scopes included.")
    gallery: str | None = Field(description="The one gallery that is seen; null: every gallery.")
    expires_at: dt.datetime | None = Field(description="When the browser's session ends; null where a key was sent.")
    version: str = Field(description="Of voxdex.")
