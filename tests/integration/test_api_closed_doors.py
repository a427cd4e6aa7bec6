"""Ways in that are none: a proxy before an open service, a service that lost its keys, a key that asks for more."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.errors import InvalidRequest
from indexer.settings import Settings, load_settings
from tests.api_kit import ServiceClient, changed, serving, wav

AUDIO = {"content-type": "audio/wav"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServiceClient]:
    """A service without settings, as it is after installation."""
    with serving(load_settings(home=tmp_path)) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(module_settings) as opened:
        yield opened


def key(client: ServiceClient, *scopes: str, gallery: str | None = None) -> dict[str, str]:
    return {"X-API-Key": client.runtime.keys.create(scopes=scopes, gallery=gallery).secret}


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Via"])
def test_an_open_service_serves_nobody_through_a_proxy(fresh: ServiceClient, header: str) -> None:
    host = {"host": "127.0.0.1"}
    assert fresh.get("/v1/galleries", headers=host).status_code == 200
    refused = fresh.get("/v1/galleries", headers={**host, header: "203.0.113.9"})
    assert refused.status_code == 401
    assert "proxy" in refused.json()["detail"]
    assert "voxdex key create" in refused.json()["detail"]
    admin = {**key(fresh, "admin"), header: "203.0.113.9"}
    assert fresh.get("/v1/galleries", headers=admin).status_code == 200


def test_a_service_whose_only_keys_went_with_their_gallery_stays_closed(record_settings: Settings) -> None:
    with serving(record_settings) as client:
        assert client.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        bound = key(client, "write", gallery="calls")
        assert client.get("/v1/galleries").status_code == 401
        client.runtime.services.catalog.delete_gallery("calls")
        assert client.get("/v1/galleries").status_code == 401
        assert client.get("/v1/galleries", headers=bound).status_code == 401
        (left,) = client.runtime.keys.list()
        assert (left.gallery_id, left.revoked_at is not None) == (None, True)


def test_a_recording_elsewhere_is_told_in_the_words_for_none(client: ServiceClient) -> None:
    admin = key(client, "admin")
    mine, theirs = uuid.uuid4().hex, uuid.uuid4().hex
    for name in (mine, theirs):
        client.post("/v1/galleries", json={"name": name}, headers=admin)
    made = client.post(f"/v1/galleries/{theirs}/recordings", content=wav(2), headers={**AUDIO, **admin}).json()
    bound = key(client, "write", gallery=mine)
    for ask in (client.get, client.delete):
        elsewhere = ask(f"/v1/galleries/{mine}/recordings/{made['id']}", headers=bound)
        nowhere = ask(f"/v1/galleries/{mine}/recordings/{made['id'] + 1}", headers=bound)
        assert (elsewhere.status_code, nowhere.status_code) == (404, 404)
        assert elsewhere.json()["detail"] == nowhere.json()["detail"].replace(
            f"id {made['id'] + 1} ", f"id {made['id']} "
        )


def test_a_key_gives_voiceprints_to_another_only_if_it_gets_them_itself(client: ServiceClient) -> None:
    wanted = {"scopes": ["identify", "embeddings"]}
    refused = client.post("/v1/keys", json=wanted, headers=key(client, "admin"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert client.post("/v1/keys", json=wanted, headers=key(client, "admin", "embeddings")).status_code == 201


def test_whoever_sits_at_an_open_machine_may_make_any_key(fresh: ServiceClient) -> None:
    assert fresh.post("/v1/keys", json={"scopes": ["embeddings"]}).status_code == 201


def test_a_service_that_is_open_to_others_gives_no_voiceprints_away(tmp_path: Path) -> None:
    settings = changed(load_settings(home=tmp_path), "api", open=True, host="0.0.0.0")
    with serving(settings) as client:
        assert client.post("/v1/keys", json={"scopes": ["embeddings"]}).status_code == 403


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("VOXDEX_DATABASE__PASSWORD", "DATABASE__PASSWORD"),
        ("VOXDEX_BROKER__VISIBILITY_TIMEOUT_S", "VISIBILITY_TIMEOUT_S"),
        ("VOXDEX_WEBHOOKS__ATTEMPTS", "WEBHOOKS__ATTEMPTS"),
        ("VOXDEX_WEBHOOKS", "VOXDEX_WEBHOOKS"),
        ("VOXDEX_API__SECRET", "API__SECRET"),
        ("VOXDEX_INDEX__MILVUS__URI", "MILVUS__URI: no address of a Milvus: give http://"),
        ("VOXDEX_INDEX__MILVUS__PASSWORD", "MILVUS__PASSWORD"),
        ("VOXDEX_INDEX", "VOXDEX_INDEX"),
    ],
)
def test_a_setting_that_may_be_a_secret_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, named: str
) -> None:
    monkeypatch.setenv(variable, '"hunter2"' if variable in ("VOXDEX_WEBHOOKS", "VOXDEX_INDEX") else "hunter2")
    with pytest.raises(InvalidRequest, match=named) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value) + str(refused.value.__cause__)


@pytest.mark.parametrize(
    ("variable", "value", "limit"),
    [
        ("VOXDEX_API__PORT", "99999", "less than or equal to 65535"),
        ("VOXDEX_INDEX__MILVUS__FILTER_IDS", "0", "greater than or equal to 1"),
        ("VOXDEX_INDEX__MILVUS__PREFIX", "1-a", "letters from a to z, digits and underscores"),
        ("VOXDEX_INDEX__DEVICE", "quantum", "give cuda, cuda:N, or cpu"),
    ],
)
def test_any_other_setting_is_refused_with_its_value_and_the_limit(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, limit: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidRequest, match=f"{variable} = '{value}': .*{limit}"):
        load_settings()


@pytest.mark.parametrize("choice", ["gpu", "mps", "cuda:", "cuda:x", "auto"])
def test_a_device_that_does_not_scan_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv("VOXDEX_INDEX__DEVICE", choice)
    with pytest.raises(InvalidRequest, match=f"'{choice}': give cuda, cuda:N, or cpu"):
        load_settings()


@pytest.mark.parametrize("uri", ["gopher://x", "milvus", "http://", "http://host:99999", "http://host:port"])
def test_what_is_no_address_of_a_milvus_is_refused_when_settings_are_read(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("VOXDEX_INDEX__MILVUS__URI", uri)
    with pytest.raises(InvalidRequest, match="no address of a Milvus"):
        load_settings()


@pytest.mark.parametrize("uri", ["http://milvus:19530", "https://key@cluster.example", "tcp://[::1]:19530", "/a/b.db"])
def test_addresses_of_a_milvus_are_taken(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("VOXDEX_INDEX__MILVUS__URI", uri)
    known = load_settings().index.milvus.uri
    assert known is not None
    assert known.get_secret_value() == uri
