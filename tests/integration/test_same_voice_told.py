"""Whoever enrolls one voice under a second name is told so, by commands and of jobs, and can merge the two."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import update

from api import dependencies, gallery_reports, same_voice
from indexer.db.models import Gallery
from indexer.settings import Settings, load_settings
from tests.api_kit import ServiceClient, SpectrumServices, changed, serving, wav
from tests.cli_kit import voxdex


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for commands whose encoder needs no weights, with recordings of two voices."""
    monkeypatch.setattr(dependencies, "Services", SpectrumServices)
    for folder, seed, seconds in (("ann", 0, 4.0), ("bo", 1, 4.0), ("annie", 0, 5.0)):
        (tmp_path / "calls" / folder).mkdir(parents=True)
        (tmp_path / "calls" / folder / "one.wav").write_bytes(wav(seconds, seed))
    # Made-up voices resemble each other more than people do.
    monkeypatch.setenv("VOXDEX_DECISION__IDENTIFICATION_THRESHOLD", "0.995")
    monkeypatch.setenv("VOXDEX_DECISION__VERIFICATION_THRESHOLD", "0.995")
    return tmp_path


def test_enrolling_a_voice_twice_names_the_other_speaker_and_the_merge_that_ends_it(home: Path) -> None:
    place = ["--home", home]
    assert "sounds like" not in voxdex("enroll", "ann", home / "calls/ann/one.wav", *place).stderr
    assert "sounds like" not in voxdex("enroll", "bo", home / "calls/bo/one.wav", *place).stderr
    again = voxdex("enroll", "annie", home / "calls/annie/one.wav", *place)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("annie: the voice sounds like 'ann', who is enrolled too: cosine ") == 1
    assert "`voxdex speakers merge annie ann --gallery default`" in again.stderr
    assert "'bo'" not in again.stderr
    merged = voxdex("speakers", "merge", "annie", "ann", *place)
    assert merged.stdout == "annie is ann now, with 2 enrolled utterances\n", merged.stderr
    missing = voxdex("speakers", "merge", "annie", "ann", *place)
    assert (missing.returncode, "annie" in missing.stderr) == (4, True)


def test_an_archive_with_one_voice_in_two_folders_is_told_of_once(home: Path) -> None:
    report = voxdex("ingest", home / "calls", "--speaker-from", "parent", "--home", home, "--json")
    told = [notice for notice in report.answer["notices"] if "sounds like" in notice]
    assert [notice.split(":")[0] for notice in told] == ["ann"]
    assert "'annie'" in told[0]
    again = voxdex("ingest", home / "calls", "--speaker-from", "parent", "--home", home, "--json")
    assert again.answer["notices"] == []


SURE = {"identification_threshold": 0.995, "verification_threshold": 0.995}
"""Made-up voices resemble each other more than people do."""


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(changed(changed(record_settings, "decision", **SURE), "jobs", sweep_s=0.5)) as opened:
        assert opened.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        yield opened


def taken_in(client: ServiceClient, source: Path, **options: str) -> str:
    """Run a job to its end and return its path."""
    job = client.post("/v1/galleries/calls/jobs", json={"source": str(source), **options}).json()
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        assert any(line == "event: end" for line in events.iter_lines())
    return f"/v1/jobs/{job['id']}"


def same_voices(client: ServiceClient, job: str) -> dict[str, Any]:
    answer = client.get(f"{job}/same-voices")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_tells_who_sounds_like_whom_until_they_are_one(home: Path, client: ServiceClient) -> None:
    job = taken_in(client, home / "calls", speaker_from="parent:1")
    found = same_voices(client, job)
    [two] = found["items"]
    assert {two["speaker"], two["other"]} == {"ann", "annie"}
    assert (two["score"] > 0.995, two["llr"]) == (True, None)
    assert (found["compared"], found["complete"]) == (3, True)
    assert same_voices(client, job) == found
    merged = client.post("/v1/galleries/calls/speakers/annie/merge", json={"into": "ann"})
    assert merged.status_code == 200, merged.text
    assert same_voices(client, job)["items"] == []


def test_a_job_is_compared_with_all_of_the_gallery_and_one_without_names_with_nobody(
    home: Path, client: ServiceClient
) -> None:
    unnamed = taken_in(client, home / "calls" / "bo")
    assert same_voices(client, unnamed) == {"items": [], "compared": 0, "complete": True}
    assert same_voices(client, taken_in(client, home / "calls" / "ann", speaker_from="parent:1"))["items"] == []
    [two] = same_voices(client, taken_in(client, home / "calls" / "annie", speaker_from="parent:1"))["items"]
    assert (two["speaker"], two["other"]) == ("annie", "ann")
    assert client.get("/v1/jobs/99/same-voices").status_code == 404


@pytest.mark.parametrize(
    ("module", "limit", "value", "compared"),
    [(same_voice, "MOST_COMPARED", 2, 2), (gallery_reports, "_COMPARING_S", 0.0, 1)],
)
def test_of_very_many_speakers_the_first_are_compared_and_it_says_so(
    home: Path,
    client: ServiceClient,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    limit: str,
    value: float,
    compared: int,
) -> None:
    monkeypatch.setattr(module, limit, value)
    found = same_voices(client, taken_in(client, home / "calls", speaker_from="parent:1"))
    assert (found["compared"], found["complete"]) == (compared, False)


def test_whoever_watches_a_job_to_its_end_is_told(home: Path) -> None:
    settings = load_settings(home=home / "home", database={}, jobs={"sweep_s": 0.5}, decision=SURE)
    with serving(settings) as service:
        place = ["--url", service.base_url]
        ingest = ["ingest", "--remote", "-g", "calls", "--speaker-from", "parent", home / "calls", *place]
        done = voxdex(*ingest)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("ann: the voice sounds like 'annie', who is enrolled too: cosine ") == 1
        [job] = voxdex(*ingest, "--json").answer["jobs"]
        assert [(two["speaker"], two["other"]) for two in job["same_voices"]] == [("ann", "annie")]
        watched = voxdex("jobs", "watch", "1", *place)
        assert watched.stderr.count("sounds like 'annie'") == 1
    here = voxdex("jobs", "watch", "1", "--home", home / "home")  # The same without the service.
    assert here.stderr.count("ann: the voice sounds like 'annie'") == 1, here.stderr


def test_where_speakers_cannot_be_compared_a_job_can_be_watched_all_the_same(home: Path) -> None:
    settings = load_settings(home=home / "home", database={}, jobs={"sweep_s": 0.5})
    with serving(settings) as service:
        service.post("/v1/galleries", json={"name": "calls"})
        with service.runtime.database.session_scope() as session:  # As of a calibration that was deleted.
            session.execute(update(Gallery).values(target_p_fa=0.001))
        place = ["--url", service.base_url]
        ingest = ["ingest", "--remote", "-g", "calls", "--speaker-from", "parent", home / "calls", *place]
        told = "speakers were not compared with the others of gallery calls: "
        for options in ([], ["--json"]):
            done = voxdex(*ingest, *options)
            assert (done.returncode, done.stderr.count(told)) == (0, 1), done.stderr
        assert done.answer["jobs"][0]["same_voices"] == []
        assert service.get("/v1/jobs/1/same-voices").status_code == 422
