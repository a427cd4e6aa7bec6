"""Which source a job's document means."""

from indexer.archive import parse_speaker_rule
from indexer.db.models import Job
from indexer.errors import InvalidRequest
from indexer.jobs.folders import FolderSource
from indexer.jobs.manifests import ManifestSource
from indexer.jobs.remote import fetched
from indexer.jobs.source import JobOptions, Source, require_allowed
from indexer.jobs.uris import local_path
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
        return FolderSource(path, rule)
    raise InvalidRequest(f"{uri}: cannot be listed")
