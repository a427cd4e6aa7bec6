import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from api.cli.job_desk import RemoteJobs
from api.cli.watching import SHOWN_FAILURES, SHOWN_NOTICES, print_notices, print_summary, watch
from tests.scripted_server import Answer, Script, problem, running_script
from voxdex_client import Client, Retries, errors
from voxdex_client.models import Job, JobItem, JobItemState, JobState

NOW = dt.datetime(2026, 1, 31, 9, tzinfo=dt.UTC)


def job(state: JobState, done: int = 0, *, found: int = 100, failed: int = 0, eta_s: float | None = None) -> Job:
    return Job(
        id=7,
        gallery="calls",
        kind="folder",
        source="/archive",
        speaker_from="none",
        channels=None,
        speakers=None,
        speech=None,
        on_duplicate="skip",
        error=None,
        created_at=NOW,
        started_at=NOW,
        finished_at=None,
        state=state,
        planned=state != "planning",
        found=found,
        done=done,
        duplicate=0,
        failed=failed,
        audio_s=60.0 * done,
        speech_s=30.0 * done,
        elapsed_s=10.0,
        times_real_time=6.0 * done,
        eta_s=eta_s,
    )


def failure(number: int) -> JobItem:
    return JobItem(
        id=number,
        uri=f"/archive/{number}.wav",
        state="failed",
        speaker=None,
        recording_id=None,
        error_code="corrupt-audio",
        error_message=f"/archive/{number}.wav: torn\nin two",
        notice=None,
        finished_at=NOW,
    )


@dataclass
class Desk:
    """Jobs that a test has written down."""

    course: list[Job]
    failures: list[JobItem] = field(default_factory=list)
    cancels: list[int] = field(default_factory=list)

    def jobs(self, gallery: str | None, state: JobState | None) -> Iterable[Job]:
        return self.course[-1:]

    def job(self, job_id: int) -> Job:
        return self.course[-1]

    def items(self, job_id: int, state: JobItemState | None, *, noticed: bool = False) -> Iterable[JobItem]:
        if noticed:
            return [item for item in self.failures if item.notice is not None]
        assert state == "failed"
        return self.failures

    def follow(self, job_id: int) -> Iterator[Job]:
        yield from self.course

    def cancel(self, job_id: int) -> Job:
        self.cancels.append(job_id)
        return self.course[-1]

    def retry_failed(self, job_id: int) -> int:
        return 0


def test_what_to_know_of_files_is_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    items = [failure(number).model_copy(update={"notice": "2 voices were heard"}) for number in range(SHOWN_NOTICES)]
    ended = job("succeeded", 100)
    print_notices(Desk([ended], [failure(77), *items]), ended)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == SHOWN_NOTICES
    assert told[0] == "voxdex: /archive/0.wav: 2 voices were heard"
    print_notices(Desk([ended], [*items, *items]), ended)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == SHOWN_NOTICES + 1
    assert told[-1] == "voxdex: ... and more (voxdex jobs items 7 --noticed lists all)"


def test_a_log_is_told_of_every_state_and_of_every_failed_file_once(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(
        [
            job("planning", found=10),
            job("running", 10, failed=1, eta_s=3725.2),
            job("running", 50, failed=1),
            job("running", 60, failed=2),
            job("succeeded_with_errors", 98, failed=2),
        ],
        [failure(1), failure(2)],
    )
    assert watch(desk, 7, again="watch").state == "succeeded_with_errors"
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "voxdex: job 7 planning: 0 files processed (0 failed)",
        "voxdex: corrupt-audio: /archive/1.wav: torn in two",
        "voxdex: corrupt-audio: /archive/2.wav: torn in two",
        "voxdex: job 7 running: 11 of 100 files processed (1 failed), 60.0x real time, ETA 1:02:05",
        "voxdex: job 7 succeeded_with_errors: 100 of 100 files processed (2 failed), 588.0x real time",
    ]


def test_many_failures_are_told_up_to_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    course = [job("running", 1, failed=50), job("running", 1, failed=99), job("failed", 1, failed=99)]
    watch(Desk(course, [failure(number) for number in range(99)]), 7, again="watch")
    lines = [line for line in capsys.readouterr().err.splitlines() if "torn" in line or "more" in line]
    assert len(lines) == SHOWN_FAILURES + 1
    assert lines[-1] == "voxdex: ... and more (voxdex jobs items 7 --state failed lists all)"


def test_nothing_is_shown_where_a_document_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Desk([job("running", 1, failed=1), job("succeeded", 2)], [failure(1)]), 7, again="watch", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_summary_says_what_a_job_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    ended = job("failed", 10, failed=1).model_copy(update={"error": "the bucket is gone"})
    print_summary(ended, again="voxdex jobs items 7")
    assert capsys.readouterr().out.splitlines() == [
        "job 7, gallery calls: failed; 100 found: 10 ingested, 0 already there, 1 failed",
        "the job as a whole failed: the bucket is gone",
        "10.0 min of audio, 5.0 min of it speech, in 10.0 s: 60.0 times real time",
        "reasons: `voxdex jobs items 7`",
    ]


@pytest.fixture
def script() -> Iterator[Script]:
    with running_script() as running:
        yield running


def _stream(*jobs: Job, end: bool = False) -> Answer:
    kinds = ["progress"] * (len(jobs) - end) + ["end"] * end
    lines = [f"event: {kind}\ndata: {one.model_dump_json()}\n\n" for kind, one in zip(kinds, jobs, strict=True)]
    return Answer(body="".join(lines).encode(), headers={"Content-Type": "text/event-stream"})


def test_a_service_that_is_restarted_is_waited_for_and_one_that_never_answered_is_not(script: Script) -> None:
    gone = [problem(503, "unavailable")] * 2
    script.answers = [_stream(job("running", 1)), *gone, *gone, _stream(job("succeeded", 100), end=True)]
    with Client(script.url, retries=Retries(tries=2, backoff_s=0.01)) as client:
        assert [one.done for one in RemoteJobs(client).follow(7)] == [1, 100]
        script.answers = gone
        with pytest.raises(errors.Unavailable):
            list(RemoteJobs(client).follow(7))
