"""A service that answers from a gallery under two encoders, while other processes change it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from api.cli.local_servers import LocalRedis
from api.dependencies import Services
from api.live import LiveGalleries
from api.live_encoders import LiveEncoders
from api.speaker_ranking import SpeakerRanking
from api.voices import Voices
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.embedding.batching import BackgroundEncoder
from indexer.embedding.registry import EncoderSpec
from indexer.errors import EncoderChanged
from indexer.index.snapshots import index_folder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, Vectors
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.reembed_kit import register
from tests.vectors import unit_vectors
from tests.voices_kit import heard_voice, identified
from tests.waiting import eventually
from worker.probes import RemoteEncoder

FIRST, SECOND = SpectrumEncoder(), ReversedSpectrumEncoder()
ANN, BOB, EVE = unit_vectors(6, seed=7).reshape(3, 2, 192)
"""Three people, each under both encoders."""


class BothEncoders:
    """Finds either encoder without weights."""

    def __init__(self) -> None:
        self.by_id = {one.id: (one, _spec(one.name)) for one in (SpectrumEncoder(), ReversedSpectrumEncoder())}

    def of_gallery_id(self, database: Database, gallery_id: GalleryId) -> tuple[SpectrumEncoder, EncoderSpec]:
        with database.read_scope() as session:
            return self.by_id[Galleries(session).get(gallery_id).encoder_id]

    def of_record(self, database: Database, encoder_id: EncoderId) -> tuple[SpectrumEncoder, EncoderSpec]:
        return self.by_id[encoder_id]


def _spec(name: str) -> EncoderSpec:
    return EncoderSpec(
        name=name,
        family="speechbrain",
        front_end=None,
        license="",
        published_eer="",
        description="",
        sha256=None,
        size_bytes=None,
        file_name="",
        identification_threshold=0.5,
        verification_threshold=0.5,
    )


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    register(database, FIRST, SECOND)
    with database.session_scope() as session:
        encoders = Encoders(session)
        return GalleryId(Galleries(session).create("fused", encoders.get(FIRST.id), encoders.get(SECOND.id)).id)


@pytest.fixture
def live(record_settings: Settings, database: Database) -> Iterator[LiveGalleries]:
    """What a serving process keeps; `database` is another process."""
    services = Services(record_settings)
    services.__dict__["encoders"] = BothEncoders()
    galleries = LiveGalleries(services)
    services.share_with(galleries)
    yield galleries
    services.close()


def add(database: Database, gallery: GalleryId, person: Vectors, speaker: str, *, fused: bool = True) -> RecordedIds:
    content = f"{time.monotonic_ns()}"
    with database.session_scope() as session:
        owner = Speakers(session).get_or_create(gallery, [speaker])[speaker]
        beside = {SECOND.id: person[1]} if fused else {}
        part = NewUtterance(None, 0.0, 1.0, person[0], owner, beside=beside)
        return Recordings(session).add(gallery, FIRST.id, NewRecording(content, f"/{content}.wav", utterances=[part]))


def candidates(voices: Voices, person: Vectors) -> list[tuple[str, float, float | None]]:
    ids = voices.encoders.ids
    answer = identified(voices, heard_voice(person[: len(ids)], *ids)).answer
    return [(one.speaker, one.score, one.second_score) for one in answer.candidates]


def test_who_is_enrolled_is_scored_under_both_encoders_and_vectors_of_the_two_never_meet(
    live: LiveGalleries, database: Database, gallery: GalleryId
) -> None:
    voices = live.get("fused")
    assert voices.encoders.ids == (FIRST.id, SECOND.id)
    for person, name in ((ANN, "ann"), (BOB, "bob")):
        add(database, gallery, person, name)
    found = candidates(voices, ANN)
    assert [name for name, *_ in found] == ["ann", "bob"]
    for (_, score, second), person in zip(found, (ANN, BOB), strict=True):
        assert score == pytest.approx(float(ANN[0] @ person[0]), abs=1e-5)
        assert second == pytest.approx(float(ANN[1] @ person[1]), abs=1e-5)
    # Had vectors of the two met, ann would be found again by those of the other encoder: both have 192 numbers.
    crossed = {name: score for name, score, _ in candidates(voices, ANN[::-1])}
    assert crossed["ann"] == pytest.approx(float(ANN[1] @ ANN[0]), abs=1e-5)


def test_somebody_whom_the_second_encoder_alone_puts_forward_is_scored_under_both(
    live: LiveGalleries, database: Database, gallery: GalleryId
) -> None:
    crowd = unit_vectors(2 * 120, seed=3).reshape(120, 2, 192)
    for number, (first, second) in enumerate(crowd):  # Under the first encoder all of them resemble the probe.
        near = (first + 2 * EVE[0]) / np.linalg.norm(first + 2 * EVE[0])
        add(database, gallery, np.stack([near, second]), f"p{number}")
    add(database, gallery, np.stack([BOB[0], EVE[1]]), "eve")
    sides = live.get("fused")._sides
    ranking = SpeakerRanking([(side.encoder.id, side.enrolled.as_of(head_of(database, gallery))) for side in sides])
    probe = dict(zip((FIRST.id, SECOND.id), EVE, strict=True))
    found = {one.speaker: (one.score, one.second_score) for one in ranking.nearest(probe, 5)}
    assert 5 <= len(found) <= 10
    assert found["eve"] == (pytest.approx(float(EVE[0] @ BOB[0]), abs=1e-5), pytest.approx(1.0, abs=1e-5))


def test_a_second_encoder_that_comes_or_goes_is_heard_of_by_the_next_question(
    live: LiveGalleries, database: Database, gallery: GalleryId
) -> None:
    with database.session_scope() as session:
        GalleryEncoders(session, gallery).set_second(None)
    add(database, gallery, ANN, "ann", fused=False)
    alone = live.get("fused")
    assert candidates(alone, ANN) == [("ann", pytest.approx(1.0, abs=1e-5), None)]
    assert live.encoders_for(gallery).ids == (FIRST.id,)

    with database.session_scope() as session:
        GalleryEncoders(session, gallery).set_second(SECOND.id)
    with pytest.raises(EncoderChanged, match="ask again"):
        candidates(alone, ANN)
    both = live.get("fused")
    assert both.encoders.ids == (FIRST.id, SECOND.id)
    assert candidates(both, ANN) == []  # Nothing is said of whom only one of them has embedded.
    add(database, gallery, BOB, "bob")
    assert [name for name, *_ in candidates(both, BOB)] == ["bob"]
    assert [type(one) for one in live.encoders_for(gallery)] == [BackgroundEncoder, BackgroundEncoder]


def test_an_erased_voice_leaves_the_files_of_both_encoders_soon_and_both_stay_in_step(
    live: LiveGalleries, record_settings: Settings, database: Database, gallery: GalleryId
) -> None:
    gone = add(database, gallery, ANN, "ann")
    add(database, gallery, BOB, "bob")
    live.get("fused")  # Both are written when they are opened.
    folders = {one: index_folder(record_settings.home, gallery, one) for one in (FIRST.id, SECOND.id)}
    for place, folder in enumerate(folders.values()):
        assert ANN[place].tobytes() in bytes_of(folder)

    with database.session_scope() as session:
        erased = Recordings(session).delete(gone.recording_id)

    assert len(erased.embedding_ids) == 2
    for place, folder in enumerate(folders.values()):
        eventually(lambda place=place, folder=folder: ANN[place].tobytes() not in bytes_of(folder))  # type: ignore[misc]
        assert BOB[place].tobytes() in bytes_of(folder)
    eventually(lambda: live.lag()[0].changes_behind == 0)
    assert [side.index.count for side in live.get("fused")._sides] == [1, 1]
    assert live.lag()[0].vectors == 1


def bytes_of(folder: Path) -> bytes:
    for _ in range(100):
        with suppress(FileNotFoundError):  # Replaced meanwhile: look again.
            return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.rows")))
    raise AssertionError("files come and go without end")


def head_of(database: Database, gallery: GalleryId) -> GalleryHead:
    with database.read_scope() as session:
        return Galleries(session).heads([gallery])[gallery]


def test_probes_are_embedded_by_workers_under_each_of_the_two_by_its_id(
    record_settings: Settings, database: Database, gallery: GalleryId, redis_server: LocalRedis
) -> None:
    broker = record_settings.broker.model_copy(update={"url": SecretStr(redis_server.url)})
    probes = record_settings.probes.model_copy(update={"where": "workers"})
    services = Services(record_settings.model_copy(update={"broker": broker, "probes": probes}))
    services.registry = NamedSpecs()  # type: ignore[assignment]
    encoders = LiveEncoders(services)
    try:
        head = head_of(database, gallery)
        found = [encoders.of_gallery(head, one) for one in head.encoder_ids]
        assert [type(encoder) for encoder, _ in found] == [RemoteEncoder, RemoteEncoder]
        assert [encoder.id for encoder, _ in found] == [FIRST.id, SECOND.id]
        assert [spec.name for _, spec in found] == [FIRST.name, SECOND.name]
    finally:
        encoders.close()
        services.close()


class NamedSpecs:
    """A registry that knows every encoder by its name."""

    def get(self, name: str) -> EncoderSpec:
        return _spec(name)
