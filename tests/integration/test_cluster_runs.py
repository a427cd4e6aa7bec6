"""Runs over unknown voices, from the record and into it."""

import pytest

from indexer.db.calibrations import Calibrations, StoredCalibration
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import JobState
from indexer.db.plans import Plans
from indexer.db.recordings import Recordings
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.db.unknown_voices import UnknownVoices
from indexer.errors import Conflict, ConsentRequired
from indexer.settings import Settings
from indexer.types import RecordingId
from search.unknown_voices import ClusterRule
from tests.calibration_kit import fitted, gaussian_trials
from tests.cluster_kit import (
    ENCODER,
    RULE,
    Said,
    clusterings,
    every_utterance,
    listed,
    make_gallery,
    members,
    record,
    run,
    singly,
)
from tests.job_kit import ListQueue, job_of, make_bulk
from tests.vectors import voices


def test_voices_that_recur_are_found_and_the_most_frequent_has_the_lowest_number(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    rows = voices(4, 6, seed=1)
    # Six, three and two recordings of three voices, one of a fourth, which does not recur.
    kept = [*range(6), 6, 7, 8, 12, 13, 18]
    ids = [one for [one] in record(database, gallery_id, *singly(rows[kept]))]
    job_id = run(database, record_settings)
    assert members(database, gallery_id) == {
        "Unknown-1": set(ids[:6]),
        "Unknown-2": set(ids[6:9]),
        "Unknown-3": set(ids[9:11]),
    }
    first = listed(database, gallery_id)[0]
    assert (first.utterances, first.recordings, first.speech_s, first.pinned) == (6, 6, 30.0, False)
    job = job_of(database, job_id)
    assert (job.state, job.kind, job.found, job.done) == (JobState.SUCCEEDED, "cluster", 12, 12)
    with database.read_scope() as session:
        last = UnknownVoices(session, gallery_id).last_run()
        [stretch, *_] = UnknownVoices(session, gallery_id).stretches(first.id)
    assert last is not None
    assert (last.utterances, last.rule["threshold"]) == (12, 0.4)
    assert (stretch.start_s, stretch.end_s) == (0.0, 5.0)
    assert stretch.score is not None
    assert 0.8 < stretch.score <= 1.0


def test_a_voice_of_one_recording_does_not_recur_however_much_it_says(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    record(database, gallery_id, [Said(row, voice=0) for row in voices(1, 8)])
    run(database, record_settings)
    assert listed(database, gallery_id) == []
    run(database, record_settings, ClusterRule(threshold=0.4, min_recordings=1))
    assert [one.utterances for one in listed(database, gallery_id)] == [8]


def test_what_is_too_short_to_tell_is_left_alone(database: Database, record_settings: Settings) -> None:
    gallery_id = make_gallery(database)
    rows = voices(1, 4)
    [[first], [second], _, _] = record(
        database,
        gallery_id,
        *[[Said(row, length_s=length)] for row, length in zip(rows, (5, 2, 1.9, 0.5), strict=True)],
    )
    run(database, record_settings)
    assert members(database, gallery_id) == {"Unknown-1": {first, second}}


def test_what_the_diarizer_called_two_voices_is_never_one_and_what_it_called_one_is_never_two(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    same, other = voices(2, 6, seed=3).reshape(2, 6, -1)
    # Alike, and told to be two; and one voice that sounds like two people.
    [alike, mixed, *_] = record(
        database,
        gallery_id,
        [Said(same[0], voice=0), Said(same[1], voice=1)],
        [Said(same[2], voice=0), Said(other[0], voice=0, length_s=1.0)],
        [Said(same[3], voice=0)],
    )
    run(database, record_settings, ClusterRule(threshold=0.4, min_recordings=1, min_utterances=1))
    found = members(database, gallery_id)
    assert not any(set(alike) <= inside for inside in found.values())
    assert any(set(mixed) <= inside for inside in found.values())


def test_names_stay_with_their_voices_when_more_is_heard_and_no_number_is_given_twice(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    first, second, third = voices(3, 6, seed=5).reshape(3, 6, -1)
    record(database, gallery_id, *singly(first[:4]), *singly(second[:3]))
    run(database, record_settings)
    before = members(database, gallery_id)
    more = record(database, gallery_id, *singly(second[3:]), *singly(third))
    run(database, record_settings)
    after = members(database, gallery_id)
    assert after["Unknown-1"] == before["Unknown-1"]
    assert after["Unknown-2"] == before["Unknown-2"] | {one for [one] in more[:3]}
    assert after["Unknown-3"] == {one for [one] in more[3:]}
    with database.session_scope() as session:
        unknown = UnknownVoices(session, gallery_id)
        unknown.delete(unknown.by_name("Unknown-3"))
    run(database, record_settings)
    assert members(database, gallery_id)["Unknown-4"] == after["Unknown-3"]


def test_what_a_person_merged_split_or_took_out_is_not_undone_by_a_run(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    rows = voices(4, 6, seed=7).reshape(4, 6, -1)
    ids = [[one for [one] in record(database, gallery_id, *singly(some))] for some in rows]
    run(database, record_settings)
    with database.session_scope() as session:
        unknown = UnknownVoices(session, gallery_id)
        unknown.lock()
        unknown.merge(unknown.by_name("Unknown-2"), unknown.by_name("Unknown-1"))
        unknown.split(unknown.by_name("Unknown-3"), ids[2][:2])
        unknown.take_out(unknown.by_name("Unknown-4"), ids[3][:1])
    expected = {
        "Unknown-1": {*ids[0], *ids[1]},
        "Unknown-3": set(ids[2][2:]),
        "Unknown-4": set(ids[3][1:]),
        "Unknown-5": set(ids[2][:2]),
    }
    assert members(database, gallery_id) == expected
    for _ in range(2):
        run(database, record_settings)
        assert members(database, gallery_id) == expected
    # More of these voices joins what people made of them.
    [[new]] = record(database, gallery_id, *singly(voices(4, 7, seed=7).reshape(4, 7, -1)[0][6:]))
    run(database, record_settings, ClusterRule(threshold=0.2))
    assert {frozenset(inside - {new}) for inside in members(database, gallery_id).values()} == {
        frozenset(inside) for inside in expected.values()
    }


def test_a_merge_takes_back_an_earlier_split(database: Database, record_settings: Settings) -> None:
    gallery_id = make_gallery(database)
    ids = [one for [one] in record(database, gallery_id, *singly(voices(1, 6, seed=8)))]
    run(database, record_settings)
    with database.session_scope() as session:
        unknown = UnknownVoices(session, gallery_id)
        unknown.lock()
        made = unknown.split(unknown.by_name("Unknown-1"), ids[:2])
        unknown.merge(made, unknown.by_name("Unknown-1"))
    run(database, record_settings)
    assert members(database, gallery_id) == {"Unknown-1": set(ids)}


def test_erased_and_enrolled_utterances_leave_at_once(database: Database, record_settings: Settings) -> None:
    gallery_id = make_gallery(database)
    ids = [one for [one] in record(database, gallery_id, *singly(voices(1, 6, seed=9)))]
    run(database, record_settings)
    with database.session_scope() as session:
        number = UnknownVoices(session, gallery_id).stretches(listed(database, gallery_id)[0].id)[0].recording_id
        Recordings(session).delete(RecordingId(number))
    with database.session_scope() as session:
        speaker_id = Speakers(session).get_or_create(gallery_id, ["Ada"])["Ada"]
        Speakers(session).enroll(speaker_id, [ids[1]])
    assert members(database, gallery_id) == {"Unknown-1": set(ids[2:])}
    run(database, record_settings)
    assert members(database, gallery_id) == {"Unknown-1": set(ids[2:])}
    with database.session_scope() as session:
        Speakers(session).delete(speaker_id, erase_voice=False)
    run(database, record_settings)
    assert members(database, gallery_id) == {"Unknown-1": set(ids[1:])}


def test_a_gallery_that_requires_consent_is_not_grouped(database: Database, record_settings: Settings) -> None:
    gallery_id = make_gallery(database)
    record(database, gallery_id, *singly(voices(1, 6)))
    runs = clusterings(database, record_settings)
    job_id = runs.submit("archive", RULE)
    with database.session_scope() as session:
        Galleries(session).change(gallery_id, consent_required=True)
    with pytest.raises(ConsentRequired, match="consent_required"):
        runs.submit("archive", RULE)
    runs.perform(job_id)  # asked for before the rule
    job = job_of(database, job_id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "requires consent" in job.error
    assert listed(database, gallery_id) == []


def test_a_gallery_that_comes_to_require_consent_is_not_grouped_by_a_run_under_way(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    record(database, gallery_id, *singly(voices(1, 6)))
    runs = clusterings(database, record_settings)
    job_id = runs.submit("archive", RULE)

    def require(done: int, found: int) -> None:
        with database.session_scope() as session:
            Galleries(session).change(gallery_id, consent_required=True)

    runs.perform(job_id, require)
    job = job_of(database, job_id)
    assert (job.state, "requires consent" in (job.error or "")) == (JobState.FAILED, True)
    assert listed(database, gallery_id) == []


def test_a_run_that_was_killed_is_sent_again_by_the_sweep_and_done_by_whoever_comes(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    record(database, gallery_id, *singly(voices(1, 6)))
    queue = ListQueue()
    settings = record_settings.model_copy(
        update={"jobs": record_settings.jobs.model_copy(update={"lease_s": -1.0, "sweep_s": 0.0})}
    )
    runs = clusterings(database, record_settings)
    job_id = runs.submit("archive", RULE)
    with database.session_scope() as session:  # taken up by somebody who is never heard of again
        assert Plans(session, job_id, "dead").claim(-1.0) is not None
    bulk = make_bulk(database, settings, queue)
    bulk.sweep()
    assert queue.plans == [job_id]
    bulk.plan(queue.plans.pop())
    assert queue.clusterings == [job_id]
    runs.perform(queue.clusterings.pop())
    assert job_of(database, job_id).state is JobState.SUCCEEDED
    runs.perform(job_id)  # a message too many
    assert len(listed(database, gallery_id)) == 1


def test_a_run_is_refused_while_another_of_the_gallery_has_not_ended(
    database: Database, record_settings: Settings
) -> None:
    make_gallery(database)
    runs = clusterings(database, record_settings)
    job_id = runs.submit("archive", RULE)
    with pytest.raises(Conflict, match=rf"job {job_id} looks .*voxdex jobs cancel {job_id}"):
        runs.submit("archive", RULE)
    runs.perform(job_id)
    runs.perform(runs.submit("archive", RULE))


def test_a_calibration_that_was_changed_in_the_record_judges_nobody(
    database: Database, record_settings: Settings
) -> None:
    gallery_id = make_gallery(database)
    record(database, gallery_id, *singly(voices(1, 6)))
    changed = fitted(gaussian_trials(), encoders=(ENCODER,)).to_document()
    changed["weights"]["intercept"] += 5.0
    with database.session_scope() as session:
        Calibrations(session).add(StoredCalibration("c1", "own", (ENCODER,), changed))
        Galleries(session).change(gallery_id, calibration_id="c1")
    job = job_of(database, run(database, record_settings))
    assert (job.state, "calibration c1 of the record was changed" in (job.error or "")) == (JobState.FAILED, True)


def test_a_canceled_run_writes_nothing_more(database: Database, record_settings: Settings) -> None:
    gallery_id = make_gallery(database)
    record(database, gallery_id, *singly(voices(2, 6)))
    runs = clusterings(database, record_settings)
    job_id = runs.submit("archive", RULE)

    def cancel(done: int, found: int) -> None:
        if done == 0:
            with database.session_scope() as session:
                Jobs(session).cancel(job_id)

    runs.perform(job_id, cancel)
    assert job_of(database, job_id).state is JobState.CANCELED
    assert listed(database, gallery_id) == []


def test_a_run_finds_nothing_in_a_gallery_without_unnamed_utterances(
    database: Database, record_settings: Settings
) -> None:
    make_gallery(database)
    assert job_of(database, run(database, record_settings)).state is JobState.SUCCEEDED
    assert every_utterance(database) == []
