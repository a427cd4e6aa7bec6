"""What somebody meets who does not know the service: misspelled requests, the same content twice, texts of errors."""

import uuid
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api.app import create_app
from indexer.settings import Settings
from tests.api_kit import ServiceClient, serving, wav

AUDIO = {"content-type": "audio/wav"}


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(module_settings) as opened:
        yield opened


@pytest.fixture
def gallery(client: ServiceClient) -> Iterator[str]:
    """Path of a gallery of the test's own."""
    name = uuid.uuid4().hex
    assert client.post("/v1/galleries", json={"name": name}).status_code == 201
    yield f"/v1/galleries/{name}"
    client.delete(f"/v1/galleries/{name}")


def test_a_misspelled_parameter_erases_nothing(client: ServiceClient, gallery: str) -> None:
    assert client.post(f"{gallery}/speakers/Ann/enrollments", content=wav(3), headers=AUDIO).status_code == 201
    refused = client.delete(f"{gallery}/speakers/Ann", params={"keep_recording": "true"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert "query.keep_recording: " in refused.json()["detail"]
    assert "keep_recordings" in refused.json()["detail"].split("takes", 1)[1]
    assert client.get(f"{gallery}/speakers/Ann").json()["recordings"] == 1


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("identify", {"treshold": "0.99"}),
        ("identify", {"lable": "staff"}),
        ("recordings", {"labels": "vip", "sesion": "7"}),
        ("search", {"top_k": "3"}),
    ],
)
def test_every_misspelled_parameter_is_named(
    client: ServiceClient, gallery: str, path: str, wrong: dict[str, str]
) -> None:
    refused = client.post(f"{gallery}/{path}", content=wav(1), headers=AUDIO, params={**wrong, "channels": "mix"})
    assert refused.status_code == 422
    assert [one["location"] for one in refused.json()["errors"]] == [f"query.{name}" for name in wrong]


def test_no_route_of_the_api_passes_over_a_parameter(client: ServiceClient, module_settings: Settings) -> None:
    asked = 0
    for context in iter_route_contexts(create_app(module_settings).routes):
        if not isinstance(context.original_route, APIRoute) or not context.path.startswith("/v1/"):
            continue
        path = context.path.replace("{gallery}", "g").replace("{speaker}", "s").replace("{public_id}", "0" * 16)
        for name in ("recording_id", "enrollment_id", "job_id"):
            path = path.replace("{" + name + "}", "1")
        for method in context.methods:
            answer = client.request(method, path, params={"no_such": "1"})
            assert answer.status_code == 422, (method, path, answer.text)
            assert "query.no_such" in answer.json()["detail"], (method, path)
            asked += 1
    assert asked > 30
