"""Whatever is sent, the API answers as its own document says, and never with an error of its own."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.keys import KeyRing
from indexer.db.session import open_database
from indexer.settings import Settings, load_settings
from tests.api_kit import ServiceClient, serving, wav
from tests.formats.audio_zoo import raw_wav

EXAMPLES = int(os.environ.get("VOXDEX_TEST_SCHEMATHESIS_EXAMPLES", "10"))
"""Requests of each kind to each route; the environment can ask for more."""

KEYLESS = {"GET /healthz", "GET /readyz", "GET /metrics", "GET /v1/session"}
BROWSERS_ONLY = {"POST /v1/session", "DELETE /v1/session"}

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]

VOICE, OTHER = wav(1.5), wav(1.5, seed=1)
BODIES = [VOICE, OTHER, VOICE[: len(VOICE) // 2], raw_wav(b""), bytes(40_000), b"", b"not audio at all"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("schemathesis")
    (folder / "archive").mkdir()
    (folder / "archive" / "one.wav").write_bytes(VOICE)
    return load_settings(
        home=folder / "home",
        database={},
        api={"rate_limit_per_minute": 1_000_000, "max_probe_s": 60.0},
        jobs={"sources": (str(folder / "archive"),)},
    )


@pytest.fixture(scope="module")
def keys(settings: Settings) -> list[str]:
    """Two keys: one that opens everything, and one to be revoked."""
    database = open_database(settings)
    try:
        ring = KeyRing(database)
        return [ring.create(scopes=["admin", "embeddings"]).secret, ring.create(scopes=["read"]).secret]
    finally:
        database.close()


@pytest.fixture(scope="module")
def service(settings: Settings, keys: list[str]) -> Iterator[ServiceClient]:
    with serving(settings) as client:
        client.headers["Authorization"] = f"Bearer {keys[0]}"
        yield client


@pytest.fixture(scope="module")
def known(service: ServiceClient, settings: Settings, keys: list[str]) -> dict[str, Any]:
    """Names and numbers of what is there, by the path parameter that they stand for."""

    def post(path: str, **content: Any) -> Any:
        answer = service.post(f"/v1{path}", **content)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    audio = {"headers": {"Content-Type": "audio/wav"}, "content": VOICE}
    post("/galleries", json={"name": "calls"})
    post("/galleries/calls/speakers", json={"name": "nobody", "labels": ["staff"]})
    enrolled = post("/galleries/calls/speakers/Ann%20Lee/enrollments", **audio)
    recording = post("/galleries/calls/recordings", **{**audio, "content": OTHER})
    job = post("/galleries/calls/jobs", json={"source": str(settings.jobs.sources[0])})
    return {
        "gallery": "calls",
        "speaker": "Ann Lee",
        "enrollment_id": enrolled["enrollment_id"],
        "recording_id": recording["id"],
        "job_id": job["id"],
        "voice": "Unknown-1",  # The one that is not there: no job has looked for any.
        "utterance_id": 1,
        "public_id": keys[1].split("_")[1],
    }


@pytest.fixture(scope="module")
def document(service: ServiceClient, keys: list[str]) -> Any:
    schemathesis.openapi.format("binary", st.sampled_from(BODIES) | st.binary(max_size=200))
    config = SchemathesisConfig.from_dict(
        {
            "seed": 20261122,
            "headers": {"Authorization": f"Bearer {keys[0]}"},
            "request-timeout": 60,
            "max-stream-events": 3,
            "generation": {"with-security-parameters": False},
        }
    )
    return schemathesis.openapi.from_url(f"{str(service.base_url).rstrip('/')}/v1/openapi.json", config=config)


def test_every_answer_is_one_that_the_document_promises(
    document: Any, known: dict[str, Any], subtests: pytest.Subtests
) -> None:
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) > 30
    # What is there stays there until the last: everything before has something to find.
    for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
        names = [parameter.name for parameter in operation.path_parameters]
        assert set(names) <= set(known), operation.label
        ways = {
            "valid": operation.as_strategy(GenerationMode.POSITIVE),
            "invalid": operation.as_strategy(GenerationMode.NEGATIVE),
        }
        if names:
            there = {name: known[name] for name in names}
            ways["valid, of what is there"] = operation.as_strategy(GenerationMode.POSITIVE, path_parameters=there)
        # What no name is takes long to think of, and is the same for every route of that name.
        only_names = not operation.query and not operation.body
        for way, strategy in ways.items():
            with subtests.test(operation.label, way=way):
                ask_and_check(strategy, EXAMPLES // 4 if way == "invalid" and only_names else EXAMPLES)


def test_no_key_no_data(document: Any, service: ServiceClient, known: dict[str, Any], keys: list[str]) -> None:
    wrong = f"{keys[0][:-1]}{'A' if keys[0][-1] != 'A' else 'B'}"
    for result in document.get_all_operations():
        operation = result.ok()
        path = operation.path.format(**{name: quote(str(value), safe="") for name, value in known.items()})
        for headers in ({"Authorization": ""}, {"Authorization": f"Bearer {wrong}"}):
            answer = service.request(operation.method, path, headers=headers)
            if operation.label in BROWSERS_ONLY:  # Without the header that other sites' pages cannot send.
                assert answer.status_code in (403, 422), operation.label
            elif operation.label in KEYLESS:
                assert answer.is_success, operation.label
            else:
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), operation.label


def ask_and_check(strategy: st.SearchStrategy[Any], examples: int) -> None:
    @hypothesis.given(case=strategy)
    @hypothesis.settings(
        max_examples=max(1, examples),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    with suppress(hypothesis.errors.Unsatisfiable):  # A route that takes nothing cannot be asked wrongly.
        ask()
