"""What is left of somebody who was erased, outside of the tables that are about people: nothing."""

import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta

import pytest
from sqlalchemy import delete, event, select, update
from sqlalchemy.exc import OperationalError
from starlette.requests import Request

from api.idempotency import IN_FLIGHT, Answer, Once
from api.schemas.galleries import Erased
from api.security import Principal
from indexer.db.models import IdempotentRequest, Job, JobItem, JobItemState, JobState, OnDuplicate, utc_now
from indexer.db.session import Database
from indexer.errors import Unavailable
from indexer.settings import Settings
from tests.api_kit import ServiceClient, serving, wav


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(module_settings) as opened:
        yield opened


@pytest.fixture
def gallery(client: ServiceClient) -> str:
    """Path of a gallery of the test's own."""
    name = uuid.uuid4().hex
    assert client.post("/v1/galleries", json={"name": name}).status_code == 201
    return f"/v1/galleries/{name}"


def notes(client: ServiceClient, key: str) -> list[IdempotentRequest]:
    with client.runtime.database.read_scope() as session:
        return list(session.scalars(select(IdempotentRequest).where(IdempotentRequest.key == key)))


def test_an_answer_that_names_an_erased_speaker_is_not_repeated(client: ServiceClient, gallery: str) -> None:
    once = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": "Ann", "consent_reference": "contract 7"}
    assert client.post(f"{gallery}/speakers", json=body, headers=once).status_code == 201
    assert client.delete(f"{gallery}/speakers/Ann").status_code == 200
    assert notes(client, once["Idempotency-Key"]) == []
    again = client.post(f"{gallery}/speakers", json=body, headers=once)
    assert "idempotency-replayed" not in again.headers


def test_a_gallery_takes_the_answers_about_it_along_and_leaves_the_others(client: ServiceClient, gallery: str) -> None:
    name, key, other = uuid.uuid4().hex, uuid.uuid4().hex, uuid.uuid4().hex
    once = {"Idempotency-Key": key}
    made = client.post("/v1/galleries", json={"name": name}, headers=once)
    assert made.status_code == 201
    client.post(f"{gallery}/speakers", json={"name": "Bo"}, headers={"Idempotency-Key": other})
    client.delete(f"/v1/galleries/{name}")
    assert (notes(client, key), len(notes(client, other))) == ([], 1)
    assert client.post(f"/v1/galleries/{name}/speakers", json={"name": "Ann"}, headers=once).status_code != 201


def job_with(client: ServiceClient, gallery: str, *items: dict[str, object]) -> int:
    gallery_id = client.runtime.gallery_id(gallery.rsplit("/", 1)[-1])
    with client.runtime.database.session_scope() as session:
        job = Job(
            gallery_id=gallery_id,
            kind="folder",
            source="/archive",
            state=JobState.SUCCEEDED_WITH_ERRORS,
            found=len(items),
            on_duplicate=OnDuplicate.SKIP,
            options={},
            finished_at=utc_now(),
        )
        session.add(job)
        session.flush()
        session.add_all(JobItem(job_id=job.id, uri=f"/archive/{n}.wav", **item) for n, item in enumerate(items))
        return job.id


def items_of(client: ServiceClient, job_id: int) -> list[tuple[str | None, str | None, str | None]]:
    listed = client.get(f"/v1/jobs/{job_id}/items").json()["items"]
    return [(item["speaker"], item["error_message"], item["notice"]) for item in listed]


def test_no_file_of_a_job_names_an_erased_speaker(client: ServiceClient, gallery: str) -> None:
    client.post(f"{gallery}/speakers", json={"name": "Al%"})
    failed = {"state": JobItemState.FAILED, "error_code": "conflict"}
    job_id = job_with(
        client,
        gallery,
        {**failed, "speaker": "Al%", "error_message": "it is 'Al%' elsewhere"},
        {**failed, "speaker": "Bo", "error_message": "Al%bert is somebody else"},
        {"state": JobItemState.DONE, "speaker": "Bo", "notice": "kept as Al%, too"},
    )
    other = job_with(client, elsewhere(client), {**failed, "speaker": "Al%", "error_message": "Al%"})
    client.delete(f"{gallery}/speakers/Al%25", params={"keep_recordings": True})
    assert items_of(client, job_id) == [
        (None, None, None),
        ("Bo", "Al%bert is somebody else", None),
        ("Bo", None, None),
    ]
    assert items_of(client, other) == [("Al%", "Al%", None)]


def elsewhere(client: ServiceClient) -> str:
    name = uuid.uuid4().hex
    client.post("/v1/galleries", json={"name": name})
    return f"/v1/galleries/{name}"


def test_files_of_jobs_follow_a_new_name(client: ServiceClient, gallery: str) -> None:
    for name in ("Ann", "Bo"):
        client.post(f"{gallery}/speakers", json={"name": name})
    job_id = job_with(client, gallery, {"state": JobItemState.FAILED, "speaker": "Ann"})
    client.patch(f"{gallery}/speakers/Ann", json={"name": "Anna"})
    assert items_of(client, job_id) == [("Anna", None, None)]
    client.post(f"{gallery}/speakers/Anna/merge", json={"into": "Bo"})
    assert items_of(client, job_id) == [("Bo", None, None)]


def test_no_message_of_a_job_names_an_erased_speaker_by_an_earlier_name(client: ServiceClient, gallery: str) -> None:
    client.post(f"{gallery}/speakers", json={"name": "Ann"})
    job_id = job_with(
        client,
        gallery,
        {"state": JobItemState.DONE, "speaker": "Ann", "notice": "2 voices were heard: one is enrolled as Ann"},
        {"state": JobItemState.DONE, "notice": "Annabel is somebody else"},
    )
    client.patch(f"{gallery}/speakers/Ann", json={"name": "Anna"})
    client.delete(f"{gallery}/speakers/Anna", params={"keep_recordings": True})
    assert items_of(client, job_id) == [(None, None, None), (None, None, "Annabel is somebody else")]


def test_a_voiceprint_leaves_the_memory_with_its_speaker(client: ServiceClient, gallery: str) -> None:
    for seed, name in enumerate(("Ann", "Bo")):
        audio = {"file": ("a.wav", wav(3, seed=seed))}
        assert client.post(f"{gallery}/speakers/{name}/enrollments", files=audio).status_code == 201
    asked = {"content": wav(3, seed=0), "headers": {"content-type": "audio/wav"}}
    answer = client.post(f"{gallery}/identify", **asked).json()  # type: ignore[arg-type]
    assert answer["speaker"] == "Ann"
    [side] = client.runtime.live.get(gallery.rsplit("/", 1)[-1])._sides
    enrolled = side.enrolled
    assert enrolled.loaded is not None
    assert enrolled.loaded.info().count == 2
    client.delete(f"{gallery}/speakers/Ann")
    assert enrolled.loaded.info().count == 1


PRINCIPAL = Principal("open", frozenset({"write"}))


def once_of(database: Database, key: str) -> Once:
    scope = {"type": "http", "method": "POST", "path": "/v1/things", "query_string": b"", "headers": []}
    return Once(database, Request(scope), key, 24.0)


def answered() -> Answer:
    return Answer(Erased(speakers=0, recordings=0, vectors=0))


@pytest.mark.parametrize("fails", [True, False])
def test_work_that_took_too_long_leaves_the_note_of_whoever_took_over(database: Database, fails: bool) -> None:
    def taken_over() -> Answer:
        return Answer(Erased(speakers=7, recordings=0, vectors=0))

    def late() -> Answer:
        with database.session_scope() as session:  # A quarter of an hour goes by.
            old = utc_now() - IN_FLIGHT - timedelta(seconds=1)
            session.execute(update(IdempotentRequest).values(created_at=old))
        once_of(database, "k")(PRINCIPAL, "", taken_over)
        if fails:
            raise Unavailable("the broker is away")
        return answered()

    with pytest.raises(Unavailable) if fails else nullcontext():
        once_of(database, "k")(PRINCIPAL, "", late)
    again = once_of(database, "k")(PRINCIPAL, "", answered)
    assert (again.headers["idempotency-replayed"], b'"speakers":7' in bytes(again.body)) == ("true", True)


def test_what_was_done_is_told_though_the_answer_cannot_be_kept(database: Database) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("BEGIN", None, Exception("database is locked"))

    def work() -> Answer:
        event.listen(database.engine, "begin", refuse)
        return answered()

    try:
        assert once_of(database, "k")(PRINCIPAL, "", work).status_code == 201
    finally:
        event.remove(database.engine, "begin", refuse)


def test_a_note_that_vanishes_while_it_is_looked_at_is_made_again(database: Database) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite lets one transaction write at a time")
    with database.session_scope() as session:
        note = IdempotentRequest(owner="open", key="k", request_sha256="0" * 64, token="t")
        session.add(note)
    vanishing = []

    def other_fails(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and "idempotent_requests" in statement and not vanishing:
            vanishing.append(statement)
            with database.session_scope() as session:
                session.execute(delete(IdempotentRequest))

    event.listen(database.engine, "before_cursor_execute", other_fails)
    try:
        assert once_of(database, "k")(PRINCIPAL, "", answered).status_code == 201
    finally:
        event.remove(database.engine, "before_cursor_execute", other_fails)
    assert vanishing
