"""Named queries about messages to the outside: one for each end of a job that somebody asked to hear of."""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from indexer.db.models import Job, JobState, WebhookDelivery, utc_now

ENDED = frozenset({JobState.SUCCEEDED, JobState.SUCCEEDED_WITH_ERRORS, JobState.FAILED, JobState.CANCELED})
"""States in which nothing more happens to a job."""


@dataclass(frozen=True)
class ClaimedDelivery:
    """A message that this process alone may send now."""

    id: int
    message_id: str
    url: str
    payload: dict[str, Any]
    attempt: int
    """1 for the first."""


class Deliveries:
    """Messages about ended jobs, until their receivers took them or the tries are used up."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job: Job) -> None:
        """Note that a job's end is to be reported; call it in the transaction that ends the job, after its last change.

        A job without `webhook_url` needs no report. One that ended before and was taken up again gets a message of its
        own, whatever became of the first; the same end noted twice stays one message.
        """
        self._session.flush()
        self._session.refresh(job)  # The counters may have been changed by statements that the object has not seen.
        if job.webhook_url is None:
            return
        payload = _payload(job)
        last = (
            select(WebhookDelivery.payload)
            .where(WebhookDelivery.job_id == job.id)
            .order_by(WebhookDelivery.id.desc())
            .limit(1)
        )
        if self._session.scalars(last).one_or_none() == payload:
            return
        message_id = f"msg_{uuid.uuid4().hex}"
        self._session.add(WebhookDelivery(job_id=job.id, url=job.webhook_url, payload=payload, message_id=message_id))
        self._session.flush()

    def any_due(self, now: dt.datetime) -> bool:
        """Tell whether a message waits whose time has come."""
        return self._session.scalar(select(WebhookDelivery.id).where(*_due(now)).limit(1)) is not None

    def claim_due(
        self, now: dt.datetime, *, until: dt.datetime, attempts: int, limit: int
    ) -> Sequence[ClaimedDelivery]:
        """Take messages that are due, so that no other process sends them before `until`.

        Parameters
        ----------
        until : datetime
            When a claim whose holder died may be taken by somebody else.
        attempts : int
            Most tries; a message whose last holder died is given up here.
        limit : int
            Most messages to take.
        """
        self._session.execute(
            update(WebhookDelivery)
            .where(*_due(now), WebhookDelivery.attempts >= attempts)
            .values(next_attempt_at=None, last_error="the process that sent it stopped")
            .execution_options(synchronize_session=False)
        )
        chosen = (
            select(WebhookDelivery.id)
            .where(*_due(now))
            .order_by(WebhookDelivery.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)  # Nothing on SQLite, where only one transaction writes at a time.
        )
        taken = self._session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id.in_(chosen.scalar_subquery()))
            .values(attempts=WebhookDelivery.attempts + 1, next_attempt_at=until)
            .returning(
                WebhookDelivery.id,
                WebhookDelivery.message_id,
                WebhookDelivery.url,
                WebhookDelivery.payload,
                WebhookDelivery.attempts,
            )
            .execution_options(synchronize_session=False)
        )
        return [ClaimedDelivery(*row) for row in taken]

    def delivered(self, claim: ClaimedDelivery) -> None:
        """State that the receiver took a message."""
        self._end(claim, delivered_at=utc_now(), next_attempt_at=None, last_error=None)

    def failed(self, claim: ClaimedDelivery, error: str, *, next_attempt_at: dt.datetime | None) -> None:
        """State why a message was not taken, and when it is tried again; None gives it up."""
        self._end(claim, next_attempt_at=next_attempt_at, last_error=error[:500])

    def _end(self, claim: ClaimedDelivery, **values: Any) -> None:
        # A claim that ran out has another attempt: leave it alone.
        self._session.execute(
            update(WebhookDelivery)
            .where(
                WebhookDelivery.id == claim.id,
                WebhookDelivery.attempts == claim.attempt,
            )
            .values(**values)
            .execution_options(synchronize_session=False)
        )


def _due(now: dt.datetime) -> tuple[ColumnElement[bool], ...]:
    return (WebhookDelivery.delivered_at.is_(None), WebhookDelivery.next_attempt_at <= now)


def _payload(job: Job) -> dict[str, Any]:
    """Tell counts and ids; names and paths stay here, for they can name a person."""
    if job.state not in ENDED or job.finished_at is None:
        raise ValueError(f"job {job.id} is {job.state} and has not ended")
    return {
        "type": f"job.{job.state.value}",
        "timestamp": job.finished_at.isoformat(),
        "data": {
            "job_id": job.id,
            "gallery_id": job.gallery_id,
            "state": job.state.value,
            "found": job.found,
            "done": job.done,
            "duplicate": job.duplicate,
            "failed": job.failed,
            "audio_s": round(job.audio_s, 3),
            "speech_s": round(job.speech_s, 3),
            "created_at": job.created_at.isoformat(),
            "finished_at": job.finished_at.isoformat(),
        },
    }
