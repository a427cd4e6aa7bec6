"""`voxdex jobs` and `voxdex ingest --remote` on a running service, and on the record of this machine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli.main import app
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.errors import AccessDenied, Conflict, EncoderMismatch, InvalidRequest, NotFound, Unavailable
from indexer.settings import load_settings
from indexer.types import GalleryId
from tests.api_kit import ServiceClient, serving, wav

VOXDEX = Path(sys.executable).with_name("voxdex")


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceClient]:
    settings = load_settings(home=tmp_path / "home", database={}, jobs={"sweep_s": 0.5})
    with serving(settings) as running:
        monkeypatch.setenv("VOXDEX_URL", str(running.base_url))
        yield running


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for speaker, seed in (("ann", 1), ("bo", 2)):
        (folder / speaker).mkdir(parents=True)
        (folder / speaker / "a.wav").write_bytes(wav(seed=seed))
    (folder / "bo" / "torn.wav").write_bytes(b"")
    return folder


def voxdex(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def test_an_archive_is_taken_in_by_a_service_as_it_would_be_here(service: ServiceClient, archive: Path) -> None:
    done = voxdex("ingest", "--remote", "-g", "calls", "--speaker-from", "parent", str(archive))
    assert done.exit_code == 1  # a file failed
    assert "gallery calls was made" in done.stderr
    assert f"corrupt-audio: {archive}/bo/torn.wav" in done.stderr
    assert "job 1, gallery calls: succeeded with errors; 3 found: 2 ingested, 0 already there, 1 failed" in done.stdout

    (archive / "bo" / "torn.wav").unlink()
    again = voxdex("ingest", "--remote", "-g", "calls", str(archive), "--json")
    assert again.exit_code == 0
    [job] = document(again)["jobs"]
    assert (job["state"], job["duplicate"], job["failures"]) == ("succeeded", 2, [])


def test_what_to_know_of_a_file_is_said_at_the_end_and_can_be_listed(
    service: ServiceClient, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxdex("ingest", "--remote", "-g", "calls", "--speaker-from", "parent", str(archive))
    (archive / "ann").rename(archive / "cy")
    done = voxdex("ingest", "--remote", "-g", "calls", "--speaker-from", "parent", str(archive))
    assert f"{archive}/cy/a.wav: recording" in done.stderr
    assert "is enrolled as ann, not as cy" in done.stderr
    [noticed] = document(voxdex("jobs", "items", "2", "--noticed", "--json"))["items"]
    assert "is enrolled as ann, not as cy" in noticed["notice"]
    assert "is enrolled as ann, not as cy" in voxdex("jobs", "watch", "2").stderr
    monkeypatch.delenv("VOXDEX_URL")
    here = voxdex("jobs", "items", "2", "--noticed", "--home", str(service.runtime.settings.home), "--json")
    assert document(here)["items"] == [noticed]


def test_a_failed_file_is_named_with_its_reason_in_the_document(service: ServiceClient, archive: Path) -> None:
    done = voxdex("ingest", "--remote", "-g", "calls", str(archive), "--json")
    assert done.exit_code == 1
    assert done.stderr == "voxdex: gallery calls was made\n"
    [job] = document(done)["jobs"]
    [failure] = job["failures"]
    assert (failure["path"], failure["code"]) == (f"{archive}/bo/torn.wav", "corrupt-audio")


def test_a_posted_job_can_be_left_alone_watched_looked_into_and_retried(service: ServiceClient, archive: Path) -> None:
    posted = voxdex("ingest", "--remote", "--detach", "-g", "calls", str(archive))
    assert posted.exit_code == 0
    assert "watch it with `voxdex jobs watch 1`" in posted.stdout
    watched = voxdex("jobs", "watch", "1")
    assert watched.exit_code == 1
    assert "1 failed" in watched.stdout

    shown = voxdex("jobs", "show", "1")
    assert f"failed      corrupt-audio: {archive}/bo/torn.wav" in shown.stdout
    assert [item["state"] for item in document(voxdex("jobs", "items", "1", "--json"))["items"]] == [
        "done",
        "done",
        "failed",
    ]
    cut = document(voxdex("jobs", "items", "1", "--limit", "2", "--json"))
    assert (len(cut["items"]), cut["complete"]) == (2, False)
    [failed] = document(voxdex("jobs", "items", "1", "--state", "failed", "--json"))["items"]
    assert failed["error_code"] == "corrupt-audio"

    (archive / "bo" / "torn.wav").write_bytes(wav(seed=3))
    assert isinstance(voxdex("jobs", "retry", "1", "--path", "other.wav").exception, NotFound)
    assert isinstance(voxdex("jobs", "retry", "1", "--item", "999").exception, Conflict)
    retried = voxdex("jobs", "retry", "1", "--path", failed["uri"], "--item", str(failed["id"]))
    assert retried.stdout == "job 1: 1 failed file is tried again\n"
    watched = voxdex("jobs", "watch", "1", "--json")
    assert (watched.exit_code, document(watched)["state"]) == (0, "succeeded")

    voxdex("ingest", "--remote", "-g", "calls", str(archive))
    assert [job["id"] for job in document(voxdex("jobs", "list", "--json"))["jobs"]] == [2, 1]
    assert [job["id"] for job in document(voxdex("jobs", "list", "--limit", "1", "--json"))["jobs"]] == [2]
    assert document(voxdex("jobs", "list", "--state", "failed", "--json"))["jobs"] == []
    assert "succeeded" in voxdex("jobs", "list", "-g", "calls").stdout


def test_jobs_of_this_machine_are_read_from_its_record(
    service: ServiceClient, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxdex("ingest", "--remote", "-g", "calls", str(archive))
    remote = {words: voxdex("jobs", *words, "--json") for words in _QUESTIONS}
    monkeypatch.delenv("VOXDEX_URL")
    monkeypatch.setenv("VOXDEX_HOME", str(service.runtime.settings.home))
    for words, answer in remote.items():
        local = voxdex("jobs", *words, "--json")
        assert document(local) == document(answer)
        assert local.exit_code == answer.exit_code
    assert isinstance(voxdex("jobs", "cancel", "1").exception, Conflict)
    (archive / "bo" / "torn.wav").write_bytes(wav(seed=3))
    assert voxdex("jobs", "retry", "1").exit_code == 0
    # Nobody was told; the running service finds it by itself.
    assert document(voxdex("jobs", "watch", "1", "--json"))["state"] == "succeeded"


_QUESTIONS = (("list",), ("show", "1"), ("items", "1"), ("items", "1", "--state", "failed"), ("watch", "1"))


def test_a_job_is_canceled_and_says_so(service: ServiceClient) -> None:
    job_id = _endless_job(service, kind="folder")
    canceled = voxdex("jobs", "cancel", str(job_id))
    assert "is canceled" in canceled.stdout
    watched = voxdex("jobs", "watch", str(job_id), "--json")
    assert (watched.exit_code, document(watched)["state"]) == (1, "canceled")


def _interruptible() -> None:
    """Have Ctrl-C end the command also where the tests run in the background of a shell, which ignores it there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_the_watching_and_not_the_job(service: ServiceClient) -> None:
    job_id = _endless_job(service, kind="ingest")
    watching = subprocess.Popen(
        [VOXDEX, "jobs", "watch", str(job_id)],
        env=os.environ,
        preexec_fn=_interruptible,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stderr is not None
        # Where a test before this one used gRPC, the fork says a line of its own first.
        assert any("running" in line for line in watching.stderr)
        watching.send_signal(signal.SIGINT)
        output, notices = watching.communicate(timeout=120)
    finally:
        watching.kill()
        watching.communicate()
    assert watching.returncode == 130
    assert output == ""
    assert notices == f"voxdex: job {job_id} goes on without you; watch it with `voxdex jobs watch {job_id}`\n"
    assert document(voxdex("jobs", "show", str(job_id), "--json"))["state"] == "running"


def test_what_a_service_refuses_is_the_error_that_it_is_here(service: ServiceClient, archive: Path) -> None:
    refused = [
        (("jobs", "show", "99"), NotFound, "no job with id 99"),
        (("ingest", "--remote", "-g", "calls", "--speaker-from", "csv:x.csv", str(archive)), InvalidRequest, "csv:"),
        (("ingest", "--remote", "-g", "calls", "--channels", "up", str(archive)), InvalidRequest, "up"),
        (("ingest", "--remote", "-g", "calls", "--encoder", "other", str(archive)), EncoderMismatch, "other"),
        (("ingest", "--remote", "-g", "calls", "https://example.org/a.csv"), AccessDenied, "VOXDEX_JOBS__SOURCES"),
    ]
    voxdex("ingest", "--remote", "-g", "calls", "--detach", str(archive))
    for words, kind, message in refused:
        result = voxdex(*words)
        assert type(result.exception) is kind, result.exception
        assert message in str(result.exception)


def test_a_service_that_is_not_there_and_an_address_that_is_none_are_named(archive: Path) -> None:
    cases = [
        (("jobs", "list", "--url", "http://127.0.0.1:1"), Unavailable, "cannot be reached"),
        (("jobs", "list", "--url", "localhost:8080"), InvalidRequest, "--url"),
        (("ingest", "--remote", str(archive)), InvalidRequest, "VOXDEX_URL"),
        (("ingest", "--detach", str(archive)), InvalidRequest, "--remote"),
        (("jobs", "list"), NotFound, "nothing is stored"),
    ]
    for words, kind, message in cases:
        result = voxdex(*words)
        assert isinstance(result.exception, kind), result.exception
        assert message in str(result.exception)


def _endless_job(service: ServiceClient, *, kind: str) -> int:
    """A job that runs until somebody ends it."""
    service.post("/v1/galleries", json={"name": "endless"})
    with service.runtime.database.session_scope() as session:
        gallery_id = GalleryId(Galleries(session).by_name("endless").id)
        job_id = Jobs(session).start(gallery_id, kind=kind, source="/archive", found=1)
        if kind != "ingest":
            job = Jobs(session).get(job_id)
            job.planned_at = None  # as if planning were under way elsewhere
            job.lease_until = job.created_at.replace(year=2100)
    return job_id


def test_paths_reach_the_workers_from_the_root_on_and_urls_as_they_are() -> None:
    from api.cli.remote_ingest import as_workers_see

    assert as_workers_see("s3://calls/2026") == "s3://calls/2026"
    assert as_workers_see("/archive/../calls") == "/calls"
    assert as_workers_see("calls") == str(Path.cwd() / "calls")
