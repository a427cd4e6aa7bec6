"""Who may ask the service for what, how often, and what a request that is sent twice does, on both databases."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from api.cli.local_servers import LocalRedis
from api.idempotency import IN_FLIGHT
from indexer.db.models import ApiKey, IdempotentRequest, utc_now
from indexer.settings import Settings, load_settings
from tests.api_kit import ServiceClient, changed, serving, wav

AUDIO = {"content-type": "audio/wav"}


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    """A service that is open by setting: keys count there too, and their scopes and limits."""
    with serving(changed(module_settings, "api", open=True)) as opened:
        yield opened


@pytest.fixture
def gallery(client: ServiceClient) -> str:
    """Path of a gallery of the test's own."""
    return new_gallery(client)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServiceClient]:
    """A service without settings, as it is after installation."""
    with serving(load_settings(home=tmp_path)) as opened:
        yield opened


def new_gallery(client: ServiceClient) -> str:
    name = uuid.uuid4().hex
    assert client.post("/v1/galleries", json={"name": name}).status_code == 201
    return f"/v1/galleries/{name}"


def key(client: ServiceClient, *scopes: str, gallery: str | None = None, limit: int | None = None) -> dict[str, str]:
    made = client.runtime.keys.create(scopes=scopes, gallery=gallery, rate_limit_per_minute=limit)
    return {"Authorization": f"Bearer {made.secret}"}


def code(answer: object) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]  # type: ignore[attr-defined]


def test_the_first_key_closes_an_open_service_and_revoking_it_opens_nothing(fresh: ServiceClient) -> None:
    assert fresh.get("/v1/galleries").status_code == 200
    made = fresh.post("/v1/keys", json={"scopes": ["admin"]}).json()
    refused = fresh.get("/v1/galleries")
    assert code(refused) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    admin = {"X-API-Key": made["key"]}
    assert fresh.get("/v1/galleries", headers=admin).status_code == 200
    revoked = fresh.delete(f"/v1/keys/{made['public_id']}", headers=admin)
    assert revoked.json()["revoked_at"] is not None
    assert code(fresh.get("/v1/galleries", headers=admin)) == (401, "unauthenticated")
    assert code(fresh.get("/v1/galleries")) == (401, "unauthenticated")


def test_an_open_service_answers_this_machine_only(fresh: ServiceClient) -> None:
    # A web page elsewhere makes this machine's browser send such requests, directly or by a name that leads here.
    for headers in (
        {"host": "evil.example"},
        {"host": "192.168.1.7:8080"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "[::1"},
    ):
        answer = fresh.post("/v1/galleries", json={"name": "x"}, headers=headers)
        assert code(answer) == (401, "unauthenticated"), headers
    assert fresh.get("/v1/galleries").json()["items"] == []


@pytest.mark.parametrize(("is_open", "status"), [(True, 200), (False, 401)])
def test_a_setting_opens_or_closes_the_service(tmp_path: Path, is_open: bool, status: int) -> None:
    with serving(changed(load_settings(home=tmp_path), "api", open=is_open)) as client:
        assert client.get("/v1/galleries", headers={"host": "voices.example"}).status_code == status


def test_each_scope_opens_what_it_says(client: ServiceClient, gallery: str) -> None:
    audio = wav(2)
    asked = {
        "read": lambda headers: client.get(f"{gallery}/speakers", headers=headers),
        "identify": lambda headers: client.post(f"{gallery}/identify", content=audio, headers={**AUDIO, **headers}),
        "write": lambda headers: client.post(f"{gallery}/recordings", content=audio, headers={**AUDIO, **headers}),
        "admin": lambda headers: client.get("/v1/keys", headers=headers),
        "embeddings": lambda headers: client.post(
            f"{gallery}/identify?embedding=true", content=audio, headers={**AUDIO, **headers}
        ),
    }
    opened = {
        given: {wanted for wanted, ask in asked.items() if ask(headers).is_success}
        for given in asked
        for headers in [key(client, given)]
    }
    assert opened == {
        "read": {"read"},
        "identify": {"identify"},
        "write": {"write", "read"},
        "admin": {"read", "identify", "write", "admin"},
        "embeddings": set(),
    }
    both = key(client, "identify", "embeddings")
    vector = asked["embeddings"](both).json()["embedding"]
    assert len(vector) == 192
    assert code(asked["embeddings"](key(client, "admin"))) == (403, "forbidden")


def test_a_bound_key_sees_its_own_gallery_and_no_other(client: ServiceClient) -> None:
    mine, theirs = new_gallery(client), new_gallery(client)
    for gallery in (mine, theirs):
        client.post(f"{gallery}/speakers", json={"name": "Ann"})
    bound = key(client, "write", "identify", gallery=mine.rsplit("/", 1)[-1])
    listed = client.get("/v1/galleries", headers=bound).json()["items"]
    assert [f"/v1/galleries/{item['name']}" for item in listed] == [mine]
    assert client.get(f"{mine}/speakers/Ann", headers=bound).status_code == 200
    missing = client.get("/v1/galleries/nowhere", headers=bound).json()
    for path in ("", "/speakers", "/speakers/Ann", "/recordings"):
        answer = client.get(theirs + path, headers=bound)
        assert code(answer) == (404, "not-found")
        assert answer.json()["detail"] == missing["detail"].replace("nowhere", theirs.rsplit("/", 1)[-1])
    hidden = client.post(f"{theirs}/identify", content=wav(2), headers={**AUDIO, **bound})
    assert code(hidden) == (404, "not-found")
    assert code(client.post("/v1/galleries", json={"name": "new"}, headers=bound)) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "vdx_0123456789abcdef_" + "A" * 43},
        {"X-API-Key": "nonsense"},
        {"X-API-Key": ""},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer"},
    ],
)
def test_what_is_no_key_opens_nothing_even_while_the_service_is_open(
    client: ServiceClient, headers: dict[str, str]
) -> None:
    assert code(client.get("/v1/galleries", headers=headers)) == (401, "unauthenticated")


def test_two_different_keys_are_no_key(client: ServiceClient) -> None:
    one, other = key(client, "read"), key(client, "admin")
    both = {**one, "X-API-Key": other["Authorization"].removeprefix("Bearer ")}
    assert code(client.get("/v1/galleries", headers=both)) == (401, "unauthenticated")


def test_only_a_hash_of_the_key_is_kept_and_its_use_is_noted(client: ServiceClient) -> None:
    reader = key(client, "read")
    secret = reader["Authorization"].split("_", 2)[2]
    for _ in range(2):
        client.get("/v1/galleries", headers=reader)
    with client.runtime.database.read_scope() as session:
        public_id = reader["Authorization"].split("_")[1]
        row = session.scalars(select(ApiKey).where(ApiKey.public_id == public_id)).one()
        assert secret not in repr(vars(row))
        assert row.last_used_at is not None
        assert utc_now() - row.last_used_at < timedelta(minutes=1)


def test_the_requests_of_a_minute_are_counted_for_each_key(client: ServiceClient) -> None:
    slow, other = key(client, "read", limit=3), key(client, "read")
    answers = [client.get("/v1/galleries", headers=slow) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "rate-limited"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert client.get("/v1/galleries", headers=other).status_code == 200


def test_processes_share_the_count_in_redis_and_count_alone_without_it(
    tmp_path: Path, redis_server: LocalRedis
) -> None:
    settings = changed(load_settings(home=tmp_path), "broker", url=SecretStr(redis_server.url))
    with serving(settings) as one, serving(settings) as other:
        slow = key(one, "read", limit=4)
        statuses = [client.get("/v1/galleries", headers=slow).status_code for client in (one, other) * 3]
        assert statuses == [200, 200, 200, 200, 429, 429]
        redis_server.stop()
        assert [one.get("/v1/galleries", headers=slow).status_code for _ in range(5)] == [200] * 4 + [429]


def test_a_request_sent_again_with_its_key_is_answered_and_not_done_again(client: ServiceClient, gallery: str) -> None:
    once = {"Idempotency-Key": "a-1"}
    first = client.post(f"{gallery}/speakers", json={"name": "Ann"}, headers=once)
    again = client.post(f"{gallery}/speakers", json={"name": "Ann", "labels": []}, headers=once)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert (again.headers["idempotency-replayed"], again.headers["location"]) == ("true", first.headers["location"])
    other = client.post(f"{gallery}/speakers", json={"name": "Bo"}, headers=once)
    assert code(other) == (422, "idempotency-key-reused")
    elsewhere = client.post("/v1/galleries", json={"name": "Ann"}, headers=once)
    assert code(elsewhere) == (422, "idempotency-key-reused")
    assert len(client.get(f"{gallery}/speakers").json()["items"]) == 1


def test_an_upload_sent_again_is_known_by_its_content(client: ServiceClient, gallery: str) -> None:
    once = {"Idempotency-Key": "up-1"}

    def send(audio: bytes, name: str = "a.wav") -> object:  # Each time with another multipart boundary.
        return client.post(f"{gallery}/recordings", files={"file": (name, audio)}, headers=once)

    first, again = send(wav(2)), send(wav(2))
    assert (first.status_code, again.status_code) == (201, 201)  # type: ignore[attr-defined]
    assert first.json() == again.json()  # type: ignore[attr-defined]
    assert code(send(wav(2, seed=1))) == (422, "idempotency-key-reused")


def test_an_error_of_the_request_is_repeated_too(client: ServiceClient) -> None:
    once = {"Idempotency-Key": "e-1"}
    first = client.post("/v1/galleries/later/speakers", json={"name": "Ann"}, headers=once)
    client.post("/v1/galleries", json={"name": "later"})
    again = client.post("/v1/galleries/later/speakers", json={"name": "Ann"}, headers=once)
    assert (first.status_code, again.status_code) == (404, 404)
    assert again.headers["content-type"] == "application/problem+json"
    assert again.content == first.content


def test_a_secret_is_shown_once_and_kept_nowhere(client: ServiceClient) -> None:
    once = {"Idempotency-Key": "k-1", **key(client, "admin")}
    made = client.post("/v1/keys", json={"scopes": ["read"]}, headers=once)
    again = client.post("/v1/keys", json={"scopes": ["read"]}, headers=once)
    assert (made.status_code, code(again)) == (201, (409, "conflict"))
    with client.runtime.database.read_scope() as session:
        (kept,) = session.scalars(select(IdempotentRequest).where(IdempotentRequest.key == "k-1"))
        assert made.json()["key"].split("_", 2)[2].encode() not in (kept.body or b"")


def test_two_at_the_same_time_are_done_once(client: ServiceClient, gallery: str) -> None:
    together = threading.Barrier(4)

    def send(_: int) -> int:
        together.wait()
        audio = {"file": ("a.wav", wav(30))}
        path = f"{gallery}/recordings"
        return client.post(path, files=audio, headers={"Idempotency-Key": "c-1"}).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = sorted(threads.map(send, range(4)))
    assert statuses[0] == 201
    assert set(statuses) <= {201, 409}
    assert len(client.get(f"{gallery}/recordings").json()["items"]) == 1


def test_a_request_whose_process_died_is_taken_over_and_an_old_key_forgotten(
    client: ServiceClient, gallery: str
) -> None:
    once = {"Idempotency-Key": "d-1"}

    def send() -> object:
        return client.post(f"{gallery}/speakers", json={"name": "Ann"}, headers=once)

    def age(by: timedelta, **values: object) -> None:
        with client.runtime.database.session_scope() as session:
            mine = update(IdempotentRequest).where(IdempotentRequest.key == "d-1")
            session.execute(mine.values(created_at=utc_now() - by, **values))

    assert send().status_code == 201  # type: ignore[attr-defined]
    age(timedelta(seconds=1), status=None)
    waiting = send()
    assert code(waiting) == (409, "request-in-flight")
    assert int(waiting.headers["retry-after"]) >= 1  # type: ignore[attr-defined]
    age(IN_FLIGHT + timedelta(seconds=1), status=None)
    assert code(send()) == (409, "already-exists")  # The dead process had done it, as the record tells.
    age(timedelta(hours=25))
    client.delete(f"{gallery}/speakers/Ann")
    assert send().status_code == 201  # type: ignore[attr-defined]


def test_keys_of_two_callers_do_not_meet(client: ServiceClient) -> None:
    gallery = new_gallery(client)
    writers = [key(client, "write"), key(client, "write")]
    statuses = [
        client.post(
            f"{gallery}/speakers", json={"name": name}, headers={"Idempotency-Key": "same", **headers}
        ).status_code
        for name, headers in zip(("Ann", "Bo"), writers, strict=True)
    ]
    assert statuses == [201, 201]


@pytest.mark.parametrize("given", ["", "a b", "x" * 256])
def test_an_idempotency_key_has_a_form(client: ServiceClient, given: str) -> None:
    answer = client.post("/v1/galleries", json={"name": "x"}, headers={"Idempotency-Key": given})
    assert code(answer) == (422, "invalid-request")
