"""What the service says of itself: alive, ready, metrics, request ids, log lines; and that no name is in them."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.embedding.registry import EncoderSpec
from indexer.encoders_in_use import EncodersInUse
from indexer.errors import DownloadFailed
from indexer.observability import setup_logging
from indexer.settings import Settings, load_settings
from tests.api_kit import RegisteredSpectrum, ServiceClient, SpectrumServices, changed, serving, wav
from tests.waiting import eventually

WAV = {"content-type": "audio/wav"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", database={})


@pytest.fixture
def client(settings: Settings) -> Iterator[ServiceClient]:
    with serving(settings) as opened:
        yield opened


def until_ready(client: ServiceClient) -> dict[str, object]:
    eventually(lambda: client.get("/readyz").status_code == 200, told=lambda: client.get("/readyz").text)
    document: dict[str, object] = client.get("/readyz").json()
    return document


def test_a_process_is_alive_at_once_and_ready_when_its_parts_are(record_settings: Settings) -> None:
    with serving(record_settings) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        client.post("/v1/galleries", json={"name": "Secret Name"})
        client.post("/v1/galleries/Secret%20Name/identify", content=wav(1), headers=WAV)
        ready = until_ready(client)
        assert ready["database"] == {"ok": True, "problem": None}
        assert ready["broker"] is None
        assert ready["encoder"] == {"ok": True, "problem": None, "encoder_id": "0123456789abcdef-spectrum"}
        index = ready["index"]
        assert isinstance(index, dict)
        assert [(one["vectors"], one["changes_behind"]) for one in index["galleries"]] == [(0, 0)]
        assert "Secret" not in json.dumps(ready)


class Unreachable(EncodersInUse):
    """Weights that cannot be had until their source is there again."""

    there = False

    def _load(self, name: str, *_: str | None) -> tuple[RegisteredSpectrum, EncoderSpec]:  # type: ignore[override]
        if not self.there:
            raise DownloadFailed("http://weights.example/secret: no answer")
        return RegisteredSpectrum(), self._registry.get(name)


def test_a_process_without_its_encoder_is_alive_and_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.preload._AGAIN_S", 0.1)
    services = SpectrumServices(settings)
    encoders = Unreachable(services.registry, settings.embedding)
    services.__dict__["encoders"] = encoders
    with serving(settings, services) as client:
        eventually(lambda: client.get("/readyz").json()["encoder"]["problem"] != "loading")
        answer = client.get("/readyz")
        assert answer.status_code == 503
        document = answer.json()
        assert document["ready"] is False
        assert document["encoder"] == {"ok": False, "problem": "download-failed", "encoder_id": None}
        assert document["database"]["ok"] is True
        assert client.get("/healthz").status_code == 200
        encoders.there = True
        assert until_ready(client)["ready"] is True


def test_a_broker_that_is_away_makes_a_process_unready(settings: Settings) -> None:
    away = changed(settings, "broker", url="redis://127.0.0.1:1/0")
    settings = load_settings(home=away.home, database={}, broker={"url": "redis://127.0.0.1:1/0"})
    with serving(settings) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["broker"] == {"ok": False, "problem": "unavailable"}
        assert client.get("/metrics").status_code == 200


def test_metrics_tell_every_stage_and_no_name(client: ServiceClient, tmp_path: Path) -> None:
    client.post("/v1/galleries", json={"name": "Secret Gallery"})
    gallery = "/v1/galleries/Secret%20Gallery"
    client.post(f"{gallery}/speakers/Secret%20Person/enrollments", content=wav(2, 1), headers=WAV)
    client.post(f"{gallery}/identify?threshold=0.9&filename=Secret.wav", content=wav(2, 1), headers=WAV)
    archive = tmp_path / "Secret"
    archive.mkdir()
    (archive / "a.wav").write_bytes(wav(3, 2))
    (archive / "b.wav").write_bytes(b"")
    job = client.post(f"{gallery}/jobs", json={"source": str(archive)}).json()["id"]
    with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert '"state":"succeeded_with_errors"' in stream.read().decode().replace(" ", "")
    client.get("/Secret/path?name=Secret")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    assert "Secret" not in text

    def value(sample: str) -> float:
        found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        assert found, sample
        return float(found[1])

    for sample in (
        "voxdex_audio_seconds_total",
        "voxdex_speech_seconds_total",
        "voxdex_decode_seconds_total",
        "voxdex_commit_seconds_total",
        'voxdex_files_total{outcome="done"}',
        'voxdex_files_total{outcome="failed"}',
        "voxdex_probe_batch_size_count",
        "voxdex_search_seconds_count",
        'voxdex_decisions_total{kind="identify",outcome="identified"}',
        'voxdex_http_requests_total{method="POST",route="/v1/galleries/{gallery}/identify",status="200"}',
        'voxdex_http_requests_total{method="GET",route="unmatched",status="404"}',
        'voxdex_http_request_seconds_count{method="POST",route="/v1/galleries/{gallery}/identify"}',
    ):
        assert value(sample) > 0, sample
    gallery_id = client.get("/readyz").json()["index"]["galleries"][0]["gallery_id"]
    assert value(f'voxdex_index_vectors{{gallery_id="{gallery_id}"}}') == 2
    assert value(f'voxdex_index_lag_seconds{{gallery_id="{gallery_id}"}}') == 0
    assert value('voxdex_queue_depth{queue="local"}') == 0
    assert value('voxdex_queue_depth{queue="probes"}') == 0


@pytest.mark.parametrize("given", ["a" * 8, "5f0c2a9e-4d7b-4c55.x_1"])
def test_a_sane_request_id_is_kept(client: ServiceClient, given: str) -> None:
    answer = client.get("/v1/galleries/none", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["short", "a" * 129, 'forged","level":"x', "tab\there..."])
def test_a_request_id_that_could_forge_a_log_line_is_replaced(client: ServiceClient, given: str) -> None:
    answer = client.get("/v1/galleries/none", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_each_request_is_one_line_of_json_without_names(
    client: ServiceClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    names = (None, "api", "indexer", "search", "worker", "uvicorn", "uvicorn.access", "celery")
    levels = {name: logging.getLogger(name).level for name in names}
    setup_logging(settings, service="serve")
    try:
        client.post("/v1/galleries", json={"name": "Secret Gallery"})
        client.post("/v1/galleries/Secret%20Gallery/speakers/Secret%20Person/enrollments", content=wav(1), headers=WAV)
        client.post("/v1/galleries/Secret%20Gallery/verify?speaker_id=Secret", content=wav(1), headers=WAV)
        client.get("/Secret?x=Secret", headers={"X-Request-ID": "request-of-mine"})
        # A request's line is written when it is over, which its caller may hear of a moment before.
        eventually(lambda: "unmatched" in written.getvalue())
    finally:
        root = logging.getLogger()
        root.removeHandler(root.handlers[-1])
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert "Secret" not in written.getvalue()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    access = [line for line in lines if line["logger"] == "api.access"]
    assert [(line["method"], line["route"], line["status"]) for line in access] == [
        ("POST", "/v1/galleries", 201),
        ("POST", "/v1/galleries/{gallery}/speakers/{speaker}/enrollments", 201),
        ("POST", "/v1/galleries/{gallery}/verify", 404),
        ("GET", "unmatched", 404),
    ]
    assert access[-1]["request_id"] == "request-of-mine"
    assert all(line["duration_s"] >= 0 and line["service"] == "serve" for line in access)


def test_the_encoders_are_listed_with_what_is_known_of_them(client: ServiceClient) -> None:
    encoders = client.get("/v1/encoders").json()["items"]
    assert [one["name"] for one in encoders if one["default"]] == ["speechbrain-ecapa-voxceleb"]
    assert all(one["license"] and one["published_eer"] for one in encoders)


def test_the_document_of_the_api_is_openapi_3_1_with_examples_and_problems(client: ServiceClient) -> None:
    document = client.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), (method, path)


def test_every_answer_and_every_recording_that_is_sent_has_an_example(client: ServiceClient) -> None:
    document = client.get("/v1/openapi.json").json()

    def has_example(content: dict[str, object]) -> bool:
        schema = content.get("schema") or {}
        assert isinstance(schema, dict)
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        whole = document["components"]["schemas"].get(name, schema)
        inside = whole.get("properties", {}).get("items", {}).get("items", {})
        item = document["components"]["schemas"].get(str(inside.get("$ref", "")).rpartition("/")[2], {})
        return "example" in content or "examples" in whole or "examples" in item

    lacking = [
        (method, path, where, kind)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for where, described in [
            *((status, answer) for status, answer in operation["responses"].items() if status < "300"),
            ("body", operation.get("requestBody", {})),
        ]
        for kind, content in described.get("content", {}).items()
        if not has_example(content)
    ]
    assert lacking == []


def test_what_a_path_allows_is_told_before_the_document_was_ever_built(client: ServiceClient) -> None:
    refused = client.put("/v1/galleries/calls")
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, PATCH")
    assert client.post("/v1/openapi.json").headers["allow"] == "GET, HEAD"
