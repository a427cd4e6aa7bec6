"""Which source a job's document means."""

from collections.abc import Iterator
from dataclasses import dataclass

from indexer.archive import SpeakerRule, parse_speaker_rule
from indexer.audio.durations import UNKNOWN_S
from indexer.db.models import Job
from indexer.errors import InvalidRequest
from indexer.jobs.buckets import BucketSource, lister_of
from indexer.jobs.folders import FolderSource
from indexer.jobs.manifests import ManifestSource
from indexer.jobs.remote import fetched
from indexer.jobs.source import Cursor, JobOptions, Listed, Source, SourceEntry, UnusableEntry, require_allowed
from indexer.jobs.uris import local_path, rule_path, scheme_of
from indexer.settings import Settings


def open_source(job: Job, settings: Settings) -> Source:
    """Return what a job reads, if it may still be read.

    Raises
    ------
    AccessDenied
        If the list of sources has been narrowed since the job was accepted.
    """
    options, trusted = JobOptions.from_document(job.options), bool(job.options.get("trusted"))
    uri = require_allowed(job.source, settings.jobs, trusted=trusted)
    rule = parse_speaker_rule(options.speaker_from)

    def check(name: str) -> None:
        require_allowed(name, settings.jobs, trusted=trusted)

    if options.kind == "manifest":
        return ManifestSource(uri, lambda: fetched(uri, settings), rule, check)
    path = local_path(uri)
    if path is not None:
        return FolderSource(path, rule, check if settings.jobs.sources else None)
    if scheme_of(uri) in ("s3", "gs"):
        return BucketSource(uri, rule, lister_of(uri))
    return SingleSource(uri, rule)


@dataclass(frozen=True)
class SingleSource:
    """One file on a web server, which cannot be listed."""

    uri: str
    speaker_rule: SpeakerRule

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        """Give the one file."""
        if after is None:
            yield Listed(self._entry(), {"uri": self.uri})

    def _entry(self) -> SourceEntry | UnusableEntry:
        try:
            return SourceEntry(self.uri, self.speaker_rule(rule_path(self.uri)), estimated_s=UNKNOWN_S)
        except InvalidRequest as error:
            return UnusableEntry(self.uri, error)
