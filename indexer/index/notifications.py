"""Hear of changes from Postgres the moment they are committed."""

import logging
import threading
from typing import Any

from sqlalchemy import Engine

from indexer.db.changes import CHANNEL

logger = logging.getLogger(__name__)

_LOOK_S = 0.2
"""How long one wait for the server lasts; closing takes no longer."""

_PAUSE_S = (0.5, 15.0)
"""First and longest pause before another connection is tried."""


class ChangeListener:
    """One connection that listens, in a thread of its own; it is made again whenever it is lost.

    Parameters
    ----------
    engine : Engine
        The record, on Postgres.
    heard : threading.Event
        Set at each notification, and whenever some may have been missed.
    """

    def __init__(self, engine: Engine, heard: threading.Event) -> None:
        self._engine = engine
        self._heard = heard
        self._listening = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s, longest_s = _PAUSE_S
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception as error:  # of the driver, the pool or the network: the record is polled meanwhile
                logger.warning("changes are not heard of, only looked for: %s", type(error).__name__, exc_info=error)
            if self._listening:
                pause_s = _PAUSE_S[0]
            self._listening = False
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def _listen(self) -> None:
        # Of the pool's making and not of the pool: it stays in use as long as this process listens.
        lent = self._engine.raw_connection()
        connection: Any = lent.dbapi_connection
        lent.detach()
        try:
            connection.rollback()
            connection.autocommit = True
            connection.execute(f"LISTEN {CHANNEL}")
            self._listening = True
            self._heard.set()
            while not self._stop.is_set():
                for _ in connection.notifies(timeout=_LOOK_S, stop_after=1):
                    self._heard.set()
        finally:
            lent.close()
