"""Typed client of the voxdex service: speaker search over large audio archives."""

from voxdex_client import errors, models
from voxdex_client.webhooks import verify_webhook

__all__ = ["errors", "models", "verify_webhook"]
