"""The encoders of a service: each owned by one thread here, or run by workers elsewhere."""

import threading

from api.dependencies import Services
from indexer.db.encoders import Encoders
from indexer.db.rows import GalleryHead
from indexer.embedding.batching import BatchingEncoder
from indexer.embedding.encoder import Encoder
from indexer.embedding.registry import EncoderSpec
from indexer.encoders_in_use import front_end_of
from indexer.errors import Unavailable
from indexer.types import EncoderId
from worker.probes import RemoteEncoder

_Named = tuple[str, str | None]
"""Name and front end."""


class LiveEncoders:
    """Encoders for requests, where `probes.where` says that they run."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._guard = threading.Lock()
        self._batching: dict[EncoderId, tuple[BatchingEncoder, EncoderSpec]] = {}
        self._remote: dict[tuple[_Named, EncoderId | None], tuple[RemoteEncoder, EncoderSpec]] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """Probes that wait for an encoder of this process."""
        with self._guard:
            return sum(encoder.waiting for encoder, _ in self._batching.values())

    def of_gallery(self, head: GalleryHead, encoder_id: EncoderId) -> tuple[Encoder, EncoderSpec]:
        """Return one of the encoders of a gallery.

        Raises
        ------
        EncoderMismatch
            If another encoder is found under its name.
        """
        with self._guard:
            known = self._batching.get(encoder_id)
        if known is not None:
            return known
        encoders, database = self._services.encoders, self._services.database
        if self._settings.probes.where == "process":
            own = encoder_id == head.encoder_id
            return self._local(
                *(encoders.of_gallery_id(database, head.id) if own else encoders.of_record(database, encoder_id))
            )
        with database.read_scope() as session:
            row = Encoders(session).get(encoder_id)
        return self._elsewhere(row.name, front_end_of(row.family, row.id), row.id)

    def named(self, name: str | None) -> tuple[Encoder, EncoderSpec]:
        """Return an encoder by its name, or the setting's."""
        if self._settings.probes.where == "process":
            return self._local(*self._services.encoders.load(name))
        return self._elsewhere(name or self._settings.embedding.encoder, None, None)

    def background(self, encoder: Encoder) -> Encoder:
        """Return a view of an encoder for work that nobody waits for."""
        return encoder.background() if isinstance(encoder, BatchingEncoder) else encoder

    def close(self) -> None:
        """End every encoder; whoever waits is told so."""
        with self._guard:
            self._closed = True
            local, remote = list(self._batching.values()), list(self._remote.values())
        for batching, _ in local:
            batching.close()
        for elsewhere, _ in remote:
            elsewhere.close()

    def _local(self, loaded: Encoder, spec: EncoderSpec) -> tuple[Encoder, EncoderSpec]:
        probes = self._settings.probes
        with self._guard:
            self._require_open()
            if loaded.id not in self._batching:
                batching = BatchingEncoder(
                    loaded,
                    queue=probes.queue,
                    batch=probes.batch,
                    batch_audio_s=self._settings.embedding.batch_audio_s,
                    timeout_s=probes.timeout_s,
                )
                self._batching[loaded.id] = batching, spec
            return self._batching[loaded.id]

    def _elsewhere(self, name: str, front_end: str | None, expected: EncoderId | None) -> tuple[Encoder, EncoderSpec]:
        key = ((name, front_end), expected)
        with self._guard:
            self._require_open()
            if key not in self._remote:
                spec = self._services.registry.get(name)
                remote = RemoteEncoder(self._settings, name=name, front_end=front_end, expected=expected)
                self._remote[key] = remote, spec
            return self._remote[key]

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("this process is ending: try again, elsewhere or later")
