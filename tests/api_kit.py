"""The service in this process, on a record of its own, with an encoder that needs no weights."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
import soundfile
import uvicorn

from api.app import create_app
from api.dependencies import Services
from api.page_files import PageFiles
from api.runtime import Runtime
from indexer.embedding.registry import EncoderRegistry, EncoderSpec
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import Settings
from tests.fakes import SpectrumEncoder
from tests.formats.audio_samples import speech_like


@dataclass(frozen=True)
class Weights:
    """What is known of weights that are not there."""

    weights_sha256: str = "0" * 64
    front_end: str = "spectrum"


class RegisteredSpectrum(SpectrumEncoder):
    """The encoder without weights, described as the registry's encoders are."""

    checkpoint = Weights()


class SpectrumEncodersInUse(EncodersInUse):
    """Runs the encoder without weights under every name of the registry."""

    def _load(self, name: str, *_: str | None) -> tuple[RegisteredSpectrum, EncoderSpec]:  # type: ignore[override]
        return RegisteredSpectrum(), self._registry.get(name)


class SpectrumServices(Services):
    """Services whose encoder needs no weights."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        registry: EncoderRegistry = self.registry
        self.__dict__["encoders"] = SpectrumEncodersInUse(registry, settings.embedding)


class ServiceClient(httpx.Client):
    """A client of a service in this process, of which a test can see the inside too."""

    runtime: Runtime


@contextmanager
def serving(
    settings: Settings, services: Services | None = None, page: PageFiles | None = None
) -> Iterator[ServiceClient]:
    """Run the service on a real server and give a client of it."""
    runtime = Runtime(settings, services=services or SpectrumServices(settings))
    app = create_app(settings, runtime, page)
    # Made here, so that the port is known before the server is.
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="api")
        thread.start()
        try:
            with ServiceClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
                client.runtime = runtime
                _wait_until_started(server, thread)
                yield client
        finally:
            server.should_exit = True
            thread.join()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        assert thread.is_alive(), "the service ended while it started; its log says why"
        time.sleep(0.01)


def wav(seconds: float = 2.0, seed: int = 0, rate: int = 16_000) -> bytes:
    """Write a recording of something like speech."""
    return wav_of(speech_like(seconds, rate, seed), rate)


def wav_of(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """Write samples as a WAV file."""
    written = io.BytesIO()
    soundfile.write(written, samples, rate, "PCM_16", format="WAV")
    return written.getvalue()


def changed(settings: Settings, group: str, **values: object) -> Settings:
    """Return settings in which some values of a group are others."""
    return settings.model_copy(update={group: getattr(settings, group).model_copy(update=values)})
