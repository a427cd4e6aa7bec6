"""The time that leases are measured by."""

import datetime as dt

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from indexer.db.models import utc_now


def clock(session: Session) -> dt.datetime:
    """Return the database server's time, for the clocks of workers differ; this machine's where the record is a file.

    It goes on within a transaction.
    """
    if session.get_bind().dialect.name == "postgresql":
        now: dt.datetime = session.scalars(select(func.clock_timestamp())).one()
        return now.astimezone(dt.UTC)
    return utc_now()
