"""A gallery goes from one engine to another while it is searched and written to."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from api.dependencies import Services
from api.indexes import Indexes
from api.live import LiveGalleries
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.models import Gallery
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.errors import InvalidRequest, NotFound, Unavailable
from indexer.index.base import VectorIndex
from indexer.index.migration import Engine, migrate
from indexer.index.milvus_collections import drop_gallery, encoders_kept
from indexer.index.snapshots import index_folder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, Vectors
from tests.fakes import SpectrumEncoder
from tests.integration.test_live_galleries import SpectrumEncoders
from tests.milvus_kit import milvus_settings
from tests.vectors import unit_vectors
from tests.waiting import eventually

ENCODER = SpectrumEncoder().id


@pytest.fixture
def settings(record_settings: Settings) -> Iterator[Settings]:
    """Settings that know a Milvus and use FAISS."""
    milvus = milvus_settings()
    index = record_settings.index.model_copy(update={"milvus": milvus})
    yield record_settings.model_copy(update={"index": index})
    drop_gallery(milvus, GalleryId(1))


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "spectrum", "speechbrain", "0" * 64, "x", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


@pytest.fixture
def live(settings: Settings) -> Iterator[LiveGalleries]:
    """What a serving process keeps."""
    services = Services(settings)
    services.__dict__["encoders"] = SpectrumEncoders()
    galleries = LiveGalleries(services)
    services.share_with(galleries)
    yield galleries
    services.close()


def add(database: Database, gallery: GalleryId, vectors: Vectors) -> RecordedIds:
    content = f"{time.monotonic_ns()}-{threading.get_ident()}"
    parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(vectors)]
    with database.session_scope() as session:
        return Recordings(session).add(gallery, ENCODER, NewRecording(content, f"/{content}.wav", utterances=parts))


def open_index(live: LiveGalleries, gallery: GalleryId) -> VectorIndex:
    """What requests to the gallery are answered from now."""
    live.get("archive")
    return live._open[gallery].sides[0].indexed.index


def snapshots(settings: Settings, gallery: GalleryId) -> list[Path]:
    return [path for path in index_folder(settings.home, gallery).rglob("snapshot-*") if path.is_file()]


def engine_of(database: Database, gallery: GalleryId) -> str | None:
    with database.read_scope() as session:
        return Galleries(session).heads([gallery])[gallery].engine


def test_a_gallery_goes_to_milvus_and_back_and_is_the_same(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    vectors, probes = unit_vectors(150), unit_vectors(4, seed=9)
    added = add(database, gallery, vectors)
    indexes = Indexes(database, settings)
    before = indexes.open("archive")
    answers, kind = before.search(probes, 10), before.info().kind
    before.close()
    assert snapshots(settings, gallery)
    there = migrate(database, settings, gallery, Engine.MILVUS, change_over_s=0)
    assert (there.count, there.switched, engine_of(database, gallery)) == (150, True, "milvus")
    index = indexes.open("archive")
    assert index.info().kind == "milvus"
    assert index.search(probes, 10) == answers
    assert index.ids().tolist() == list(added.embedding_ids)
    assert snapshots(settings, gallery) == []
    assert indexes.check("archive").in_step
    back = migrate(database, settings, gallery, Engine.FAISS, change_over_s=0)
    assert (back.count, back.switched, engine_of(database, gallery)) == (150, True, "faiss")
    index = indexes.open("archive")
    assert index.info().kind == kind
    assert index.search(probes, 10) == answers
    index.close()
    assert encoders_kept(settings.index.milvus, gallery) == []


def test_a_gallery_of_two_encoders_goes_there_and_back_under_both(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    second_id = EncoderId("fedcba9876543210-reversed")
    with database.session_scope() as session:
        Encoders(session).register(NewEncoder(second_id, "reversed", "speechbrain", "1" * 64, "x", 192))
        GalleryEncoders(session, gallery).set_second(second_id)
    rows = {ENCODER: unit_vectors(20, seed=1), second_id: unit_vectors(20, seed=2)}
    parts = [
        NewUtterance(None, n, n + 1.0, one, beside={second_id: other})
        for n, (one, other) in enumerate(zip(*rows.values(), strict=True))
    ]
    with database.session_scope() as session:
        Recordings(session).add(gallery, ENCODER, NewRecording("call", "/call.wav", utterances=parts))
    indexes = Indexes(database, settings)

    def found(kind: str) -> None:
        assert indexes.encoders("archive") == (ENCODER, second_id)
        for encoder_id, vectors in rows.items():
            index = indexes.open("archive", encoder_id)
            assert (index.info().kind == "milvus") == (kind == "milvus")
            assert index.count == 20
            assert [hits[0].score for hits in index.search(vectors[:3], 1)] == pytest.approx([1.0] * 3, abs=1e-5)
            index.close()
            assert indexes.check("archive", encoder_id).in_step

    found("faiss")
    assert migrate(database, settings, gallery, Engine.MILVUS, change_over_s=0).count == 20
    assert encoders_kept(settings.index.milvus, gallery) == sorted(rows)
    found("milvus")
    assert migrate(database, settings, gallery, Engine.FAISS, change_over_s=0).switched
    assert encoders_kept(settings.index.milvus, gallery) == []
    found("faiss")


def test_who_searches_a_gallery_changes_over_while_it_is_written_to(
    database: Database, settings: Settings, gallery: GalleryId, live: LiveGalleries
) -> None:
    vectors = unit_vectors(400)
    add(database, gallery, vectors[:40])
    assert open_index(live, gallery).info().kind != "milvus"
    writing = threading.Event()
    written = [40]
    gone: list[int] = []
    last_kept = 39

    def write() -> None:
        nonlocal last_kept
        while not writing.is_set() and written[0] < 400:
            ids = add(database, gallery, vectors[written[0] : written[0] + 4])
            written[0] += 4
            if written[0] % 40 == 0:
                with database.session_scope() as session:
                    Recordings(session).delete(ids.recording_id)
                gone.extend(ids.embedding_ids)
            else:
                last_kept = written[0] - 1
            time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = migrate(database, settings, gallery, Engine.MILVUS, change_over_s=0.5)
    finally:
        writing.set()
        writer.join()
    assert done.switched
    index = open_index(live, gallery)
    assert index.info().kind == "milvus"
    eventually(lambda: index.count == written[0] - len(gone))
    assert not index.holds(np.array([*gone, 10**6])).any()
    for number in (0, last_kept):
        assert index.search(vectors[number : number + 1], 1)[0][0].score == pytest.approx(1.0, abs=1e-6)
    assert Indexes(database, settings).check("archive").in_step
    later = add(database, gallery, unit_vectors(1, seed=77))
    eventually(lambda: bool(index.holds(np.array(later.embedding_ids)).all()))


def test_a_rebuild_in_milvus_is_changed_over_to_by_who_searches(
    database: Database, settings: Settings, gallery: GalleryId, live: LiveGalleries
) -> None:
    add(database, gallery, unit_vectors(30))
    migrate(database, settings, gallery, Engine.MILVUS, change_over_s=0)
    index = open_index(live, gallery)
    old = index.info().details["collection"]
    Indexes(database, settings).rebuild("archive")
    assert len(index.search(unit_vectors(1), 5)[0]) == 5
    later = add(database, gallery, unit_vectors(2, seed=5))
    eventually(lambda: index.info().details["collection"] != old and index.count == 32)
    assert index.holds(np.array(later.embedding_ids)).all()


def test_an_erased_voice_leaves_milvus(
    database: Database, settings: Settings, gallery: GalleryId, live: LiveGalleries
) -> None:
    added = add(database, gallery, unit_vectors(30))
    kept = add(database, gallery, unit_vectors(3, seed=2))
    migrate(database, settings, gallery, Engine.MILVUS, change_over_s=0)
    index = open_index(live, gallery)
    with database.session_scope() as session:
        Recordings(session).delete(added.recording_id)
    live.erased(gallery)
    assert index.ids().tolist() == list(kept.embedding_ids)
    with database.session_scope() as session:
        Galleries(session).delete(gallery)
    live.dropped(gallery)
    assert encoders_kept(settings.index.milvus, gallery) == []


def test_a_gallery_that_is_there_already_stays_as_it_is(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    add(database, gallery, unit_vectors(5))
    Indexes(database, settings).open("archive").close()
    files = snapshots(settings, gallery)
    done = migrate(database, settings, gallery, Engine.FAISS, change_over_s=0)
    assert (done.switched, done.count, engine_of(database, gallery)) == (False, 5, "faiss")
    assert snapshots(settings, gallery) == files


def test_a_milvus_out_of_reach_leaves_the_gallery_as_it_was(
    database: Database, record_settings: Settings, gallery: GalleryId
) -> None:
    add(database, gallery, unit_vectors(5))
    dead = record_settings.index.milvus.model_validate({"uri": "http://127.0.0.1:9", "timeout_s": 0.5})
    settings = record_settings.model_copy(update={"index": record_settings.index.model_copy(update={"milvus": dead})})
    Indexes(database, settings).open("archive").close()
    files = snapshots(settings, gallery)
    with pytest.raises(Unavailable, match="Milvus at"):
        migrate(database, settings, gallery, Engine.MILVUS)
    assert engine_of(database, gallery) is None
    assert snapshots(settings, gallery) == files
    assert Indexes(database, settings).check("archive").in_step


def test_a_gallery_that_changed_its_encoder_meanwhile_is_not_switched(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    other = EncoderId("other/legacy")
    with database.session_scope() as session:
        Encoders(session).register(NewEncoder(other, "other", "speechbrain", "1" * 64, "x", 192))
        session.execute(update(Gallery).where(Gallery.id == gallery).values(encoder_id=other))
        assert not Galleries(session).set_engine(gallery, [ENCODER], "milvus")
        assert not Galleries(session).set_engine(gallery, [other, ENCODER], "milvus")
        assert Galleries(session).set_engine(gallery, [other], "milvus")
    assert engine_of(database, gallery) == "milvus"
    with pytest.raises(NotFound):
        migrate(database, settings, GalleryId(99), Engine.MILVUS)


def test_a_gallery_does_not_leave_a_milvus_that_is_not_known_without_being_told_to_and_a_later_run_tidies_up(
    database: Database, settings: Settings, record_settings: Settings, gallery: GalleryId
) -> None:
    add(database, gallery, unit_vectors(5))
    migrate(database, settings, gallery, Engine.MILVUS, change_over_s=0)
    with pytest.raises(InvalidRequest, match=r"set VOXDEX_INDEX__MILVUS__URI, or leave them with --leave-collections"):
        migrate(database, record_settings, gallery, Engine.FAISS, change_over_s=0)
    assert engine_of(database, gallery) == "milvus"
    left = migrate(database, record_settings, gallery, Engine.FAISS, leave_collections=True, change_over_s=0)
    assert (left.switched, left.count, engine_of(database, gallery)) == (True, 5, "faiss")
    assert encoders_kept(settings.index.milvus, gallery) == [ENCODER]
    again = migrate(database, settings, gallery, Engine.FAISS, change_over_s=0)
    assert (again.switched, again.count) == (False, 5)
    assert encoders_kept(settings.index.milvus, gallery) == []
