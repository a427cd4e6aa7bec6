"""Queries that come again: read once, and still told apart from all others, by whoever may ask."""

from collections.abc import Iterator
from typing import Any

import fastapi.routing
import pytest

from api.repeated_queries import FILE_NAME_LIMIT
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.settings import Settings
from indexer.types import GalleryId
from tests.api_kit import ServiceClient, serving, wav

WAV = {"content-type": "audio/wav"}
IDENTIFY = "/v1/galleries/calls/identify"


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(record_settings) as opened:
        for gallery in ("calls", "other"):
            assert opened.post("/v1/galleries", json={"name": gallery}).status_code == 201
        for seed, speaker in enumerate(("Ada", "Bea")):
            path = f"/v1/galleries/calls/speakers/{speaker}/enrollments"
            assert opened.post(path, content=wav(3, seed), headers=WAV).status_code == 201
        yield opened


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests whose parameters the framework read."""
    paths: list[str] = []
    solve = fastapi.routing.solve_dependencies  # type: ignore[attr-defined]

    async def noted(**asked: Any) -> object:
        if asked["dependant"].call.__name__ in ("identify", "verify"):  # And not for what these depend on.
            paths.append(asked["request"].url.path)
        return await solve(**asked)

    monkeypatch.setattr(fastapi.routing, "solve_dependencies", noted)
    return paths


def test_the_same_query_is_read_once_and_answered_alike(client: ServiceClient, read: list[str]) -> None:
    def ask(name: str, **query: str | float) -> tuple[str | None, int, float | None]:
        answer = client.post(IDENTIFY, content=wav(3, 1), headers=WAV, params={"filename": name, **query})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return found["speaker"], len(found["candidates"]), found["operating_point"]["score_threshold"]

    first = ask("a.wav", threshold=0.9, top_k=1)
    assert first == ("Bea", 1, 0.9)
    assert ask("b.wav", threshold=0.9, top_k=1) == first
    assert len(read) == 1
    assert ask("b.wav", threshold=0.8, top_k=2) == ("Bea", 2, 0.8)
    assert ask("b.wav", threshold=0.9, top_k=1, label="nobody's") == (None, 0, 0.9)
    assert ask("b.wav", threshold=0.9, top_k=1) == first
    assert len(read) == 3


def test_another_gallery_and_another_question_are_another_query(client: ServiceClient, read: list[str]) -> None:
    def decided(path: str, **query: str | float) -> str:
        answer = client.post(path, content=wav(3, 1), headers=WAV, params=query)
        return str(answer.json().get("decision", answer.status_code))

    for _ in range(2):
        assert decided(IDENTIFY, threshold=0.99) == "identified"
        assert decided("/v1/galleries/other/identify", threshold=0.99) == "unknown"
        assert decided("/v1/galleries/none/identify", threshold=0.99) == "404"
        assert decided("/v1/galleries/calls/verify", speaker_id="Bea", threshold=0.99) == "accept"
        assert decided("/v1/galleries/calls/verify", speaker_id="Ada", threshold=0.99) == "reject"
    assert len(read) == 6  # What was answered by an error is read again.


def test_what_is_refused_is_refused_every_time(client: ServiceClient) -> None:
    def status(query: str) -> int:
        return client.post(f"{IDENTIFY}?{query}", content=wav(3, 1), headers=WAV).status_code

    for _ in range(2):
        assert status("filename=a.wav") == 200
        assert status("filename=" + "a" * (FILE_NAME_LIMIT + 1)) == 422
        assert status("filename=a%00.wav") == 422
        assert status("filename=%FF.wav") in (200, 422)
        assert status("top_k=0") == 422
        assert status("treshold=0.9") == 422


def test_a_recording_is_called_by_its_own_name(client: ServiceClient) -> None:
    for name in ("first.wav", "second.wav"):
        answer = client.post(IDENTIFY, content=wav(0.05), headers=WAV, params={"filename": name})
        assert name in str(answer.json()["issues"])


def test_who_asks_is_found_out_every_time(client: ServiceClient) -> None:
    made = client.runtime.keys.create(scopes=["identify"], gallery=None, rate_limit_per_minute=None)

    def status(query: str = "", **headers: str) -> int:
        return client.post(f"{IDENTIFY}?{query}", content=wav(3, 1), headers={**WAV, **headers}).status_code

    with_key = {"authorization": f"Bearer {made.secret}"}
    assert [status(**with_key), status(**with_key), status()] == [200, 200, 401]
    assert [status("embedding=true", **with_key)] * 2 == [403, 403]
    client.runtime.keys.revoke(made.row.public_id)
    assert [status(**with_key), status()] == [401, 401]


def test_a_gallery_that_another_process_puts_in_the_place_of_one_is_asked_at_once(client: ServiceClient) -> None:
    def ask() -> tuple[int, str | None]:
        answer = client.post(f"{IDENTIFY}?threshold=0.9", content=wav(3, 1), headers=WAV)
        return answer.status_code, answer.json().get("decision")

    assert [ask(), ask()] == [(200, "identified")] * 2
    database = client.runtime.database
    with database.session_scope() as session:
        row = Galleries(session).by_name("calls")
        encoder_id = row.encoder_id
        Galleries(session).delete(GalleryId(row.id))
    assert ask() == (404, None)
    with database.session_scope() as session:
        Galleries(session).create("calls", Encoders(session).get(encoder_id))
    assert [ask(), ask()] == [(200, "unknown")] * 2
