"""Typed client of the voxdex service: speaker search over large audio archives."""

from voxdex_client import errors, models
from voxdex_client.aio import AsyncClient
from voxdex_client.audio import Audio
from voxdex_client.client import Client
from voxdex_client.requests import UNSET
from voxdex_client.transport import Retries
from voxdex_client.webhooks import verify_webhook

__all__ = ["UNSET", "AsyncClient", "Audio", "Client", "Retries", "errors", "models", "verify_webhook"]
