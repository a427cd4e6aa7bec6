"""Work that is written again when another transaction was in its way."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from indexer.db.session import Database
from indexer.errors import Conflict, EncoderChanged, Unavailable

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

TRIES = 5
_PAUSE_S = 0.02

_STATES = frozenset({"40001", "40P01"})
"""SQLSTATEs of a transaction that is to be repeated: serialization failure and deadlock."""


def in_transaction(database: Database, work: Callable[[Session], Result], *, refusals: bool = False) -> Result:
    """Run `work` in a transaction of its own and commit; again, from the start, where another one was in its way.

    That is so after a deadlock, and where the record contradicts what `work` saw a moment ago (a content or a name
    that somebody else added meanwhile, a speaker that is gone): `work` must look anew each time.

    Parameters
    ----------
    refusals : bool
        Whether a Conflict that `work` raises itself is an answer and not a contradiction, so that it is raised at once.

    Raises
    ------
    Conflict
        If it is contradicted every time, or `work` refuses.
    EncoderChanged
        At once: the vectors that `work` has are of no use any more.
    Unavailable
        If the database cannot be reached, or `TRIES` deadlocks followed one another.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with database.session_scope() as session:
                return work(session)
        except EncoderChanged:
            raise
        except (Conflict, Unavailable) as error:
            again = _is_deadlock(error) if isinstance(error, Unavailable) else not refusals or _is_contradicted(error)
            if attempt == TRIES or not again:
                raise
            logger.info("transaction repeated: %s", type(error.__cause__ or error).__name__)
            time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))
    raise AssertionError("unreachable")


def _is_contradicted(error: Conflict) -> bool:
    return isinstance(error.__cause__, IntegrityError)


def _is_deadlock(error: Unavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) in _STATES
