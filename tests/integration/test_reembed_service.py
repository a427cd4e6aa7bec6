"""A running service whose gallery goes to another encoder, right under a request."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from indexer.db.encoders import Encoders
from indexer.embedding.registry import EncoderSpec
from indexer.encoders_in_use import EncodersInUse, as_row
from indexer.reembed import Reembed
from indexer.settings import Settings
from indexer.types import Vectors, Waveform
from tests.api_kit import RegisteredSpectrum, ServiceClient, SpectrumServices, serving, wav
from tests.fakes import ReversedSpectrumEncoder

WAV = {"content-type": "audio/wav"}
OTHER = "nemo-ecapa-tdnn"
"""Name in the registry that the other encoder goes by."""


class HeldSpectrum(RegisteredSpectrum):
    """Waits, once it is told to, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.entered, self.let_go = threading.Event(), threading.Event()

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        if self.holds:
            self.entered.set()
            assert self.let_go.wait(120)
        return super().embed(waveforms)


@dataclass(frozen=True)
class OtherWeights:
    weights_sha256: str = "f" * 64
    front_end: str = "reversed"


class RegisteredReversed(ReversedSpectrumEncoder):
    checkpoint = OtherWeights()


class TwoEncoders(EncodersInUse):
    """Runs one encoder without weights under one name, and another one under all others."""

    held = HeldSpectrum()

    def _load(self, name: str, *_: str | None) -> tuple[RegisteredSpectrum | RegisteredReversed, EncoderSpec]:  # type: ignore[override]
        return (RegisteredReversed() if name == OTHER else self.held), self._registry.get(name)


class TwoServices(SpectrumServices):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.__dict__["encoders"] = TwoEncoders(self.registry, settings.embedding)
        self.encoders.held = HeldSpectrum()  # type: ignore[attr-defined]


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(record_settings, TwoServices(record_settings)) as opened:
        assert opened.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        yield opened


def test_a_request_under_which_the_encoder_changes_is_answered_under_the_new_one(client: ServiceClient) -> None:
    services = client.runtime.services
    for seed, name in enumerate(("Ada", "Bea")):
        audio = wav(3, seed)
        path = f"/v1/galleries/calls/speakers/{name}/enrollments"
        assert client.post(path, content=audio, headers=WAV).status_code == 201
    held = services.encoders.held  # type: ignore[attr-defined]
    before = client.post("/v1/galleries/calls/identify", content=wav(3, 1), headers=WAV).json()
    assert (before["speaker"], before["encoder_id"]) == ("Bea", held.id)

    held.holds = True
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/v1/galleries/calls/identify", content=wav(3, 1), headers=WAV)
        assert held.entered.wait(120)
        encoder, spec = services.encoders.load(OTHER)
        with services.database.session_scope() as session:
            Encoders(session).register(as_row(encoder, spec))
        gallery_id = client.runtime.gallery_id("calls")
        report = Reembed(services.database, services.settings, gallery_id, encoder).run()  # from the uploads
        assert report.switched
        held.let_go.set()
        answer = asked.result(120)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["speaker"], answer.json()["encoder_id"]) == ("Bea", encoder.id)
    gallery = client.get("/v1/galleries/calls").json()
    assert gallery["encoder_id"] == encoder.id
