"""What is written and asked while a gallery goes from one encoder to another: all of it ends well, nothing is mixed."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from api.dependencies import Services
from api.live import LiveGalleries
from indexer.archive import list_archive, nobody
from indexer.audio.channels import ChannelPolicy
from indexer.db.models import JobState
from indexer.db.session import Database
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import EncoderChanged
from indexer.ingest import Ingest, IngestReport
from indexer.intake import Intake, Sent
from indexer.jobs.bulk import BulkIngest
from indexer.media import MediaStore
from indexer.reembed import Reembed
from indexer.settings import Settings
from indexer.types import GalleryId
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.integration.test_live_galleries import SpectrumEncoders
from tests.job_kit import ListQueue, job_of, make_gallery, submit, work_off, write_archive
from tests.job_workers import BlockedEncoder
from tests.reembed_kit import current_encoder, ingest_files, reembedding, register, utterances, vectors_of
from tests.voices_kit import heard_voice
from tests.waiting import eventually

OLD, NEW = SpectrumEncoder(), ReversedSpectrumEncoder()


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    return make_gallery(database, OLD)


def encoders_now(database: Database, old: Encoder = OLD) -> Callable[[GalleryId], EncoderSet]:
    """Find the encoders that a gallery has at the moment, as every process does."""
    return lambda number: EncoderSet(old if current_encoder(database, number) == old.id else NEW)


def ingest_of(database: Database, settings: Settings, gallery_id: GalleryId, old: Encoder = OLD) -> Ingest:
    return Ingest(
        database=database,
        gallery_id=gallery_id,
        encoders_for=encoders_now(database, old),
        limits=settings.audio,
        channels=ChannelPolicy.parse("mix"),
        decode_threads=2,
    )


def switched_meanwhile(database: Database, settings: Settings, gallery_id: GalleryId, old: BlockedEncoder) -> None:
    """Wait until somebody embeds under the old encoder, switch the gallery, and let them go on."""
    assert old.entered.wait(120)
    assert reembedding(database, settings, gallery_id, NEW).run().switched
    old.let_go.set()


def require_all_under_the_new_one(database: Database, gallery_id: GalleryId) -> None:
    assert current_encoder(database, gallery_id) == NEW.id
    assert set(vectors_of(database, NEW.id)) == set(utterances(database))


def test_an_ingest_that_the_switch_overtakes_embeds_again_under_the_new_encoder(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path / "before", 3))
    files = list_archive(write_archive(tmp_path / "after", 5, first=10), nobody).files
    old = BlockedEncoder()
    with ThreadPoolExecutor(1) as pool:
        ingest = ingest_of(database, record_settings, gallery_id, old)
        running = pool.submit(ingest.run, files, source="in")
        switched_meanwhile(database, record_settings, gallery_id, old)
        report = running.result(120)
    assert (report.tally.ingested, report.tally.failed, report.tally.duplicate) == (5, 0, 0)
    require_all_under_the_new_one(database, gallery_id)
    assert len(vectors_of(database, OLD.id)) == 3  # None of the five came in under it.


def test_a_shard_of_a_job_that_the_switch_overtakes_is_worked_on_again_under_the_new_encoder(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 4)
    queue, old = ListQueue(), BlockedEncoder()
    bulk = BulkIngest(
        database,
        record_settings,
        queue=queue,
        encoders_for=encoders_now(database, old),
        stopping=lambda: False,
    )
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bulk.work, queue.shards.pop())
        switched_meanwhile(database, record_settings, gallery_id, old)
        running.result(120)
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED, 4, 0)
    require_all_under_the_new_one(database, gallery_id)
    assert vectors_of(database, OLD.id) == {}


def test_an_upload_that_the_switch_overtakes_is_kept_with_its_audio_under_the_new_encoder(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    media, old = MediaStore(record_settings.media_path), BlockedEncoder()
    (path,) = write_archive(tmp_path, 1, seconds=2.0)
    incoming = media.new_incoming()
    incoming.write_bytes(path.read_bytes())
    sent = Sent(incoming, "call.wav", path.stat().st_size, sha256(path.read_bytes()).hexdigest(), speaker="Ann")
    intake = Intake(
        database,
        record_settings,
        media=media,
        encoders_for=encoders_now(database, old),
        committed=lambda _: None,
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(intake.take, gallery_id, sent)
        switched_meanwhile(database, record_settings, gallery_id, old)
        taken = running.result(120)
    assert taken.created
    require_all_under_the_new_one(database, gallery_id)
    assert vectors_of(database, OLD.id) == {}
    assert reembedding(database, record_settings, gallery_id, OLD).run().switched  # From its audio, which was kept.


@pytest.mark.parametrize("seconds", [0.3, 90.0])
def test_what_comes_between_the_last_look_and_the_switch_is_embedded_before_it(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId, seconds: float
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path / "before", 2))
    looks: list[int | None] = []

    class Overtaken(Reembed):
        """Somebody ingests right after it was seen that nothing is left."""

        def _when_nothing_left(self, since: object) -> int | None:
            looks.append(super()._when_nothing_left(since))  # type: ignore[arg-type]
            if len(looks) == 2:
                late = write_archive(tmp_path / "late", 1, seconds=seconds, first=10)
                ingest_files(database, record_settings, gallery_id, OLD, late)
            return looks[-1]

    register(database, NEW)
    report = Overtaken(database, record_settings, gallery_id, NEW).run()
    assert report.switched
    require_all_under_the_new_one(database, gallery_id)
    # A short one is embedded while ingest waits; for a long one another round is made.
    assert len(looks) == (2 if seconds < 1 else 3)


def test_ingest_goes_on_all_the_time_and_ends_up_under_one_encoder(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path / "before", 20, seconds=0.15))

    def ingest(number: int) -> IngestReport:
        files = list_archive(
            write_archive(tmp_path / str(number), 40, seconds=0.15, first=100 * (number + 1)), nobody
        ).files
        return ingest_of(database, record_settings, gallery_id).run(files, source="in")

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(ingest, number) for number in range(2)]
        report = pool.submit(reembedding(database, record_settings, gallery_id, NEW).run).result(120)
        assert report.switched
        assert [run.result(120).tally.ingested for run in running] == [40, 40]
    require_all_under_the_new_one(database, gallery_id)
    assert len(utterances(database)) == 100


class BothEncoders(SpectrumEncoders):
    """Finds the encoder that a gallery has at the moment."""

    def of_gallery_id(self, database: Database, gallery_id: GalleryId):  # type: ignore[no-untyped-def]
        return encoders_now(database)(gallery_id).first, replace(self.spec, identification_threshold=0.9)


class BothServices(Services):
    """Services whose encoders need no weights."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.__dict__["encoders"] = BothEncoders()


@pytest.fixture
def live(record_settings: Settings, database: Database) -> Iterator[LiveGalleries]:
    services = BothServices(record_settings)
    galleries = LiveGalleries(services)
    services.share_with(galleries)
    yield galleries
    services.close()


def test_whoever_asks_during_a_change_of_encoder_is_answered_under_one_of_the_two(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId, live: LiveGalleries
) -> None:
    paths = write_archive(tmp_path, 6, seconds=0.5)
    ingest_files(database, record_settings, gallery_id, OLD, paths, speaker_from="regex:(?P<speaker>[0-9]+).wav")
    asked, changed, stop = [0, 0], 0, threading.Event()
    seen: set[str] = set()

    def ask(number: int) -> None:
        noise = np.random.default_rng(number).standard_normal(8000)
        sound = (0.1 * np.convolve(noise, [0.25, 0.5, 0.25], mode="same")).astype(np.float32)
        while not stop.is_set():
            try:
                voices = live.get("archive")
                vector = voices.encoder.embed([sound])[0]
                time.sleep(0.001)
                (found,) = voices.identify([heard_voice(vector, voices.encoder.id)], top_k=1)
            except EncoderChanged:
                asked[1] += 1
                continue
            # A vector of one encoder among those of the other is nobody's, or somebody else's.
            assert found.answer.speaker == f"{number:05d}"
            seen.add(voices.encoder.id)
            asked[0] += 1

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, number) for number in range(3)]
        try:
            for encoder in (NEW, OLD, NEW, OLD):
                before = asked[0]
                eventually(lambda before=before: asked[0] >= before + 5 or any(one.done() for one in asking))  # type: ignore[misc]
                changed += reembedding(database, record_settings, gallery_id, encoder).run().switched
            before = asked[0]
            eventually(lambda: asked[0] >= before + 5 or any(one.done() for one in asking))
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert changed == 4
    assert seen == {OLD.id, NEW.id}
