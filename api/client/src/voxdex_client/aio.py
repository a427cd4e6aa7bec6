"""The asynchronous client (asyncio)."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import httpx

from voxdex_client import routes
from voxdex_client.bind import AsyncResource, acalls, alists
from voxdex_client.errors import ConnectionFailed, WaitTimeout
from voxdex_client.events import Following
from voxdex_client.models import Job
from voxdex_client.transport import AsyncConnection, Retries


class AsyncGalleries(AsyncResource):
    """Enrolled sets, each searched under one encoder."""

    create = acalls(routes.create_gallery)
    list = alists(routes.list_galleries)
    get = acalls(routes.get_gallery)
    change = acalls(routes.change_gallery)
    quality = acalls(routes.gallery_quality)
    map = acalls(routes.gallery_map)
    delete = acalls(routes.delete_gallery)


class AsyncSpeakers(AsyncResource):
    """Persons known by name within a gallery."""

    create = acalls(routes.create_speaker)
    list = alists(routes.list_speakers)
    get = acalls(routes.get_speaker)
    change = acalls(routes.change_speaker)
    merge = acalls(routes.merge_speaker)
    erasure = acalls(routes.show_erasure)
    delete = acalls(routes.delete_speaker)


class AsyncEnrollments(AsyncResource):
    """Recordings that speakers are known by."""

    create = acalls(routes.create_enrollment)
    list = alists(routes.list_enrollments)
    delete = acalls(routes.delete_enrollment)


class AsyncRecordings(AsyncResource):
    """The audio files of a gallery."""

    create = acalls(routes.create_recording)
    list = alists(routes.list_recordings)
    get = acalls(routes.get_recording)
    audio = acalls(routes.get_audio)
    waveform = acalls(routes.get_waveform)
    voices = acalls(routes.get_recording_voices)
    delete = acalls(routes.delete_recording)


class AsyncUnknownVoices(AsyncResource):
    """Who is heard again and again without a name."""

    find = acalls(routes.find_unknown_voices)
    list = alists(routes.list_unknown_voices)
    get = acalls(routes.get_unknown_voice)
    utterances = alists(routes.list_unknown_utterances)
    promote = acalls(routes.promote_unknown_voice)
    merge = acalls(routes.merge_unknown_voice)
    split = acalls(routes.split_unknown_voice)
    remove = acalls(routes.remove_unknown_utterance)
    delete = acalls(routes.delete_unknown_voice)


class AsyncJobs(AsyncResource):
    """Bulk ingest."""

    create = acalls(routes.create_job)
    list = alists(routes.list_jobs)
    get = acalls(routes.get_job)
    items = alists(routes.list_job_items)
    same_voices = acalls(routes.same_voices_of_job)
    cancel = acalls(routes.cancel_job)
    retry_failed = acalls(routes.retry_failed)

    async def events(self, job_id: int) -> AsyncIterator[Job]:
        """Follow a job until it ends: the whole job whenever it changed; a broken connection is taken up again."""
        following = Following(self._connection.retries)
        while True:
            broke: httpx.TransportError | None = None
            following.begin()
            async with self._connection.stream(routes.job_events.call(job_id)) as response:
                try:
                    async for line in response.aiter_lines():
                        job = following.feed(line)
                        if job is not None:
                            yield job
                        if following.ended:
                            return
                except httpx.TransportError as error:
                    broke = error
            await asyncio.sleep(following.broke(broke and ConnectionFailed(f"the stream of events broke off: {broke}")))

    async def wait(self, job_id: int, *, timeout_s: float | None = None, poll_s: float = 1.0) -> Job:
        """Return a job when it has ended, whatever it came to.

        Raises
        ------
        WaitTimeout
            If it goes on after `timeout_s`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (job := await self.get(job_id)).ended:
            left_s = poll_s if deadline is None else min(poll_s, deadline - time.monotonic())
            if left_s <= 0:
                raise WaitTimeout(f"job {job_id} is {job.state} after {timeout_s:g} s; it goes on")
            await asyncio.sleep(left_s)
        return job


class AsyncKeys(AsyncResource):
    """API keys."""

    create = acalls(routes.create_key)
    list = alists(routes.list_keys)
    revoke = acalls(routes.revoke_key)


class AsyncClient(AsyncResource):
    """The service, called without blocking; one client belongs to one event loop.

    Parameters
    ----------
    url : str
        Address of the service, as in `http://127.0.0.1:8080`.
    key : str or None
        API key; None where the service is open.
    timeout : httpx.Timeout, float or None
        Longest silence of the service in seconds; None: 300, and 10 for the connection.
    retries : Retries
        How often a request is sent again when the connection broke or the service asks for it (429, 503).
    transport : httpx.AsyncBaseTransport or None
        What carries the requests, where it is not the network.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: httpx.Timeout | float | None = None,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(AsyncConnection(url, key, timeout=timeout, retries=retries, transport=transport))
        self.galleries = AsyncGalleries(self._connection)
        self.speakers = AsyncSpeakers(self._connection)
        self.enrollments = AsyncEnrollments(self._connection)
        self.recordings = AsyncRecordings(self._connection)
        self.unknown_voices = AsyncUnknownVoices(self._connection)
        self.jobs = AsyncJobs(self._connection)
        self.keys = AsyncKeys(self._connection)

    identify = acalls(routes.identify)
    verify = acalls(routes.verify)
    compare = acalls(routes.compare)
    diarize = acalls(routes.diarize)
    inspect = acalls(routes.inspect)
    decode = acalls(routes.decode)
    search = acalls(routes.search)
    session = acalls(routes.session)
    encoders = acalls(routes.encoders)
    calibrations = acalls(routes.calibrations)
    stats = acalls(routes.stats)
    system = acalls(routes.system)
    health = acalls(routes.health)
    readiness = acalls(routes.readiness)
    metrics = acalls(routes.metrics)
    openapi = acalls(routes.openapi)

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
