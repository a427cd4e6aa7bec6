"""Archives elsewhere: S3 (moto's server), Google Cloud Storage (a server of its protocol), and web servers."""

import json
import resource
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from indexer.archive import nobody
from indexer.db.models import JobItemState, JobState
from indexer.db.session import Database, open_database
from indexer.errors import AccessDenied, AudioTooLarge, InvalidRequest, NotFound, Unavailable
from indexer.jobs.buckets import BucketSource, lister_of
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.filesystems import forget_connections
from indexer.jobs.remote import fetched
from indexer.jobs.source import JobOptions, SourceEntry
from indexer.settings import Settings, load_settings
from tests import loopback_server
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, items_of, job_of, make_bulk, make_gallery, work_off, write_archive


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket `calls`, and an environment in which it is found."""
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    forget_connections()
    client = boto3.client("s3")
    client.create_bucket(Bucket="calls")
    bucket = boto3.resource("s3").Bucket("calls")
    yield client
    bucket.objects.all().delete()
    bucket.delete()
    client.close()
    forget_connections()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home")


def listed(uri: str, after: dict[str, Any] | None = None) -> list[str]:
    steps = BucketSource(uri, nobody, lister_of(uri, page_keys=10)).read(after)
    return [step.entry.uri for step in steps if isinstance(step.entry, SourceEntry)]


def read(uri: str, settings: Settings) -> bytes:
    with fetched(uri, settings) as path:
        content = path.read_bytes()
    assert not path.parent.exists()
    return content


def test_a_bucket_is_listed_in_order_page_by_page_and_from_any_key_on(s3: Any) -> None:
    keys = [f"2025/{number % 3}/{number:04d}.wav" for number in range(45)]
    for key in (*keys, "2025/notes.txt", "2025/.hidden/a.wav", "2025/folder.wav/", "2025b/x.wav", "zoë/a b+c#1.wav"):
        s3.put_object(Bucket="calls", Key=key, Body=b"audio")
    assert listed("s3://calls/2025") == [f"s3://calls/{key}" for key in sorted(keys)]
    assert listed("s3://calls/2025/", {"key": "2025/2/0041.wav"}) == ["s3://calls/2025/2/0044.wav"]
    assert len(listed("s3://calls")) == 47
    assert listed("s3://calls/2025b/x.wav") == ["s3://calls/2025b/x.wav"]
    assert listed("s3://calls/2025b/x.wav", {"key": "2025b/x.wav"}) == []
    assert listed("s3://calls/zoë") == ["s3://calls/zoë/a b+c#1.wav"]


def test_what_is_not_in_a_service_and_what_it_refuses_are_told_apart(
    s3: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in ("s3://calls/gone", "s3://no-such-bucket/", "s3://calls/"):
        with pytest.raises(NotFound):
            listed(uri)
    with pytest.raises(NotFound):
        read("s3://calls/gone.wav", settings)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("FSSPEC_S3_RETRIES", "1")
    forget_connections()
    with pytest.raises(Unavailable, match="out of reach"):
        listed("s3://calls/")


def test_without_credentials_the_answer_says_so(
    s3: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3.put_object(Bucket="calls", Key="a.wav", Body=b"audio")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    forget_connections()
    with pytest.raises(AccessDenied, match="credentials"):
        read("s3://calls/a.wav", settings)


def test_an_object_is_fetched_whole_and_gone_afterwards_and_never_more_than_the_limit(
    s3: Any, settings: Settings
) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB: several requests
    s3.put_object(Bucket="calls", Key="in/zoë #1.wav", Body=content)
    with fetched("s3://calls/in/zoë #1.wav", settings) as path:
        assert path.name == "zoë__1.wav"
        assert path.read_bytes() == content
    assert not path.parent.exists()
    small = settings.model_copy(update={"audio": settings.audio.model_copy(update={"max_bytes": len(content) - 1})})
    with pytest.raises(AudioTooLarge, match="VOXDEX_AUDIO__MAX_BYTES"):
        read("s3://calls/in/zoë #1.wav", small)


def test_a_local_path_is_given_as_it_is_even_where_nothing_is_there(settings: Settings, tmp_path: Path) -> None:
    with fetched(str(tmp_path / "gone.wav"), settings) as path:
        assert path == tmp_path / "gone.wav"


def test_offline_nothing_is_fetched(settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match="OFFLINE"):
        read("s3://calls/a.wav", settings.model_copy(update={"offline": True}))


def test_a_job_over_a_bucket_and_one_over_a_manifest_in_it(s3: Any, tmp_path: Path, settings: Settings) -> None:
    for path in write_archive(tmp_path / "in", 4):
        s3.upload_file(str(path), "calls", f"2025/{'ann' if path.stem < '00002' else 'bob'}/{path.name}")
    manifest = "uri,speaker,labels\nann/00000.wav,x,news\nbob/00003.wav,bob,\nbob/gone.wav,,\n"
    s3.put_object(Bucket="calls", Key="2025/list.csv", Body=manifest.encode())
    database = open_database(settings)
    try:
        make_gallery(database, SpectrumEncoder())
        queue = ListQueue()
        bulk = make_bulk(database, settings, queue)
        folder = bulk.submit("archive", "s3://calls/2025", options=JobOptions("url", "parent"), trusted=True)
        work_off(bulk, queue)
        job = job_of(database, folder)
        assert (job.state, job.found, job.done) == (JobState.SUCCEEDED, 4, 4)
        assert items_of(database, folder)["00003.wav"].speaker == "bob"
        rows = bulk.submit("archive", "s3://calls/2025/list.csv", options=JobOptions("manifest"), trusted=True)
        work_off(bulk, queue)
        job = job_of(database, rows)
        assert (job.state, job.duplicate, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 2, 1)
        assert items_of(database, rows)["gone.wav"].error_code == "not-found"
    finally:
        database.close()


class GoogleHandler(BaseHTTPRequestHandler):
    """As much of the JSON API of Google Cloud Storage as listing and reading need."""

    server: "GoogleServer"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        objects = self.server.objects
        bucket, _, name = url.path.partition("/b/")[2].partition("/o")
        name = unquote(name.removeprefix("/"))
        if bucket != "calls" or (name and name not in objects):
            self.answer(404, json.dumps({"error": {"code": 404, "message": "no such object"}}).encode())
        elif query.get("alt") == "media" or "/download/" in url.path:
            content = objects[name]
            first, _, last = (self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")
            self.answer(206, content[int(first) : int(last or len(content)) + 1])
        elif name:
            self.answer(200, json.dumps(self.described(name)).encode())
        else:
            start, most = query.get("startOffset", ""), int(query["maxResults"])
            keys = sorted(key for key in objects if key.startswith(query.get("prefix", "")) and key >= start)
            page: dict[str, Any] = {"items": [self.described(key) for key in keys[:most]]}
            if len(keys) > most:
                page["nextPageToken"] = "more"
            self.answer(200, json.dumps(page).encode())

    def described(self, name: str) -> dict[str, Any]:
        return {"name": name, "bucket": "calls", "size": str(len(self.server.objects[name])), "generation": "1"}

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class GoogleServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GoogleHandler)
        self.objects: dict[str, bytes] = {}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    with GoogleServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        forget_connections()
        try:
            yield server
        finally:
            forget_connections()
            server.shutdown()
            thread.join()


def test_google_cloud_storage_is_listed_and_read_alike(google: GoogleServer, settings: Settings) -> None:
    content = bytes(range(256)) * 20_000
    google.objects = {f"2025/{number:04d}.wav": content[:10] for number in range(25)}
    google.objects |= {"2025/.x/a.wav": b"", "2025b.wav": b"", "big one.wav": content}
    assert listed("gs://calls/2025") == [f"gs://calls/2025/{number:04d}.wav" for number in range(25)]
    assert listed("gs://calls/2025", {"key": "2025/0023.wav"}) == ["gs://calls/2025/0024.wav"]
    assert read("gs://calls/big one.wav", settings) == content
    with pytest.raises(NotFound):
        read("gs://calls/gone.wav", settings)
    with pytest.raises(NotFound):
        listed("gs://calls/gone")


@contextmanager
def web_server() -> Iterator[loopback_server.Server]:
    with loopback_server.running(loopback_server.Server()) as server:
        yield server


def allowing(settings: Settings, *sources: str, **audio: int) -> Settings:
    return settings.model_copy(
        update={
            "jobs": settings.jobs.model_copy(update={"sources": sources}),
            "audio": settings.audio.model_copy(update=audio),
        }
    )


def origin(server: loopback_server.Server) -> str:
    return server.url.removesuffix("/file")


def test_a_web_address_is_read_where_it_is_listed_and_nowhere_else(settings: Settings) -> None:
    with web_server() as server:
        assert read(server.url, allowing(settings, server.url)) == loopback_server.CONTENT
        for wrong in (settings, allowing(settings, "https://example.org/"), allowing(settings, origin(server) + "/x")):
            with pytest.raises(AccessDenied):
                read(server.url, wrong)
        assert len(server.behavior.requests) == 1


def test_a_redirect_is_followed_only_to_what_is_listed(settings: Settings) -> None:
    with web_server() as server, web_server() as other:
        server.behavior.redirect_to = f"{origin(server)}/elsewhere"
        both = allowing(settings, origin(server))
        assert read(f"{origin(server)}/from/here", both) == loopback_server.CONTENT
        for target in (other.url, "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "s3://calls/a"):
            server.behavior.redirect_to = target
            with pytest.raises(AccessDenied):
                read(f"{origin(server)}/from/here", both)
        assert other.behavior.requests == []
        server.behavior.redirect_to = "/from/again"
        with pytest.raises(Unavailable, match="redirects"):
            read(f"{origin(server)}/from/here", both)


@pytest.mark.parametrize("location", ["http://[", "http://[::1/a", "https://127.0.0.1:port/a", "//[/x", None])
def test_a_redirect_to_nowhere_is_an_error_of_the_file(settings: Settings, location: str | None) -> None:
    with web_server() as server:
        server.behavior.redirect_to, server.behavior.location = location or "", location is not None
        # What the HTTP library itself takes for a broken answer may be well the next time.
        with pytest.raises((InvalidRequest, Unavailable), match="URL" if location else "answered 302"):
            read(f"{origin(server)}/from/here", allowing(settings, origin(server)))


def test_a_disk_without_room_is_tried_again_later(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server() as server:
        allowed = allowing(settings, origin(server))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(Unavailable, match="no room to keep it"):
            read(server.url, allowed)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(Unavailable, match="no room to keep it"):
                read(server.url, allowed)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("send_length", [True, False])
def test_a_body_that_is_too_large_is_cut_off_whatever_was_announced(settings: Settings, send_length: bool) -> None:
    with web_server() as server:
        server.behavior.send_length = send_length
        with pytest.raises(AudioTooLarge):
            read(server.url, allowing(settings, origin(server), max_bytes=500_000))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFound),
        (410, NotFound),
        (403, AccessDenied),
        (418, InvalidRequest),
        (429, Unavailable),
        (503, Unavailable),
    ],
)
def test_each_refusal_says_who_must_act(settings: Settings, status: int, error: type[Exception]) -> None:
    with web_server() as server:
        server.behavior.status = status
        with pytest.raises(error, match=str(status)):
            read(server.url, allowing(settings, origin(server)))


def test_a_connection_that_breaks_off_gives_no_half_file(settings: Settings) -> None:
    with web_server() as server:
        server.behavior.cuts = [100_000]
        with pytest.raises(Unavailable):
            read(server.url, allowing(settings, origin(server)))
    with pytest.raises(Unavailable, match="out of reach"):
        read(server.url, allowing(settings, origin(server)))


def test_a_job_over_one_web_address(settings: Settings, tmp_path: Path) -> None:
    (path,) = write_archive(tmp_path, 1)
    with web_server() as server:
        server.behavior.content = path.read_bytes()
        allowed = allowing(settings, origin(server))
        database: Database = open_database(allowed)
        try:
            make_gallery(database, SpectrumEncoder())
            queue = ListQueue()
            bulk: BulkIngest = make_bulk(database, allowed, queue)
            job_id = bulk.submit(
                "archive", f"{origin(server)}/ann/a.wav", options=JobOptions("url", "parent"), trusted=False
            )
            work_off(bulk, queue)
            assert job_of(database, job_id).state == JobState.SUCCEEDED
            item = items_of(database, job_id)["a.wav"]
            assert (item.state, item.speaker) == (JobItemState.DONE, "ann")
        finally:
            database.close()
