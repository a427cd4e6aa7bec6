"""Celery's beat with this project's logging."""

from typing import Any

from celery import signals

from indexer.settings import Settings
from worker.app import make_app


def run_beat(settings: Settings) -> None:
    """Send the sweep regularly until SIGTERM or SIGINT; a broker that is away is waited for."""
    signals.setup_logging.connect(keep_logging, weak=False)
    make_app(settings).Beat(quiet=True).run()


def keep_logging(**_: Any) -> None:
    """Tell Celery that logging is set up already."""
