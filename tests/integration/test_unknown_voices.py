"""Unknown voices over HTTP, through the client, and from the command line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.main import app
from indexer.db.galleries import Galleries
from indexer.db.session import open_database
from indexer.errors import ConsentRequired, InvalidRequest
from indexer.settings import Settings, load_settings
from indexer.types import GalleryId
from tests.api_kit import ServiceClient, changed, serving
from tests.cluster_kit import Said, make_gallery, record, singly
from tests.vectors import voices
from voxdex_client import Client, errors


@dataclass(frozen=True)
class Served:
    """A gallery "archive" of three voices of 6, 4 and 3 recordings, in a service."""

    http: ServiceClient
    client: Client
    gallery_id: GalleryId
    utterances: list[list[int]]


@pytest.fixture
def served(record_settings: Settings) -> Iterator[Served]:
    with serving(changed(record_settings, "jobs", sweep_s=0.5)) as http:
        gallery_id, utterances = fill(http.runtime.database)
        with Client(str(http.base_url)) as client:
            yield Served(http, client, gallery_id, utterances)


def fill(database: Any) -> tuple[GalleryId, list[list[int]]]:
    gallery_id = make_gallery(database)
    rows = voices(3, 6, seed=2).reshape(3, 6, -1)
    counted = zip(rows, (6, 4, 3), strict=True)
    ids = [[one for [one] in record(database, gallery_id, *singly(some[:count]))] for some, count in counted]
    return gallery_id, ids


def find(served: Served) -> None:
    job = served.client.unknown_voices.find("archive", threshold=0.4)
    assert (job.kind, job.gallery) == ("cluster", "archive")
    assert served.client.jobs.wait(job.id, timeout_s=120, poll_s=0.05).state == "succeeded"


def test_unknown_voices_are_found_listened_to_put_right_and_named(served: Served) -> None:
    unknown, ids = served.client.unknown_voices, served.utterances
    assert list(unknown.list("archive")) == []
    find(served)
    assert [(one.name, one.utterances, one.recordings) for one in unknown.list("archive", limit=2)] == [
        ("Unknown-1", 6, 6),
        ("Unknown-2", 4, 4),
        ("Unknown-3", 3, 3),
    ]
    heard = list(unknown.utterances("archive", "Unknown-1", limit=4))
    assert [one.id for one in heard] == ids[0]
    assert (heard[0].start_s, heard[0].end_s, heard[0].channel) == (0.0, 5.0, None)
    assert unknown.remove("archive", "Unknown-1", ids[0][0]).utterances == 5
    assert unknown.merge("archive", "Unknown-3", "Unknown-2").utterances == 7
    parted = unknown.split("archive", "Unknown-2")
    assert (parted.kept.utterances, parted.made.utterances, parted.made.name) == (4, 3, "Unknown-4")
    named = unknown.split("archive", "Unknown-1", utterance_ids=ids[0][1:3])
    assert [one.id for one in unknown.utterances("archive", named.made.name)] == ids[0][1:3]
    find(served)
    assert {one.name: (one.utterances, one.edited) for one in unknown.list("archive")} == {
        "Unknown-1": (3, True),
        "Unknown-2": (4, True),
        "Unknown-4": (3, True),
        "Unknown-5": (2, True),
    }
    speaker = unknown.promote("archive", "Unknown-4", "Ann Lee", consent_reference="form 7")
    assert (speaker.name, speaker.enrolled_utterances, speaker.consent_reference) == ("Ann Lee", 3, "form 7")
    assert unknown.promote("archive", "Unknown-5", "Ann Lee").enrolled_utterances == 5
    assert unknown.delete("archive", "Unknown-2").utterances == 4
    assert [one.name for one in unknown.list("archive")] == ["Unknown-1"]


def test_what_is_wrong_is_said(served: Served) -> None:
    unknown = served.client.unknown_voices
    with pytest.raises(errors.NotFound, match="Unknown-1"):
        unknown.get("archive", "Unknown-1")
    find(served)
    for call in (
        lambda: unknown.merge("archive", "Unknown-1", "Unknown-9"),
        lambda: unknown.remove("archive", "Unknown-1", served.utterances[1][0]),
        lambda: unknown.get("archive", "unknown-1"),
        lambda: unknown.find("nowhere"),
    ):
        with pytest.raises(errors.NotFound):
            call()
    with pytest.raises(errors.InvalidRequest, match="itself"):
        unknown.merge("archive", "Unknown-1", "Unknown-1")
    with pytest.raises(errors.InvalidRequest, match="one of them"):
        unknown.find("archive", threshold=0.5, fpir=0.1)
    with pytest.raises(errors.Conflict, match="leave some"):
        unknown.split("archive", "Unknown-1", utterance_ids=served.utterances[0])
    answer = served.http.post(
        "/v1/galleries/archive/unknown-voices/Unknown-1/promote",
        json={"speaker": "Ann", "consented_at": "2026-01-01T00:00:00Z"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_a_request_that_is_sent_twice_is_done_once(served: Served) -> None:
    find(served)
    unknown = served.client.unknown_voices
    first = unknown.split("archive", "Unknown-1", idempotency_key="k1")
    again = unknown.split("archive", "Unknown-1", idempotency_key="k1")
    assert first == again
    assert len(list(unknown.list("archive"))) == 4


def test_a_key_that_may_only_read_changes_nothing(served: Served) -> None:
    find(served)
    made = served.http.runtime.keys.create(scopes=["read"], gallery="archive", rate_limit_per_minute=None)
    with Client(str(served.http.base_url), key=made.secret) as reader:
        assert len(list(reader.unknown_voices.list("archive"))) == 3
        for call in (
            lambda: reader.unknown_voices.find("archive"),
            lambda: reader.unknown_voices.promote("archive", "Unknown-1", "Ann"),
            lambda: reader.unknown_voices.delete("archive", "Unknown-1"),
        ):
            with pytest.raises(errors.AccessDenied):
                call()


def test_where_consent_is_required_voices_are_named_with_it_and_not_grouped(served: Served) -> None:
    find(served)
    served.client.galleries.change("archive", consent_required=True)
    unknown = served.client.unknown_voices
    for call in (
        lambda: unknown.find("archive"),
        lambda: unknown.merge("archive", "Unknown-1", "Unknown-2"),
        lambda: unknown.split("archive", "Unknown-1"),
        lambda: unknown.promote("archive", "Unknown-1", "Ann"),
    ):
        with pytest.raises(errors.Conflict) as refused:
            call()
        assert refused.value.code == "consent-required"
    assert unknown.promote("archive", "Unknown-1", "Ann", consent_reference="form 7").enrolled_utterances == 6
    assert unknown.delete("archive", "Unknown-2").utterances == 4


def test_erasing_a_recording_takes_it_out_of_the_voice(served: Served) -> None:
    find(served)
    [first, *_] = served.client.unknown_voices.utterances("archive", "Unknown-1")
    served.client.recordings.delete("archive", first.recording_id)
    assert served.client.unknown_voices.get("archive", "Unknown-1").utterances == 5
    assert [job.kind for job in served.client.jobs.list()] == ["cluster"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    database = open_database(load_settings(home=tmp_path, database={}))
    gallery_id, _ = fill(database)
    record(database, gallery_id, [Said(row) for row in voices(1, 2, seed=9)])
    database.close()
    return tmp_path


def voxdex(home: Path, *words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words), "-g", "archive", "--home", str(home), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_the_commands_do_the_same(home: Path) -> None:
    found = voxdex(home, "cluster", "--threshold", 0.4)
    assert [(one["name"], one["utterances"]) for one in found["voices"]] == [
        ("Unknown-1", 6),
        ("Unknown-2", 4),
        ("Unknown-3", 3),
    ]
    assert (found["utterances"], found["grouped"]) == (15, 13)
    [first, *_] = voxdex(home, "unknown", "show", "Unknown-1")["utterance_rows"]
    assert voxdex(home, "unknown", "remove", "Unknown-1", first["id"])["utterances"] == 5
    assert voxdex(home, "unknown", "merge", "Unknown-2", "Unknown-3")["utterances"] == 7
    assert voxdex(home, "unknown", "split", "Unknown-3")["made"]["name"] == "Unknown-4"
    assert voxdex(home, "unknown", "promote", "Unknown-4", "Ann Lee")["name"] == "Ann Lee"
    assert [one["name"] for one in voxdex(home, "unknown", "list")] == ["Unknown-1", "Unknown-3"]
    again = voxdex(home, "cluster", "--threshold", 0.4, "--min-utterances", 3)
    assert {one["name"] for one in again["voices"]} == {"Unknown-1", "Unknown-3"}
    assert voxdex(home, "unknown", "delete", "Unknown-3", "--yes") == {"utterances": found["voices"][1]["utterances"]}
    assert voxdex(home, "unknown", "delete", "--all", "--yes") == {"voices": 1}
    assert [job["state"] for job in jobs(home)] == ["succeeded", "succeeded"]


def test_people_read_who_was_found(home: Path) -> None:
    words = ["cluster", "--threshold", "0.4", "-g", "archive", "--home", str(home)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (
        "gallery archive: 3 unknown voices in 13 of 15 unnamed utterances (mean cosine of 0.4 or more)" in done.output
    )
    shown = CliRunner().invoke(app, ["unknown", "show", "Unknown-3", "-g", "archive", "--home", str(home)])
    assert "Unknown-3: 3 utterances in 3 recordings, 15.0 s of speech" in shown.output


def test_the_command_is_refused_with_the_reason(home: Path) -> None:
    with pytest.raises(InvalidRequest, match="spectrum has no calibration"):
        voxdex(home, "cluster")
    database = open_database(load_settings(home=home, database={}))
    with database.session_scope() as session:
        Galleries(session).change(GalleryId(Galleries(session).by_name("archive").id), consent_required=True)
    database.close()
    with pytest.raises(ConsentRequired, match="consent_required"):
        voxdex(home, "cluster", "--threshold", 0.4)
    assert [job["state"] for job in jobs(home)] == ["failed"]


def jobs(home: Path) -> Any:
    return json.loads(CliRunner().invoke(app, ["jobs", "list", "--home", str(home), "--json"]).stdout)["jobs"]
