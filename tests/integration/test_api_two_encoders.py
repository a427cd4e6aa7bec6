"""Galleries of two encoders over HTTP: made, enrolled into, asked, and erased from."""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from api.dependencies import Services
from indexer.db.models import Embedding
from indexer.embedding.registry import EncoderSpec
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import Settings
from tests.api_kit import RegisteredSpectrum, ServiceClient, Weights, serving, wav
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder

SECOND = "campplus-zh-en"


class RegisteredReversed(ReversedSpectrumEncoder):
    """The other encoder without weights, described as the registry's encoders are."""

    checkpoint = Weights(weights_sha256="1" * 64)


class BothInUse(EncodersInUse):
    """Runs an encoder without weights under the names of two published ones."""

    def _load(self, name: str, *_: str | None) -> tuple[SpectrumEncoder, EncoderSpec]:  # type: ignore[override]
        return RegisteredReversed() if name == SECOND else RegisteredSpectrum(), self._registry.get(name)


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    services = Services(record_settings)
    services.__dict__["encoders"] = BothInUse(services.registry, record_settings.embedding)
    with serving(record_settings, services) as opened:
        yield opened


def vectors(client: ServiceClient) -> dict[str, int]:
    with client.runtime.database.read_scope() as session:
        counts = select(Embedding.encoder_id, func.count()).group_by(Embedding.encoder_id)
        return dict(row for row in session.execute(counts))


def test_a_gallery_of_two_encoders_enrolls_identifies_and_forgets_under_both(client: ServiceClient) -> None:
    made = client.post("/v1/galleries", json={"name": "fused", "second_encoder": SECOND})
    assert made.status_code == 201, made.text
    ids = (SpectrumEncoder().id, ReversedSpectrumEncoder().id)
    assert (made.json()["encoder_id"], made.json()["second_encoder_id"]) == ids

    for seed, name in enumerate(("ann", "bob")):
        path = f"/v1/galleries/fused/speakers/{name}/enrollments"
        enrolled = client.post(path, files={"file": ("a.wav", wav(3.0, seed))})
        assert enrolled.status_code == 201, enrolled.text
    assert vectors(client) == dict.fromkeys(ids, 2)

    answer = client.post("/v1/galleries/fused/identify", files={"file": ("p.wav", wav(3.0, 0))}).json()
    (best, other) = answer["candidates"]
    assert best["speaker"] == "ann"
    assert best["score"] == pytest.approx(1.0, abs=1e-4)
    assert best["second_score"] == pytest.approx(1.0, abs=1e-4)
    assert other["second_score"] < best["second_score"]

    assert client.delete("/v1/galleries/fused/speakers/ann").status_code == 200
    assert vectors(client) == dict.fromkeys(ids, 1)
    answer = client.post("/v1/galleries/fused/identify", files={"file": ("p.wav", wav(3.0, 0))}).json()
    assert [one["speaker"] for one in answer["candidates"]] == ["bob"]


def test_a_second_encoder_that_is_unknown_or_the_first_again_is_refused(client: ServiceClient) -> None:
    unknown = client.post("/v1/galleries", json={"name": "x", "second_encoder": "nobody"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    twice = client.post("/v1/galleries", json={"name": "x", "encoder": SECOND, "second_encoder": SECOND})
    assert (twice.status_code, twice.json()["code"]) == (409, "encoder-mismatch")
    assert client.get("/v1/galleries/x").status_code == 404


def test_the_encoders_are_listed_with_what_they_cost_and_how_often_they_err(client: ServiceClient) -> None:
    found = {one["name"]: one for one in client.get("/v1/encoders").json()["items"]}
    default, second = found["speechbrain-ecapa-voxceleb"], found[SECOND]
    assert (default["default"], second["default"]) == (True, False)
    assert set(default["measured_eer"]) == set(second["measured_eer"])
    assert second["times_real_time"] > default["times_real_time"]
