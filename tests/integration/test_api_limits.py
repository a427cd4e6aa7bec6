"""What one process of the service takes on at once, over HTTP: beyond it the answer is 503 and when to come again."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from limits.errors import StorageError
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

import api.routes.jobs
import api.uploads
import api.voice_search
from api.body_limit import BodyLimit
from api.rate_limits import RateLimiter
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.errors import RateLimited
from indexer.settings import BrokerSettings, Settings, load_settings
from indexer.types import GalleryId
from tests.api_kit import ServiceClient, changed, serving, wav
from tests.waiting import eventually

WAV = {"content-type": "audio/wav"}
RECORDINGS = "/v1/galleries/calls/recordings"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, database={})


@pytest.fixture
def client(settings: Settings) -> Iterator[ServiceClient]:
    with gallery_served(settings) as opened:
        yield opened


@contextmanager
def gallery_served(settings: Settings) -> Iterator[ServiceClient]:
    """The service with a gallery in it."""
    with serving(settings) as client:
        assert client.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        yield client


def slow_upload(client: ServiceClient, path: str) -> socket.socket:
    """Begin an upload and send no more than its beginning."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/wav\r\nContent-Length: 50000\r\n\r\n"
    connection.sendall(head.encode() + b"RIFF")
    return connection


def refusal(client: ServiceClient, path: str) -> httpx.Response | None:
    """The answer of a service that has no place for one more body; None where it had one."""
    answer = client.post(path, content=wav(2), headers=WAV)
    return answer if answer.status_code == 503 else None


def test_a_search_that_everything_answers_is_cut_off_and_says_so(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        assert client.post(RECORDINGS, content=wav(3, seed), headers=WAV).status_code == 201
    path = "/v1/galleries/calls/search?threshold=-1"
    whole = client.post(path, content=wav(3, 1), headers=WAV).json()
    assert (whole["found"], whole["truncated"]) == (3, False)
    monkeypatch.setattr(api.voice_search, "MOST_HITS", 2)
    cut = client.post(path, content=wav(3, 1), headers=WAV).json()
    assert (cut["found"], cut["truncated"]) == (2, True)
    assert cut["recordings"] == whole["recordings"][:2]


@pytest.mark.parametrize("question", ["recordings", "speakers/Ada/enrollments", "identify"])
def test_bodies_are_received_only_as_many_at_once_as_there_are_places(settings: Settings, question: str) -> None:
    few = changed(changed(settings, "api", max_uploads=1), "probes", queue=1, batch=1)
    places = 2 if question == "identify" else 1
    path = f"/v1/galleries/calls/{question}"
    with gallery_served(few) as client:
        held = [slow_upload(client, path) for _ in range(places)]
        try:
            answer = eventually(lambda: refusal(client, path))
            assert answer.json()["code"] == "unavailable"
            assert int(answer.headers["retry-after"]) >= 1
            assert client.get("/v1/galleries/calls").status_code == 200
        finally:
            for connection in held:
                connection.close()
        eventually(lambda: refusal(client, path) is None)


def test_an_upload_that_would_fill_the_disk_is_refused_and_leaves_nothing(settings: Settings) -> None:
    with gallery_served(changed(settings, "media", min_free_bytes=1 << 60)) as client:
        for path, audio in ((RECORDINGS, wav(2)), ("/v1/galleries/calls/identify", wav(40))):
            for request in ({"content": audio, "headers": WAV}, {"files": {"file": ("a.wav", audio)}}):
                refused = client.post(path, **request)  # type: ignore[arg-type]
                assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
                assert "bytes free" in refused.json()["detail"]
                assert int(refused.headers["retry-after"]) >= 10
        # Of a megabyte or less, what nobody keeps stays in memory.
        for small in ({"content": wav(2), "headers": WAV}, {"files": {"file": ("a.wav", wav(2))}}):
            assert client.post("/v1/galleries/calls/identify", **small).status_code == 200  # type: ignore[arg-type]
        assert [path for path in client.runtime.media.root.rglob("*") if path.is_file()] == []


def test_a_body_that_stops_arriving_is_given_up(client: ServiceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.uploads, "IDLE_S", 0.3)
    with slow_upload(client, RECORDINGS) as connection:
        answer = b""
        while piece := connection.recv(65536):  # Until the service closes: it waits for no more of the body.
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body-too-slow" in answer
    assert [path for path in client.runtime.media.root.rglob("*") if path.is_file()] == []


def test_a_body_that_trickles_is_given_up(client: ServiceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.uploads, "IDLE_S", 0.5)

    def trickle() -> Iterator[bytes]:
        for _ in range(100):
            yield b"RIFF"
            time.sleep(0.05)

    answer = client.post(RECORDINGS, content=trickle(), headers=WAV)
    assert (answer.status_code, answer.json()["code"]) == (408, "body-too-slow")


def test_who_listens_waits_in_no_thread_that_others_need(client: ServiceClient) -> None:
    made = client.post(RECORDINGS, content=wav(3), headers=WAV).json()
    path = f"{RECORDINGS}/{made['id']}/audio?start_s=1&end_s=2"
    assert client.get(path).status_code == 200
    threads = client.runtime.listening_threads
    threads._under_way += threads._most  # As many as there may be.
    refused = client.get(path)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get(RECORDINGS).status_code == 200
    threads._under_way -= threads._most
    assert client.get(path).status_code == 200


def test_more_watchers_than_are_admitted_are_sent_away_before_their_stream_begins(settings: Settings) -> None:
    with gallery_served(changed(settings, "api", max_watchers=1)) as client:
        path = f"/v1/jobs/{unending_job(client)}/events"
        with client.stream("GET", path) as stream:
            lines = stream.iter_lines()  # Kept, for the stream is closed with it.
            assert next(lines) == "event: progress"
            refused = client.get(path, timeout=60)
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) >= 1

        def admitted() -> bool:
            with client.stream("GET", path) as stream:
                return stream.status_code == 200

        eventually(admitted)


def test_a_revoked_key_stops_watching(client: ServiceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.routes.jobs, "KEY_STEP_S", 0.2)
    job_id = unending_job(client)
    made = client.runtime.keys.create(scopes=["read"])
    headers = {"authorization": f"Bearer {made.secret}"}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: progress"
        client.runtime.keys.revoke(made.row.public_id)
        assert "event: end" not in list(lines)


def test_who_watched_an_open_service_stops_when_it_gets_a_key(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.routes.jobs, "KEY_STEP_S", 0.2)
    with client.stream("GET", f"/v1/jobs/{unending_job(client)}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: progress"
        client.runtime.keys.create(scopes=["read"])
        assert "event: end" not in list(lines)


def test_a_body_is_counted_whatever_it_announced() -> None:
    async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    pieces = iter([b"x" * 60, b"x" * 60])

    async def receive() -> Message:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "headers": [(b"content-length", b"10")]}
    with pytest.raises(HTTPException, match="limit of 100 bytes"):
        anyio.run(BodyLimit(read_all, most_bytes=100), scope, receive, send)


class DiesAfterTheFirst(MemoryStorage):
    """A shared count whose server goes away after a request was counted."""

    def get_expiry(self, key: str) -> float:
        raise StorageError(ConnectionError("gone"))


def test_a_count_that_is_lost_between_two_questions_is_counted_here() -> None:
    limiter = RateLimiter(BrokerSettings())
    limiter._shared = FixedWindowRateLimiter(DiesAfterTheFirst())
    limiter.hit("ada", 1)
    limiter.hit("ada", 1)  # Refused there, which cannot say until when; so this one is the first that is counted here.
    with pytest.raises(RateLimited):
        limiter.hit("ada", 1)


def unending_job(client: ServiceClient) -> int:
    with client.runtime.database.session_scope() as session:
        gallery_id = GalleryId(Galleries(session).by_name("calls").id)
        return Jobs(session).start(gallery_id, kind="ingest", source="/elsewhere", found=2)


def test_jobs_come_newest_first_and_a_new_one_shifts_no_page(client: ServiceClient) -> None:
    ids = [unending_job(client) for _ in range(5)]
    first = client.get("/v1/jobs?limit=2").json()
    newer = unending_job(client)
    second = client.get(f"/v1/jobs?limit=2&cursor={first['next_cursor']}").json()
    third = client.get(f"/v1/jobs?limit=2&cursor={second['next_cursor']}").json()
    assert [job["id"] for page in (first, second, third) for job in page["items"]] == ids[::-1]
    assert third["next_cursor"] is None
    assert client.get("/v1/jobs?limit=1").json()["items"][0]["id"] == newer
