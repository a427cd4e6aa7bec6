"""Named queries that forget what other tables than a person's own say of them: answers that are repeated, and jobs."""

import re

from sqlalchemy import Select, delete, or_, select, update
from sqlalchemy.orm import Session

from indexer.db.jobs import Jobs
from indexer.db.models import IdempotentRequest, Job, JobItem
from indexer.db.names import canonical
from indexer.db.statements import batches
from indexer.types import GalleryId


class Traces:
    """What requests and jobs of one gallery say of people."""

    def __init__(self, session: Session, gallery_id: GalleryId) -> None:
        self._session = session
        self._gallery_id = gallery_id

    def forget_erased(self) -> None:
        """After an erasure: drop every answer that would be repeated, and the jobs whose every file was erased.

        An answer of the gallery may name whoever was erased, and so may one that is being made now. Whoever repeats a
        request from before finds the gallery as it is.
        """
        self._session.execute(
            delete(IdempotentRequest)
            .where(IdempotentRequest.gallery_id == self._gallery_id)
            .execution_options(synchronize_session=False)
        )
        Jobs(self._session).forget_emptied(self._gallery_id)

    def forget_name(self, name: str) -> None:
        """Let no file of a job say that a speaker is in it, nor its messages name them; a retry enrolls nobody."""
        self.rename(name, None)

    def rename(self, name: str, new_name: str | None) -> None:
        """Have the files of jobs follow a speaker's new name, so that it is found when the speaker is erased.

        Messages that name the speaker go: under the old name nobody would look for them any more.
        """
        self._forget_messages(canonical(name))
        self._session.execute(
            update(JobItem)
            .where(JobItem.job_id.in_(self._jobs()), JobItem.speaker == canonical(name))
            .values(speaker=canonical(new_name) if new_name is not None else None)
            .execution_options(synchronize_session=False)
        )
        self._session.expire_all()

    def _forget_messages(self, name: str) -> None:
        said = (JobItem.error_message, JobItem.notice)
        query = select(JobItem.id, *said).where(
            JobItem.job_id.in_(self._jobs()), or_(*(column.contains(name, autoescape=True) for column in said))
        )
        # A short name is a part of many words.
        named = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        rows = self._session.execute(query).all()
        found = [row.id for row in rows if named.search(f"{row.error_message or ''}\n{row.notice or ''}")]
        for some in batches(found):
            self._session.execute(
                update(JobItem)
                .where(JobItem.id.in_(some))
                .values(error_message=None, notice=None)
                .execution_options(synchronize_session=False)
            )

    def _jobs(self) -> "Select[int]":
        return select(Job.id).where(Job.gallery_id == self._gallery_id)
