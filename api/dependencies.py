"""Where the parts are put together: settings, record, index and encoder, for the command line and the service alike."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.made_once import made_once
from indexer.embedding.registry import make_registry
from indexer.errors import AlreadyExists, NotFound
from indexer.settings import Settings, load_settings
from indexer.types import GalleryId

if TYPE_CHECKING:  # What these load takes a second or more; each is imported where it is first needed.
    from api.catalog import Catalog
    from api.comparison import Comparison
    from api.encoder_side import EncoderSide
    from api.indexes import Indexes
    from api.live import LiveGalleries
    from api.unknown_voices import UnknownCatalog
    from api.voices import Voices
    from indexer.db.rows import GalleryHead
    from indexer.db.session import Database
    from indexer.embedding.encoder import Encoder
    from indexer.embedding.encoder_set import EncoderSet
    from indexer.embedding.registry import EncoderSpec
    from indexer.encoders_in_use import EncodersInUse
    from indexer.ingest import Ingest
    from indexer.jobs.bulk import BulkIngest
    from indexer.listening import Listening
    from worker.client import CeleryQueue
    from worker.clustering import Clusterings
    from worker.local_queue import LocalQueue


def settings_of(*, home: Path | None = None, channels: str | None = None) -> Settings:
    """Build the settings of this process: the environment, then what the caller asks for."""
    settings = load_settings(home=home)
    if channels is not None:
        settings = settings.model_copy(update={"audio": settings.audio.model_copy(update={"channels": channels})})
    return settings


@contextmanager
def open_services(*, home: Path | None = None, channels: str | None = None) -> Iterator["Services"]:
    """Open everything lazily, and close what was opened."""
    from indexer.observability import setup_logging

    settings = settings_of(home=home, channels=channels)
    setup_logging(settings, service="cli")
    services = Services(settings)
    try:
        yield services
    finally:
        services.close()


class Services:
    """The parts of one process; each is made when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        from indexer.audio.channels import ChannelPolicy

        self.settings = settings
        self.registry = make_registry(settings)
        self._channels = ChannelPolicy.parse(settings.audio.channels)
        self._database: Database | None = None
        self._opening = threading.Lock()
        self._live: LiveGalleries | None = None
        self._voices: list[Voices] = []

    def close(self) -> None:
        """Close what was opened; a shard that this process works on is given back first."""
        if "queue" in vars(self):
            self.queue.close()
        if self._live is not None:
            self._live.close()
        for voices in self._voices:
            voices.close()
        if self._database is not None:
            self._database.close()

    @property
    def exists(self) -> bool:
        """Whether there is a record to ask; the default one is made by the first ingest."""
        return self.settings.database.url is not None or self.settings.sqlite_path.exists()

    def record(self) -> "Database":
        """Return the record for questions, which must not make one.

        Raises
        ------
        NotFound
            If there is none yet.
        """
        if not self.exists:
            raise NotFound(
                f"nothing is stored in {self.settings.home} yet: run voxdex ingest, or name another folder with --home"
            )
        return self.database

    @property
    def database(self) -> "Database":
        """The record, at the schema of this version."""
        with self._opening:
            if self._database is None:
                from indexer.db.session import open_database

                self._database = open_database(self.settings)
            return self._database

    @made_once
    def encoders(self) -> "EncodersInUse":
        """The encoders, loaded when they are first asked for."""
        from indexer.encoders_in_use import EncodersInUse

        return EncodersInUse(self.registry, self.settings.embedding)

    @made_once
    def listening(self) -> "Listening":
        """How recordings are listened to, unless somebody asks otherwise."""
        from indexer.audio.speech import make_detector
        from search.listening import make_listening
        from search.second_voice import asking_for_second_voices

        return asking_for_second_voices(make_listening(self.settings.speech, make_detector(self.settings.speech)))

    @made_once
    def queue(self) -> "CeleryQueue | LocalQueue":
        """What carries jobs to whoever works on them: the broker where one is set, else a thread of this process."""
        if self.settings.broker.url is not None:
            from worker.client import CeleryQueue

            return CeleryQueue(self.settings)
        from worker.local_queue import LocalQueue

        return LocalQueue(self.settings.jobs)

    def queue_depths(self) -> dict[str, int]:
        """Count the messages that wait, by queue; one that cannot be asked is left out."""
        from worker.app import QUEUES
        from worker.local_queue import LocalQueue

        if isinstance(self.queue, LocalQueue):
            return {"local": self.queue.waiting() or 0}
        depths = {name: self.queue.depth(name) for name in QUEUES}
        return {name: depth for name, depth in depths.items() if depth is not None}

    @made_once
    def bulk(self) -> "BulkIngest":
        """The use cases of jobs."""
        from indexer.jobs.bulk import BulkIngest
        from worker.local_queue import LocalQueue

        return BulkIngest(
            self.database,
            self.settings,
            queue=self.queue,
            encoders_for=self.job_encoders,
            listening=self.listening,
            stopping=self.queue.is_stopping if isinstance(self.queue, LocalQueue) else lambda: False,
        )

    @made_once
    def clusterings(self) -> "Clusterings":
        """The use cases of unknown voices."""
        from worker.clustering import Clusterings
        from worker.local_queue import LocalQueue

        stopping = self.queue.is_stopping if isinstance(self.queue, LocalQueue) else lambda: False
        return Clusterings(self.database, self.settings, queue=self.queue, stopping=stopping)

    @made_once
    def unknown(self) -> "UnknownCatalog":
        """Who is heard again and again without a name."""
        from api.unknown_voices import UnknownCatalog

        return UnknownCatalog(self.record())

    def work_on_jobs(self) -> None:
        """Work through jobs in a thread of this process, unfinished ones first; where a broker is set, workers do."""
        from worker.local_queue import LocalQueue

        if isinstance(self.queue, LocalQueue):
            self.queue.start(self.bulk, self.clusterings)

    def share_with(self, live: "LiveGalleries") -> None:
        """Let jobs and erasures use the encoders and indexes that requests are answered by; closed with the rest."""
        self._live = live

    def job_encoders(self, gallery_id: GalleryId) -> "EncoderSet":
        """Return the encoders that a gallery's jobs are embedded by in this process."""
        if self._live is not None:
            return self._live.encoders_for(gallery_id)
        return self.encoders.all_of_gallery(self.database, gallery_id)

    @made_once
    def indexes(self) -> "Indexes":
        """The index of each gallery."""
        from api.indexes import Indexes

        return Indexes(self.record(), self.settings)

    @made_once
    def catalog(self) -> "Catalog":
        """What is stored."""
        from api.catalog import Catalog
        from indexer.media import MediaStore

        return Catalog(
            self.record(),
            refresh_index=lambda gallery_id: (self._live.erased if self._live else self.indexes.scrub)(gallery_id),
            drop_index=lambda gallery_id: (self._live.dropped if self._live else self.indexes.drop)(gallery_id),
            media=MediaStore(self.settings.media_path),
        )

    def create_gallery(
        self, name: str, encoder: str | None, *, second_encoder: str | None = None, **rules: Any
    ) -> None:
        """Make a gallery for an encoder, which is loaded for its id and downloaded where it is not here.

        Parameters
        ----------
        encoder
            A name; None means the setting.
        second_encoder
            The name of one to embed everything by as well, whose scores are fused with those of the first.
        rules
            Columns of the gallery's operating point and rules.

        Raises
        ------
        NotFound
            If no encoder has that name: a path is for the command line, not for whoever asks over the network.
        AlreadyExists
            If the gallery's name is taken.
        EncoderMismatch
            If both encoders are the same, or an encoder's vectors do not fit a gallery.
        InvalidRequest
            If the rules contradict each other; see `require_rules`.
        """
        from api.gallery_rules import require_rules
        from indexer.db.encoders import Encoders
        from indexer.db.galleries import Galleries
        from indexer.encoders_in_use import as_row

        require_rules(None, rules)
        known = {spec.name for spec in self.registry.list()}
        for one in (encoder, second_encoder):
            if one is not None and one not in known:
                raise NotFound(f"no encoder is called {one!r}; there are: {', '.join(sorted(known))}")
        with self.database.read_scope() as session:
            if Galleries(session).find(name) is not None:
                raise AlreadyExists(f"gallery {name!r} is there already; change it, or choose another name")
        row = as_row(*self.encoders.load(encoder))
        second = None if second_encoder is None else as_row(*self.encoders.load(second_encoder))
        with self.database.session_scope() as session:
            encoders = Encoders(session)
            Galleries(session).create(
                name, encoders.register(row), None if second is None else encoders.register(second), **rules
            )

    def ingest(
        self, gallery: str, encoder: str | None, *, speakers: str | None = None, speech: str | None = None
    ) -> "Ingest":
        """Prepare to write into a gallery, which is made if new.

        Parameters
        ----------
        encoder
            Name or path; None means the gallery's own, or for a new gallery the setting.
        speakers, speech
            See `indexer.hearing.listening_as_asked`, also for its errors; None means the setting.

        Raises
        ------
        EncoderMismatch
            If the gallery is of another encoder, or the encoder's vectors do not fit a gallery.
        """
        from indexer.db.encoders import Encoders
        from indexer.db.galleries import Galleries
        from indexer.encoders_in_use import as_row
        from indexer.ingest import Ingest
        from indexer.listening_choices import listening_as_asked

        loaded, spec = self.encoders.of_gallery(self.database, gallery, encoder)
        with self.database.session_scope() as session:
            row = Encoders(session).register(as_row(loaded, spec))
            gallery_id = GalleryId(Galleries(session).get_or_create(gallery, row).id)

        def encoders_for(number: GalleryId) -> "EncoderSet":
            # Not by the name that is recorded where it need not be: the caller may have named a file.
            return self.encoders.all_of_gallery(self.database, number, at_hand=loaded)

        return Ingest(
            database=self.database,
            gallery_id=gallery_id,
            encoders_for=encoders_for,
            limits=self.settings.audio,
            channels=self._channels,
            decode_threads=self.settings.ingest.decode_threads,
            listening=listening_as_asked(self.listening, self.settings.speech, speakers=speakers, speech=speech),
            enough_s=self.settings.decision.min_enrollment_s,
        )

    def voices(self, gallery: str) -> "Voices":
        """Prepare to answer questions from a gallery.

        Raises
        ------
        NotFound
            If there is no such gallery.
        EncoderMismatch
            If the gallery's encoder cannot be had any more: another one would compare what must not be compared.
        """
        from api.voices import Voices
        from indexer.db.galleries import Galleries

        with self.record().read_scope() as session:
            head = Galleries(session).head(gallery)
        loaded = [self.encoders.of_gallery_id(self.database, head.id)]
        loaded += [self.encoders.of_record(self.database, other) for other in head.encoder_ids[1:]]
        voices = Voices(
            [self._side(head, *one) for one in loaded],
            self.settings,
            listening=lambda: self.listening,
            database=self.database,
            gallery=gallery,
            gallery_id=head.id,
        )
        self._voices.append(voices)
        return voices

    def _side(self, head: "GalleryHead", encoder: "Encoder", spec: "EncoderSpec") -> "EncoderSide":
        """Open what a gallery is under one encoder."""
        from api.encoder_side import EncoderSide
        from api.enrolled import EnrolledGallery
        from api.filtered import FilteredGallery

        index = self.indexes.open(head.name, encoder.id)
        return EncoderSide(
            encoder,
            spec,
            index,
            EnrolledGallery(self.database, head.id, encoder.id, index, self.settings.index),
            FilteredGallery(self.database, head.id, encoder.id),
        )

    def comparison(self, encoder: str | None, *, front_end: str | None = None) -> "Comparison":
        """Prepare to embed and compare without a gallery."""
        from api.comparison import Comparison
        from indexer.embedding.encoder_set import EncoderSet

        loaded, spec = self.encoders.load(encoder, front_end)
        return Comparison(EncoderSet(loaded), spec, self.settings, lambda: self.listening)
