"""The main job over HTTP, on a real Postgres, Redis, Celery worker and web server, through the published client."""

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from api.cli.local_service import LocalService
from indexer.errors import Unavailable
from tests.conftest import unavailable
from tests.formats.audio_samples import speech_like
from tests.formats.audio_zoo import Outcome, build_zoo, wav_bytes
from tests.service_stack import agree, client_of, running_service, voxdex
from voxdex_client import Client, errors

pytestmark = [pytest.mark.postgres, pytest.mark.real_weights, pytest.mark.real_speech]

GALLERY = "Gespräche/2026"
ENDS_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that jobs may read."""
    return tmp_path_factory.mktemp("archives")


@pytest.fixture(scope="module")
def service(archives: Path, tmp_path_factory: pytest.TempPathFactory, default_weights: Path) -> Iterator[LocalService]:
    settings = {
        "VOXDEX_JOBS__SOURCES": f'["{archives}"]',
        "VOXDEX_JOBS__SHARD_FILES": "8",
        "VOXDEX_JOBS__SWEEP_S": "1",
        "VOXDEX_CACHE": os.environ.get("VOXDEX_CACHE", str(Path.home() / ".cache" / "voxdex")),
    }
    try:
        with running_service(tmp_path_factory.mktemp("service"), workers=1, settings=settings) as running:
            yield running
    except Unavailable as error:
        unavailable(f"the service: {error}")


@pytest.fixture(scope="module")
def client(service: LocalService) -> Iterator[Client]:
    with client_of(service) as opened:
        yield opened


@pytest.fixture(scope="module")
def people(speech_dir: Path) -> dict[str, list[Path]]:
    """Recordings of three people, four each."""
    found: dict[str, list[Path]] = {}
    with (speech_dir / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["set"] == "librispeech_testother" and float(row["seconds"]) >= 4:
                found.setdefault(row["speaker"], []).append(speech_dir / row["path"])
    whole = {name: sorted(paths)[:4] for name, paths in sorted(found.items()) if len(paths) >= 4}
    return dict(list(whole.items())[:3])


def test_the_main_job_over_http(
    client: Client, service: LocalService, archives: Path, people: dict[str, list[Path]]
) -> None:
    ann, bob, eve = people
    client.galleries.create(GALLERY)

    # Enroll Ann over HTTP; have Bob's recordings and others ingested as a job.
    for path in people[ann][:2]:
        enrolled = client.enrollments.create(GALLERY, ann, path)
        assert enrolled.enrolled_s > 3
    archive = archives / "calls"
    for name in (bob, eve):
        (archive / name).mkdir(parents=True)
        for path in people[name][:2]:
            shutil.copyfile(path, archive / name / path.name)
    (archive / "unnamed").mkdir()
    samples, rate = soundfile.read(people[ann][2])
    soundfile.write(archive / "unnamed" / "ann-again.wav", samples, rate)
    job = client.jobs.create(GALLERY, str(archive), speaker_from="regex:/calls/(?P<speaker>[^u/][^/]*)/")
    events = list(client.jobs.events(job.id))
    ended = client.jobs.wait(job.id, timeout_s=ENDS_WITHIN_S)
    assert (ended.state, ended.found, ended.done, ended.failed) == ("succeeded", 5, 5, 0)
    assert events[-1].state == "succeeded"

    # Who is it? Is it them? Where else do they speak?
    for name in (ann, bob, eve):
        answer = client.identify(GALLERY, people[name][3])
        assert (answer.decision, answer.speaker) == ("identified", name)
        assert len(answer.candidates) == 3
        claim = client.verify(GALLERY, people[name][3], name)
        assert claim.decision == "accept"
        assert claim.score == pytest.approx(answer.candidates[0].score, abs=1e-5)
    assert client.verify(GALLERY, people[ann][3], bob).decision == "reject"
    found = client.search(GALLERY, people[ann][3])
    assert {hit.uri for hit in found.recordings} >= {str(archive / "unnamed" / "ann-again.wav")}

    # Forget Ann: she is nobody afterwards, and nowhere.
    client.speakers.delete(GALLERY, ann)
    with pytest.raises(errors.ApiError) as refused:
        client.verify(GALLERY, people[ann][3], ann)
    assert (refused.value.status, refused.value.code) == (404, "not-found")
    again = client.identify(GALLERY, people[ann][3])
    assert (again.decision, again.speaker) == ("unknown", None)
    assert ann not in {candidate.speaker for candidate in again.candidates}
    left = client.search(GALLERY, people[ann][3])
    assert [hit.uri for hit in left.recordings] == [str(archive / "unnamed" / "ann-again.wav")]
    assert client.identify(GALLERY, people[bob][3]).speaker == bob

    checked = voxdex(service, "index", "check", "--gallery", GALLERY)
    assert agree(checked), checked
    assert checked["recorded"] > 0


def test_a_job_of_broken_files_ends_with_the_reason_of_each(client: Client, archives: Path) -> None:
    zoo: dict[str, tuple[Path, Outcome]] = build_zoo(archives / "zoo")
    kinds = {
        "empty",
        "header only",
        "silent",
        "dither",
        "text",
        "text named mp3",
        "pdf",
        "png",
        "zeros",
        "random bytes",
        "nan",
        "truncated m4a, index lost",
        "truncated wav",
        "truncated flac",
        "truncated mp3",
        "video without sound",
        "plain",
        "flac named txt",
    }
    manifest = archives / "zoo.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "speaker"])
        rows.writerows([str(zoo[kind][0]), ""] for kind in sorted(kinds))
        rows.writerow([str(archives / "zoo" / "never-recorded.wav"), ""])
    client.galleries.create("zoo")
    job = client.jobs.create("zoo", str(manifest))
    ended = client.jobs.wait(job.id, timeout_s=ENDS_WITHIN_S)
    items = {Path(item.uri).name: item for item in client.jobs.items(job.id)}
    failed = {name: item.error_code for name, item in items.items() if item.state == "failed"}
    refused = {kind for kind in kinds if isinstance(zoo[kind][1], type)}
    expected = {zoo[kind][0].name for kind in refused} | {"never-recorded.wav"}
    assert ended.state == "succeeded_with_errors"
    assert set(failed) == expected
    assert (ended.found, ended.done, ended.failed) == (len(kinds) + 1, len(kinds - refused), len(expected))
    for kind in refused:
        family = zoo[kind][1]
        assert isinstance(family, type)
        codes = {family.code, *(below.code for below in family.__subclasses__())}
        assert failed[zoo[kind][0].name] in codes, kind
    assert failed["never-recorded.wav"] == "not-found"
    assert all(items[name].error_message for name in failed)
    for kind in ("truncated wav", "truncated flac", "truncated mp3"):
        assert items[zoo[kind][0].name].notice, f"{kind}: nothing says that it was read in part"
    assert {item.uri for item in client.jobs.items(job.id, state="failed")} == {items[name].uri for name in failed}

    # What was repaired goes in when the failed ones are tried again; the rest fails as before.
    (archives / "zoo" / "never-recorded.wav").write_bytes(wav_bytes(speech_like(2.0, seed=77)))
    again = client.jobs.retry_failed(job.id)
    assert again.requeued == len(expected)
    ended = client.jobs.wait(job.id, timeout_s=ENDS_WITHIN_S)
    assert (ended.state, ended.failed) == ("succeeded_with_errors", len(expected) - 1)
