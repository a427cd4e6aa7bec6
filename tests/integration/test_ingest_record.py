"""Ingest writes every recording exactly once, on both databases, whatever the files are like."""

import datetime as dt
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sqlalchemy import func, select

from indexer.archive import everybody, list_archive, nobody, parse_speaker_rule
from indexer.audio.channels import ChannelPolicy
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import Embedding, Enrollment, JobItemState, JobState, Recording, RecordingState, Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import Conflict, VoxdexError
from indexer.ingest import COMMIT_FILES, Ingest, Tally
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, GalleryId
from tests.fakes import SpectrumEncoder
from tests.formats.audio_samples import speech_like
from tests.formats.audio_zoo import build_zoo

MakeIngest = Callable[..., Ingest]


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    encoder = SpectrumEncoder()
    with database.session_scope() as session:
        row = Encoders(session).register(
            NewEncoder(encoder.id, encoder.name, "speechbrain", "0" * 64, "spectrum", encoder.dim)
        )
        return GalleryId(Galleries(session).get_or_create("archive", row).id)


@pytest.fixture
def make_ingest(database: Database, gallery_id: GalleryId) -> MakeIngest:
    def make(encoder: SpectrumEncoder | None = None, *, channels: str = "mix", threads: int = 2) -> Ingest:
        return Ingest(
            database=database,
            gallery_id=gallery_id,
            encoders_for=lambda _: EncoderSet(encoder or SpectrumEncoder()),
            limits=AudioSettings(),
            channels=ChannelPolicy.parse(channels),
            decode_threads=threads,
        )

    return make


def write(path: Path, seconds: float = 2.0, seed: int = 0, rate: int = SAMPLE_RATE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech_like(seconds, rate, seed), rate)
    return path


def counts(database: Database) -> dict[str, int]:
    with database.read_scope() as session:
        tables = (Recording, Utterance, Embedding, Enrollment)
        return {table.__tablename__: session.scalar(select(func.count(table.id))) or 0 for table in tables}


def test_a_tree_goes_in_with_its_speakers(tmp_path: Path, database: Database, make_ingest: MakeIngest) -> None:
    for number, name in enumerate(("ann/a.wav", "ann/b.flac", "bob/c.wav")):
        write(tmp_path / "in" / name, seed=number)
    seen: list[int] = []
    listing = list_archive([tmp_path / "in"], parse_speaker_rule("parent"))

    def on_file(tally: Tally) -> None:
        seen.append(tally.processed)

    report = make_ingest().run(listing.files, source="in", on_file=on_file)
    assert (report.tally.ingested, report.tally.failed, report.tally.enrolled) == (3, 0, 3)
    assert report.tally.audio_s == pytest.approx(6.0)
    assert seen == [1, 2, 3]
    assert counts(database) == {"recordings": 3, "utterances": 3, "embeddings": 3, "enrollments": 3}
    with database.read_scope() as session:
        job = Jobs(session).get(report.job_id)
        assert (job.state, job.found, job.done, job.failed) == (JobState.SUCCEEDED, 3, 3, 0)


def test_tallies_add_up_in_every_count_and_the_first_began_when_it_began() -> None:
    tally, more = Tally(started=5.0), Tally(started=7.0)
    for number, one in enumerate(fields(Tally), start=1):
        if one.name != "started":
            setattr(tally, one.name, number)
            setattr(more, one.name, 10 * number)
    tally.add(more)
    counted = {one.name: 11 * number for number, one in enumerate(fields(Tally), start=1)}
    assert asdict(tally) == {**counted, "started": 5.0}


def test_the_second_run_changes_nothing_and_embeds_nothing(
    tmp_path: Path, database: Database, make_ingest: MakeIngest
) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.wav", seed=number)
    listing = list_archive([tmp_path], everybody("ann"))
    make_ingest().run(listing.files, source="x")
    before = counts(database)
    encoder = SpectrumEncoder()
    report = make_ingest(encoder).run(listing.files, source="x")
    assert (report.tally.ingested, report.tally.duplicate, report.tally.failed) == (0, 4, 0)
    assert counts(database) == before
    assert encoder.embedded == 0


def test_one_content_under_many_names_is_one_recording(
    tmp_path: Path, database: Database, make_ingest: MakeIngest
) -> None:
    original = write(tmp_path / "a.wav")
    for number in range(6):
        shutil.copy(original, tmp_path / f"copy{number}.wav")
    report = make_ingest(threads=4).run(list_archive([tmp_path], nobody).files, source="x")
    assert (report.tally.ingested, report.tally.duplicate) == (1, 6)
    assert counts(database)["recordings"] == 1


def test_a_long_recording_becomes_utterances_that_cover_it(
    tmp_path: Path, database: Database, gallery_id: GalleryId, make_ingest: MakeIngest
) -> None:
    write(tmp_path / "long.wav", seconds=34.0)
    make_ingest().run(list_archive([tmp_path], nobody).files, source="x")
    with database.read_scope() as session:
        (recording,) = Recordings(session).page(gallery_id)
        stretches = [(u.start_s, u.end_s, u.channel) for u in Recordings(session).utterances(recording.id)]
    assert stretches == [(0.0, 10.0, None), (10.0, 20.0, None), (20.0, 34.0, None)]


def test_channels_kept_apart_are_utterances_of_one_recording(
    tmp_path: Path, database: Database, gallery_id: GalleryId, make_ingest: MakeIngest
) -> None:
    left, right = speech_like(2.0, seed=1), speech_like(2.0, seed=2)
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), SAMPLE_RATE_HZ)
    make_ingest(channels="each").run(list_archive([tmp_path], nobody).files, source="x")
    with database.read_scope() as session:
        (recording,) = Recordings(session).page(gallery_id)
        assert [u.channel for u in Recordings(session).utterances(recording.id)] == [0, 1]
        assert recording.channels == 2


def test_every_kind_of_broken_file_gets_its_reason_and_stops_nothing(
    tmp_path: Path, database: Database, gallery_id: GalleryId, make_ingest: MakeIngest
) -> None:
    zoo = build_zoo(tmp_path / "zoo")
    write(tmp_path / "good.wav", seed=99)
    paths = [path for path, _ in zoo.values() if path.exists() or path.is_symlink()]
    # Folders of the zoo are not files to ingest; everything else is given by name, so that nothing is passed over.
    files = list_archive([path for path in paths if not path.is_dir()] + [tmp_path / "good.wav"], nobody).files
    report = make_ingest().run(files, source="zoo")
    assert report.tally.processed == len(files)
    failed = {Path(failure.path).name: failure for failure in report.failures}
    for kind, (path, outcome) in zoo.items():
        if path.is_dir() or not (path.exists() or path.is_symlink()):
            continue
        if isinstance(outcome, str):
            assert path.name not in failed, f"{kind}: {failed.get(path.name)}"
        else:
            assert path.name in failed, f"{kind} was taken for a good recording"
            assert str(path) in failed[path.name].message, f"{kind} does not name its file"
            assert issubclass(outcome, VoxdexError)
    assert "good.wav" not in failed
    with database.read_scope() as session:
        job = Jobs(session).get(report.job_id)
        assert job.state == JobState.SUCCEEDED_WITH_ERRORS
        items = Jobs(session).items_page(report.job_id, state=JobItemState.FAILED)
        assert {item.uri for item in items} == {failure.path for failure in report.failures}
        assert all(item.error_code and item.error_message for item in items)
        states = {recording.uri: recording for recording in Recordings(session).page(gallery_id, limit=1000)}
    partial = [path for path, outcome in zoo.values() if outcome == "partial"]
    assert partial
    for path in partial:
        assert states[str(path)].state == RecordingState.PARTIAL
        assert states[str(path)].error_message


def test_a_failed_recording_is_tried_again_and_can_succeed(
    tmp_path: Path, database: Database, gallery_id: GalleryId, make_ingest: MakeIngest
) -> None:
    write(tmp_path / "a.wav")
    files = list_archive([tmp_path], everybody("ann")).files
    first = make_ingest(SpectrumEncoder(refuses_above=0.0)).run(files, source="x")
    assert [failure.code for failure in first.failures] == ["non-finite-embedding"]
    assert counts(database) == {"recordings": 1, "utterances": 0, "embeddings": 0, "enrollments": 0}
    second = make_ingest().run(files, source="x")
    assert (second.tally.ingested, second.tally.failed) == (1, 0)
    with database.read_scope() as session:
        (recording,) = Recordings(session).page(gallery_id)
        assert (recording.state, recording.error_code) == (RecordingState.READY, None)
        assert recording.speakers == ("ann",)


def test_one_bad_utterance_does_not_cost_its_batch_mates(
    tmp_path: Path, database: Database, make_ingest: MakeIngest
) -> None:
    for number in range(8):
        samples = speech_like(2.0, seed=number)
        loud = number == 3
        soundfile.write(
            tmp_path / f"{number}.wav", samples / np.abs(samples).max() * (0.9 if loud else 0.5), SAMPLE_RATE_HZ
        )
    report = make_ingest(SpectrumEncoder(refuses_above=0.8)).run(list_archive([tmp_path], nobody).files, source="x")
    assert (report.tally.ingested, report.tally.failed) == (7, 1)
    assert Path(report.failures[0].path).name == "3.wav"


def test_a_recording_without_a_name_can_be_named_later(
    tmp_path: Path, database: Database, gallery_id: GalleryId, make_ingest: MakeIngest
) -> None:
    write(tmp_path / "a.wav")
    make_ingest().run(list_archive([tmp_path], nobody).files, source="x")
    report = make_ingest().run(list_archive([tmp_path], everybody("ann")).files, source="x")
    assert (report.tally.duplicate, report.tally.enrolled) == (1, 1)
    with database.read_scope() as session:
        assert [(speaker.name, speaker.enrollments) for speaker in Speakers(session).page(gallery_id)] == [("ann", 1)]


def test_a_recording_keeps_the_name_it_has(tmp_path: Path, database: Database, make_ingest: MakeIngest) -> None:
    write(tmp_path / "a.wav")
    make_ingest().run(list_archive([tmp_path], everybody("ann")).files, source="x")
    may = make_ingest().run(list_archive([tmp_path], everybody("bob")).files, source="x")
    assert may.tally.duplicate == 1
    assert "is enrolled as ann, not as bob" in may.notices[0]
    assert "`voxdex speakers merge bob ann --gallery archive`" in may.notices[0]
    must = make_ingest().run(list_archive([tmp_path], everybody("bob")).files, source="x", naming="must")
    assert [failure.code for failure in must.failures] == [Conflict.code]
    assert counts(database)["enrollments"] == 1


def test_an_impossible_name_is_one_files_failure(tmp_path: Path, database: Database, make_ingest: MakeIngest) -> None:
    write(tmp_path / "xxx" / "a.wav")
    write(tmp_path / "ok" / "b.wav", seed=1)
    rule = parse_speaker_rule("regex:/(ok|xxx)/")
    files = [
        file if file.speaker == "ok" else type(file)(file.path, "n" * 500, file.size_bytes)
        for file in list_archive([tmp_path], rule).files
    ]
    report = make_ingest().run(files, source="x")
    assert (report.tally.ingested, report.tally.failed) == (1, 1)
    assert "500 characters" in report.failures[0].message


def test_a_run_that_is_interrupted_keeps_what_was_done_and_goes_on_later(
    tmp_path: Path, database: Database, make_ingest: MakeIngest
) -> None:
    number_of_files = 2 * COMMIT_FILES
    for number in range(number_of_files):
        write(tmp_path / f"{number}.wav", seconds=0.5, seed=number)
    files = list_archive([tmp_path], nobody).files

    def interrupt(tally: Tally) -> None:
        if tally.processed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_ingest().run(files, source="x", on_file=interrupt)
    kept = counts(database)["recordings"]
    assert 2 <= kept <= COMMIT_FILES
    report = make_ingest().run(files, source="x")
    assert (report.tally.ingested, report.tally.duplicate) == (number_of_files - kept, kept)
    with database.read_scope() as session:
        assert {
            Jobs(session).get(report.job_id).state,
            Jobs(session).get(type(report.job_id)(report.job_id - 1)).state,
        } == {
            JobState.SUCCEEDED,
            JobState.CANCELED,
        }


def test_a_file_that_vanished_is_a_failure_with_its_name(tmp_path: Path, make_ingest: MakeIngest) -> None:
    path = write(tmp_path / "a.wav")
    files = list_archive([tmp_path], nobody).files
    path.unlink()
    report = make_ingest().run(files, source="x")
    assert [(failure.code, failure.path) for failure in report.failures] == [("not-found", str(path))]


def test_a_file_name_that_is_no_text_is_ingested_under_its_bytes(
    tmp_path: Path, database: Database, gallery_id: GalleryId, make_ingest: MakeIngest
) -> None:
    good = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    text = write(tmp_path / "text.wav")
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/mus\xedca.wav"))
    try:
        text.rename(good)
        bad.write_bytes(b"RIFF")
    except OSError:
        pytest.skip("this file system takes only names that are text")
    report = make_ingest().run(list_archive([tmp_path], everybody("ann")).files, source="x")
    assert (report.tally.ingested, report.tally.failed) == (1, 1)
    assert "mus\\xedca.wav" in report.failures[0].message
    with database.read_scope() as session:
        uris = {recording.uri: recording.state for recording in Recordings(session).page(gallery_id)}
    assert {Path(uri).name: state for uri, state in uris.items()} == {
        "caf\\xe9.wav": RecordingState.READY,
        "mus\\xedca.wav": RecordingState.FAILED,
    }


def test_a_manifest_goes_in_with_all_it_says_and_its_bad_rows_are_failures(
    tmp_path: Path, database: Database, make_ingest: MakeIngest
) -> None:
    write(tmp_path / "a.wav", seed=1)
    write(tmp_path / "b.wav", seed=2)
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "uri,speaker,session,recorded_at,labels\n"
        'a.wav,ann,s1,2026-03-01T10:00:00+01:00,"vip,gold"\na.wav,bob,,,\nb.wav,,,yesterday,\nb.wav,,,,\n'
    )
    listing = list_archive([manifest], nobody)
    report = make_ingest().run(listing.files, source=str(manifest), refused=listing.refused)
    assert (report.tally.found, report.tally.ingested, report.tally.failed, report.tally.processed) == (4, 2, 2, 4)
    assert [(failure.path, failure.code) for failure in report.failures] == [
        (f"{manifest}:3", "conflict"),
        (f"{manifest}:4", "invalid-request"),
    ]
    with database.read_scope() as session:
        job = Jobs(session).get(report.job_id)
        assert (job.state, job.found, job.done, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 4, 2, 2)
        failed = Jobs(session).items_page(report.job_id, state=JobItemState.FAILED)
        assert [item.uri for item in failed] == [f"{manifest}:3", f"{manifest}:4"]
        first = session.scalars(select(Recording).where(Recording.uri.like("%a.wav"))).one()
        assert (first.session, first.recorded_at) == ("s1", dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC))
        assert first.labels == ["vip", "gold"]


def test_nothing_to_ingest_is_a_failed_job(tmp_path: Path, database: Database, make_ingest: MakeIngest) -> None:
    report = make_ingest().run(list_archive([tmp_path], nobody).files, source=str(tmp_path))
    with database.read_scope() as session:
        job = Jobs(session).get(report.job_id)
        assert job.state == JobState.FAILED
        assert job.error == f"{tmp_path}: no recording was found there; check path and mounts"
