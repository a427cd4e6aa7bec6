"""The blocking client."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import httpx

from voxdex_client import routes
from voxdex_client.bind import Resource, calls, lists
from voxdex_client.errors import ConnectionFailed, WaitTimeout
from voxdex_client.events import Following
from voxdex_client.models import Job
from voxdex_client.transport import Connection, Retries


class Galleries(Resource):
    """Enrolled sets, each searched under one encoder."""

    create = calls(routes.create_gallery)
    list = lists(routes.list_galleries)
    get = calls(routes.get_gallery)
    change = calls(routes.change_gallery)
    quality = calls(routes.gallery_quality)
    map = calls(routes.gallery_map)
    delete = calls(routes.delete_gallery)


class Speakers(Resource):
    """Persons known by name within a gallery."""

    create = calls(routes.create_speaker)
    list = lists(routes.list_speakers)
    get = calls(routes.get_speaker)
    change = calls(routes.change_speaker)
    merge = calls(routes.merge_speaker)
    erasure = calls(routes.show_erasure)
    delete = calls(routes.delete_speaker)


class Enrollments(Resource):
    """Recordings that speakers are known by."""

    create = calls(routes.create_enrollment)
    list = lists(routes.list_enrollments)
    delete = calls(routes.delete_enrollment)


class Recordings(Resource):
    """The audio files of a gallery."""

    create = calls(routes.create_recording)
    list = lists(routes.list_recordings)
    get = calls(routes.get_recording)
    audio = calls(routes.get_audio)
    waveform = calls(routes.get_waveform)
    voices = calls(routes.get_recording_voices)
    delete = calls(routes.delete_recording)


class UnknownVoices(Resource):
    """Who is heard again and again without a name."""

    find = calls(routes.find_unknown_voices)
    list = lists(routes.list_unknown_voices)
    get = calls(routes.get_unknown_voice)
    utterances = lists(routes.list_unknown_utterances)
    promote = calls(routes.promote_unknown_voice)
    merge = calls(routes.merge_unknown_voice)
    split = calls(routes.split_unknown_voice)
    remove = calls(routes.remove_unknown_utterance)
    delete = calls(routes.delete_unknown_voice)


class Jobs(Resource):
    """Bulk ingest."""

    create = calls(routes.create_job)
    list = lists(routes.list_jobs)
    get = calls(routes.get_job)
    items = lists(routes.list_job_items)
    same_voices = calls(routes.same_voices_of_job)
    cancel = calls(routes.cancel_job)
    retry_failed = calls(routes.retry_failed)

    def events(self, job_id: int) -> Iterator[Job]:
        """Follow a job until it ends: the whole job whenever it changed; a broken connection is taken up again."""
        following = Following(self._connection.retries)
        while True:
            broke: httpx.TransportError | None = None
            following.begin()
            with self._connection.stream(routes.job_events.call(job_id)) as response:
                try:
                    for line in response.iter_lines():
                        job = following.feed(line)
                        if job is not None:
                            yield job
                        if following.ended:
                            return
                except httpx.TransportError as error:
                    broke = error
            time.sleep(following.broke(broke and ConnectionFailed(f"the stream of events broke off: {broke}")))

    def wait(self, job_id: int, *, timeout_s: float | None = None, poll_s: float = 1.0) -> Job:
        """Return a job when it has ended, whatever it came to.

        Raises
        ------
        WaitTimeout
            If it goes on after `timeout_s`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (job := self.get(job_id)).ended:
            left_s = poll_s if deadline is None else min(poll_s, deadline - time.monotonic())
            if left_s <= 0:
                raise WaitTimeout(f"job {job_id} is {job.state} after {timeout_s:g} s; it goes on")
            time.sleep(left_s)
        return job


class Keys(Resource):
    """API keys."""

    create = calls(routes.create_key)
    list = lists(routes.list_keys)
    revoke = calls(routes.revoke_key)


class Client(Resource):
    """The service, called and waited for; one client may be used by several threads.

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
    transport : httpx.BaseTransport or None
        What carries the requests, where it is not the network.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: httpx.Timeout | float | None = None,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(Connection(url, key, timeout=timeout, retries=retries, transport=transport))
        self.galleries = Galleries(self._connection)
        self.speakers = Speakers(self._connection)
        self.enrollments = Enrollments(self._connection)
        self.recordings = Recordings(self._connection)
        self.unknown_voices = UnknownVoices(self._connection)
        self.jobs = Jobs(self._connection)
        self.keys = Keys(self._connection)

    identify = calls(routes.identify)
    verify = calls(routes.verify)
    compare = calls(routes.compare)
    diarize = calls(routes.diarize)
    inspect = calls(routes.inspect)
    decode = calls(routes.decode)
    search = calls(routes.search)
    session = calls(routes.session)
    encoders = calls(routes.encoders)
    calibrations = calls(routes.calibrations)
    stats = calls(routes.stats)
    system = calls(routes.system)
    health = calls(routes.health)
    readiness = calls(routes.readiness)
    metrics = calls(routes.metrics)
    openapi = calls(routes.openapi)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
