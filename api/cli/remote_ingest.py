"""`voxdex ingest --remote`: a running service takes an archive in, and this program watches."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from api.cli.output import EXIT_SOME_FAILED, print_json, print_line, print_notice
from indexer.errors import EncoderMismatch, InvalidRequest

if TYPE_CHECKING:
    from api.cli.job_desk import JobDesk
    from voxdex_client import Client
    from voxdex_client.models import Job


@dataclass(frozen=True)
class RemoteIngest:
    """What a service is asked to take in, and how."""

    url: str | None
    key: str | None
    gallery: str
    encoder: str | None
    speaker_from: str | None
    channels: str | None
    speakers: str | None
    speech: str | None

    def run(self, sources: Sequence[str], *, detach: bool, as_json: bool) -> None:
        """Post a job for each source, watch them one after the other, and leave with status 1 where a file failed.

        Raises
        ------
        VoxdexError
            As the service says; see `api.cli.remote.connected`.
        """
        from api.cli.job_desk import RemoteJobs
        from api.cli.remote import connected

        if self.url is None:
            raise InvalidRequest("--remote needs the address of the service: give --url, or set VOXDEX_URL")
        with connected(self.url, self.key) as client:
            self._prepare_gallery(client)
            jobs = [self._post(client, as_workers_see(source)) for source in sources]
            if detach:
                self._say_posted(jobs, as_json=as_json)
                return
            documents = [self._watched(RemoteJobs(client), job, as_json=as_json) for job in jobs]
        if as_json:
            print_json({"gallery": self.gallery, "jobs": documents})
        if any(document["state"] != "succeeded" for document in documents):
            raise typer.Exit(EXIT_SOME_FAILED)

    def _prepare_gallery(self, client: "Client") -> None:
        """Make the gallery if it is new, as ingest does without a service."""
        from voxdex_client import errors

        try:
            found = client.galleries.get(self.gallery)
        except errors.NotFound:
            client.galleries.create(self.gallery, encoder=self.encoder)
            print_notice(f"gallery {self.gallery} was made")
            return
        if self.encoder is not None and self.encoder != found.encoder:
            raise EncoderMismatch(
                f"gallery {self.gallery} holds vectors of encoder {found.encoder} where {self.encoder} is asked for: "
                "leave --encoder out, or ingest into another gallery"
            )

    def _post(self, client: "Client", source: str) -> "Job":
        return client.jobs.create(
            self.gallery,
            source,
            speaker_from=self.speaker_from or "none",
            channels=self.channels,
            speakers=self.speakers,
            speech=self.speech,
        )

    def _say_posted(self, jobs: Sequence["Job"], *, as_json: bool) -> None:
        if as_json:
            print_json({"gallery": self.gallery, "jobs": [job.model_dump(mode="json") for job in jobs]})
            return
        for job in jobs:
            print_line(f"job {job.id} takes in {job.source}; watch it with `voxdex jobs watch {job.id}`")

    def _watched(self, desk: "JobDesk", job: "Job", *, as_json: bool) -> dict[str, Any]:
        from api.cli.watching import (
            failure_document,
            print_notices,
            print_same_voices,
            print_summary,
            same_voices_found,
            watch,
        )

        ended = watch(desk, job.id, again=f"voxdex jobs watch {job.id}", quiet=as_json)
        if not as_json:
            print_notices(desk, ended)
            print_same_voices(desk, ended)
            print_summary(ended, again=f"voxdex jobs items {job.id} --state failed")
            return {"state": ended.state}
        failures = [failure_document(item) for item in desk.items(job.id, "failed")] if ended.failed else []
        same = same_voices_found(desk, ended)
        pairs = [two.model_dump(mode="json") for two in same.items] if same is not None else []
        return {**ended.model_dump(mode="json"), "failures": failures, "same_voices": pairs}


def as_workers_see(source: str) -> str:
    """Write a source so that it means the same elsewhere: a URL as it is, a path from the root on."""
    return source if "://" in source else os.path.abspath(source)  # noqa: PTH100 - links are the workers' to follow
