"""Settings and environment of what is measured: the user's own, but for the record, which is thrown away afterwards."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from indexer.embedding.user_encoders import UserEncoders
from indexer.settings import (
    BrokerSettings,
    DatabaseSettings,
    IndexSettings,
    MediaSettings,
    ProbeSettings,
    Settings,
    WebhookSettings,
)

_ELSEWHERE = ("DATABASE", "BROKER", "MEDIA", "WEBHOOKS", "API", "PROBES")
"""Groups that name what the installation shares with others, or who may ask it."""


def make_own_home(settings: Settings, home: Path) -> Settings:
    """Return the settings with a home of its own on SQLite, in which the user's encoders have their names too.

    What a Milvus would search, faiss does: nothing is left behind there.
    """
    home.mkdir(parents=True, exist_ok=True)
    named = UserEncoders(settings.home).path
    if named.is_file():
        shutil.copy(named, UserEncoders(home).path)
    index = settings.index
    if index.engine == "milvus":
        index = index.model_copy(update={"engine": IndexSettings().engine})
    return settings.model_copy(
        update={
            "home": home,
            "database": DatabaseSettings(),
            "broker": BrokerSettings(),
            "media": MediaSettings(),
            "webhooks": WebhookSettings(),
            "probes": ProbeSettings(),
            "index": index,
        }
    )


def environment_of(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables with which another process has the settings of `make_own_home`, however the user's are written.

    A group may be one variable in JSON or one a field, in letters of either case.
    """
    elsewhere = tuple(f"VOXDEX_{group}" for group in (*_ELSEWHERE, "HOME", "CACHE"))
    kept = {name: value for name, value in environment.items() if not name.upper().startswith(elsewhere)}
    return {
        **kept,
        "VOXDEX_HOME": str(settings.home),
        "VOXDEX_CACHE": str(settings.cache.absolute()),
        "VOXDEX_INDEX__ENGINE": settings.index.engine,
    }
