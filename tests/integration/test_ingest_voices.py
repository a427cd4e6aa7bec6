"""Recordings of several voices: what is kept of each, who is enrolled, and what whoever asked is told."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from indexer.archive import everybody, list_archive, nobody
from indexer.audio.channels import ChannelPolicy
from indexer.db.models import JobItemState, OnDuplicate, Recording, Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import UtteranceSummary
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import InvalidRequest, NoSpeech, NotEnoughSpeech, TooNoisy
from indexer.ingest import Ingest, IngestReport
from indexer.intake import Intake, Sent
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.source import JobOptions
from indexer.listening import Listening
from indexer.media import MediaStore
from indexer.settings import AudioSettings, Settings
from indexer.types import GalleryId
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, items_of, job_of, make_gallery, work_off
from tests.listening_kit import EndlessDoubts, plain_listening, silence, voice, write_take


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    return make_gallery(database, SpectrumEncoder())


Run = Callable[..., IngestReport]


@pytest.fixture
def run(database: Database, gallery_id: GalleryId) -> Run:
    def ingest(path: Path, speaker: str | None, listening: Listening | None = None) -> IngestReport:
        files = list_archive([path], nobody if speaker is None else everybody(speaker)).files
        return Ingest(
            database=database,
            gallery_id=gallery_id,
            encoders_for=lambda _: EncoderSet(SpectrumEncoder()),
            limits=AudioSettings(),
            channels=ChannelPolicy.parse("mix"),
            decode_threads=2,
            listening=listening or plain_listening(),
            enough_s=1.0,
        ).run(files, source="x")

    return ingest


def conversation(path: Path) -> Path:
    """Nine seconds of one voice and three of another, with a pause that ends an utterance."""
    return write_take(path, voice(0, 6), voice(1, 3), silence(3), voice(0, 3))


def utterances_of(database: Database, gallery_id: GalleryId) -> list[UtteranceSummary]:
    with database.read_scope() as session:
        recordings = Recordings(session)
        return [u for row in recordings.page(gallery_id) for u in recordings.utterances(row.id)]


def test_voices_and_quality_are_kept_with_every_utterance(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    report = run(conversation(tmp_path / "a.wav"), None)
    assert (report.tally.ingested, report.notices) == (1, ())
    assert report.tally.speech_s == pytest.approx(12.0, abs=0.6)
    found = utterances_of(database, gallery_id)
    assert [one.voice for one in found] == [0, 1, 0]
    assert all(one.quality is not None and one.quality.net_speech_s > 2 for one in found)
    with database.read_scope() as session:
        (row,) = Recordings(session).page(gallery_id)
        assert (row.voices, row.speech_s) == (2, pytest.approx(12.0, abs=0.6))


def test_of_several_voices_only_the_one_that_speaks_most_is_enrolled_and_a_notice_says_so(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    report = run(conversation(tmp_path / "a.wav"), "ann")
    assert (report.tally.utterances, report.tally.enrolled) == (3, 2)
    (notice,) = report.notices
    assert "2 voices were heard (75 %, 25 % of 1" in notice
    assert "only the first of them is enrolled as ann" in notice
    assert [one.speakers for one in utterances_of(database, gallery_id)] == [("ann",), (), ("ann",)]


def test_what_may_be_a_second_voice_of_whoever_is_enrolled_is_named_with_its_place(tmp_path: Path, run: Run) -> None:
    doubting = replace(plain_listening(), second_voice=EndlessDoubts())
    report = run(write_take(tmp_path / "a.wav", voice(0, 6)), "ann", doubting)
    (notice,) = report.notices
    assert "may hold a second voice: listen to 5.5 to 6.0 s, cosine 0.25 with the rest" in notice
    assert "where it is not ann, delete the recording and enroll one of ann alone" in notice
    (sure,) = run(conversation(tmp_path / "b.wav"), "bea", doubting).notices
    assert "2 voices were heard" in sure
    assert run(write_take(tmp_path / "c.wav", voice(1, 6)), None, doubting).notices == ()
    assert run(write_take(tmp_path / "d.wav", voice(1, 2)), "cy", doubting).notices == ()


def test_an_enrollment_of_little_speech_is_taken_with_a_notice(tmp_path: Path, run: Run) -> None:
    report = run(write_take(tmp_path / "a.wav", voice(0, 0.5)), "ann")
    assert (report.tally.enrolled, report.tally.failed) == (1, 0)
    (notice,) = report.notices
    assert "only 0.5 s of speech is enrolled as ann, wanted are 1 s (VOXDEX_DECISION__MIN_ENROLLMENT_S)" in notice
    assert run(write_take(tmp_path / "b.wav", voice(0, 0.6)), None).notices == ()


def test_somebody_who_says_that_one_person_speaks_is_believed(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    report = run(conversation(tmp_path / "a.wav"), "ann", plain_listening("one"))
    assert (report.tally.utterances, report.tally.enrolled, report.notices) == (2, 2, ())
    assert {one.voice for one in utterances_of(database, gallery_id)} == {0}


def test_a_conversation_that_is_there_already_is_enrolled_by_its_main_voice(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    path = conversation(tmp_path / "a.wav")
    run(path, None)
    report = run(path, "ann")
    assert (report.tally.duplicate, report.tally.enrolled) == (1, 2)
    assert "2 voices were heard" in report.notices[0]
    assert [one.speakers for one in utterances_of(database, gallery_id)] == [("ann",), (), ("ann",)]


def test_who_another_voice_of_a_recording_is_keeps_nobody_from_being_its_main_voice(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    path = conversation(tmp_path / "a.wav")
    run(path, None)
    (second,) = [one.utterance_id for one in utterances_of(database, gallery_id) if one.voice == 1]
    with database.session_scope() as session:
        bob = Speakers(session).get_or_create(gallery_id, ["bob"])["bob"]
        Speakers(session).enroll(bob, [second])
    report = run(path, "ann")
    assert (report.tally.enrolled, report.tally.failed) == (2, 0)
    assert [one.speakers for one in utterances_of(database, gallery_id)] == [("ann",), ("bob",), ("ann",)]
    assert "is enrolled as ann, not as eve" in run(path, "eve").notices[0]


def test_rows_of_which_nobody_knows_the_voice_are_enrolled_as_before(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    path = conversation(tmp_path / "a.wav")
    run(path, None)
    with database.session_scope() as session:
        for row in session.scalars(select(Utterance)):
            row.voice = row.net_speech_s = row.snr_db = None
    report = run(path, "ann")
    assert (report.tally.enrolled, report.notices) == (3, ())


def test_a_voice_a_channel_is_kept_by_channel(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    write_take(tmp_path / "call.wav", np.stack([voice(0, 5), voice(1, 5)], axis=1))
    report = run(tmp_path / "call.wav", None, plain_listening("channels"))
    assert report.tally.utterances == 2
    assert [(one.channel, one.voice) for one in utterances_of(database, gallery_id)] == [(0, 0), (1, 1)]


def test_a_recording_without_speech_fails_with_its_reason(
    tmp_path: Path, database: Database, gallery_id: GalleryId, run: Run
) -> None:
    report = run(write_take(tmp_path / "hum.wav", 3e-3 * voice(0, 6)), None)
    ((_, code, message),) = [(one.path, one.code, one.message) for one in report.failures]
    assert (report.tally.failed, code) == (1, "no-speech")
    assert "nobody speaks in its 6 s" in message
    with database.read_scope() as session:
        assert session.scalars(select(Recording.error_code)).all() == ["no-speech"]


# Jobs


def job(
    database: Database, settings: Settings, source: Path, listening: Listening | None = None, **options: object
) -> dict[str, object]:
    queue = ListQueue()
    bulk = BulkIngest(
        database,
        settings,
        queue=queue,
        encoders_for=lambda _: EncoderSet(SpectrumEncoder()),
        listening=listening or plain_listening(),
    )
    asked = JobOptions("folder", **options)  # type: ignore[arg-type]
    job_id = bulk.submit("archive", str(source), options=asked, on_duplicate=OnDuplicate.SKIP, trusted=True)
    work_off(bulk, queue)
    return {"job": job_of(database, job_id), "items": items_of(database, job_id)}


def test_a_job_says_of_each_file_how_many_voices_were_heard(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    conversation(tmp_path / "in" / "ann" / "a.wav")
    write_take(tmp_path / "in" / "bea" / "b.wav", voice(2, 5))
    write_take(tmp_path / "in" / "cy" / "c.wav", 3e-3 * voice(2, 5))
    done = job(database, record_settings, tmp_path / "in", speaker_from="parent")
    items = done["items"]
    assert isinstance(items, dict)
    assert "2 voices were heard" in items["a.wav"].notice
    assert items["b.wav"].notice is None
    assert (items["c.wav"].state, items["c.wav"].error_code) == (JobItemState.FAILED, "no-speech")
    assert done["job"].speech_s == pytest.approx(17.0, abs=0.6)  # type: ignore[attr-defined]


def test_a_job_says_of_each_file_what_may_be_a_second_voice(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    write_take(tmp_path / "in" / "bea" / "b.wav", voice(2, 5))
    doubting = replace(plain_listening(), second_voice=EndlessDoubts())
    done = job(database, record_settings, tmp_path / "in", listening=doubting, speaker_from="parent")
    items = done["items"]
    assert isinstance(items, dict)
    assert "may hold a second voice: listen to 4.5 to 5.0 s" in items["b.wav"].notice


def test_a_job_listens_as_it_was_asked_to(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    conversation(tmp_path / "in" / "a.wav")
    job(database, record_settings, tmp_path / "in", speakers="one", speech="off")
    assert [(one.start_s, one.end_s, one.voice) for one in utterances_of(database, gallery_id)] == [(0.0, 15.0, None)]


def test_jobs_refuse_what_is_no_way_to_listen() -> None:
    with pytest.raises(InvalidRequest, match="give auto, one, channels"):
        JobOptions("folder", speakers="many")
    with pytest.raises(InvalidRequest, match="marked speech is for files at hand"):
        JobOptions("folder", speech="given:/etc")  # type: ignore[arg-type]
    options = JobOptions("folder", speakers="2", speech="auto")
    assert JobOptions.from_document(options.as_document()) == options
    assert JobOptions.from_document({"kind": "folder"}).speakers is None


# Uploads


@pytest.fixture
def intake(database: Database, record_settings: Settings) -> Intake:
    return Intake(
        database,
        record_settings,
        media=MediaStore(record_settings.media_path),
        encoders_for=lambda _: EncoderSet(SpectrumEncoder()),
        listening=plain_listening(),
        committed=lambda _: None,
    )


def sent(path: Path, speaker: str | None = "ann") -> Sent:
    content = path.read_bytes()
    return Sent(path, path.name, len(content), hashlib.sha256(content).hexdigest(), speaker=speaker)


def test_an_enrollment_of_several_voices_is_warned_about(tmp_path: Path, intake: Intake, gallery_id: GalleryId) -> None:
    taken = intake.take(gallery_id, sent(conversation(tmp_path / "a.wav")))
    assert taken.enrolled == 2
    assert "2 voices were heard" in taken.warnings[0]
    one = intake.take(gallery_id, sent(write_take(tmp_path / "b.wav", voice(0, 5)), "bea"))
    assert (one.enrolled, one.warnings) == (1, ())


def test_net_speech_of_the_main_voice_decides_whether_there_is_enough_unless_less_is_allowed(
    tmp_path: Path, intake: Intake, gallery_id: GalleryId
) -> None:
    path = write_take(tmp_path / "a.wav", silence(4), voice(0, 0.6), silence(4))
    with pytest.raises(NotEnoughSpeech, match=r"0\.6 s of speech, needed are 1 s") as caught:
        intake.take(gallery_id, sent(path))
    assert (caught.value.speech_s, caught.value.needed_s) == (pytest.approx(0.6), 1.0)
    assert intake.take(gallery_id, sent(path), min_speech_s=0.5).enrolled == 1
    assert intake.take(gallery_id, sent(write_take(tmp_path / "b.wav", voice(1, 0.8))), speech="off", min_speech_s=0)


def test_an_upload_without_speech_leaves_nothing(tmp_path: Path, intake: Intake, gallery_id: GalleryId) -> None:
    with pytest.raises(NoSpeech):
        intake.take(gallery_id, sent(write_take(tmp_path / "a.wav", 3e-3 * voice(0, 5))))


def test_noise_is_refused_where_a_limit_is_set(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    speech = record_settings.speech.model_copy(update={"min_snr_db": 30.0})
    strict = Intake(
        database,
        record_settings.model_copy(update={"speech": speech}),
        media=MediaStore(record_settings.media_path),
        encoders_for=lambda _: EncoderSet(SpectrumEncoder()),
        listening=plain_listening(),
        committed=lambda _: None,
    )
    loud = np.concatenate([silence(1), voice(0, 3), silence(1)]) + 0.05 * voice(2, 5)
    with pytest.raises(TooNoisy, match=r"asked for are 30 dB"):
        strict.take(gallery_id, sent(write_take(tmp_path / "a.wav", loud)))
