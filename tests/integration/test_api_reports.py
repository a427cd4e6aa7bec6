"""What the page tells of galleries as a whole and of the process, on both databases."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from indexer.settings import Settings
from search.gallery_quality import CURVE_POINTS
from tests.api_kit import ServiceClient, changed, serving, wav

AUDIO = {"content-type": "audio/wav"}


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(changed(module_settings, "api", open=True)) as opened:
        yield opened


@pytest.fixture
def gallery(client: ServiceClient) -> str:
    """Path of a gallery of three people with two recordings each."""
    name = uuid.uuid4().hex
    client.post("/v1/galleries", json={"name": name, "identification_threshold": 0.5})
    for number, speaker in enumerate(("Ann", "Bo", "Cy")):
        for take in range(2):
            enroll(client, f"/v1/galleries/{name}", speaker, seed=10 * number + take)
    return f"/v1/galleries/{name}"


def enroll(client: ServiceClient, gallery: str, speaker: str, *, seed: int) -> None:
    made = client.post(f"{gallery}/speakers/{speaker}/enrollments", content=wav(3, seed=seed), headers=AUDIO)
    assert made.status_code == 201, made.text


def of(client: ServiceClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_quality_is_of_who_is_enrolled_now_and_of_where_it_is_decided_now(client: ServiceClient, gallery: str) -> None:
    found = of(client, f"{gallery}/quality")
    assert (found["speakers"], found["recordings"], found["sampled"]) == (3, 6, False)
    assert (found["same_pairs"], found["different_pairs"]) == (3, 12)
    assert (found["decides_by"], found["point"]["threshold"], len(found["curve"])) == ("score", 0.5, CURVE_POINTS)
    assert of(client, f"{gallery}/quality") == found
    client.patch(gallery, json={"identification_threshold": 0.75})
    assert of(client, f"{gallery}/quality")["point"]["threshold"] == 0.75
    enroll(client, gallery, "Dee", seed=77)
    later = of(client, f"{gallery}/quality")
    assert (later["speakers"], later["recordings"]) == (4, 7)


def test_a_gallery_without_voices_has_no_figures_and_no_map(client: ServiceClient) -> None:
    name = uuid.uuid4().hex
    client.post("/v1/galleries", json={"name": name})
    empty = of(client, f"/v1/galleries/{name}/quality")
    assert (empty["speakers"], empty["eer"], empty["curve"], empty["point"]) == (0, None, [], None)
    assert of(client, f"/v1/galleries/{name}/map") == {"method": "PCA", "speakers": 0, "points": []}
    assert client.get("/v1/galleries/nowhere/quality").status_code == 404


def test_everybody_is_on_the_map_until_they_are_erased(client: ServiceClient, gallery: str) -> None:
    drawn = of(client, f"{gallery}/map")
    assert (drawn["speakers"], [point["speaker"] for point in drawn["points"]]) == (3, ["Ann", "Bo", "Cy"])
    assert all(abs(point["x"]) <= 1 and abs(point["y"]) <= 1 for point in drawn["points"])
    assert all(point["nearest"] not in (None, point["speaker"]) for point in drawn["points"])
    client.delete(f"{gallery}/speakers/Bo")
    assert [point["speaker"] for point in of(client, f"{gallery}/map")["points"]] == ["Ann", "Cy"]


def test_calibrations_that_come_with_voxdex_are_listed(client: ServiceClient) -> None:
    listed = of(client, "/v1/calibrations")["items"]
    assert {one["origin"] for one in listed} == {"voxdex"}
    assert all(one["cllr_after"] < one["cllr_before"] for one in listed)


def test_the_process_says_what_it_is_made_of_and_hides_other_galleries(client: ServiceClient, gallery: str) -> None:
    name = gallery.rsplit("/", 1)[-1]
    of(client, f"{gallery}/quality")  # Opens the gallery.
    found = of(client, "/v1/system")
    assert found["database"] == client.runtime.database.engine.dialect.name
    assert (found["jobs_run"], found["workers"]) == ("here", [])
    (mine,) = (one for one in found["indexes"] if one["gallery"] == name)
    assert mine["vectors"] == 6
    assert found["media_bytes_free"] > 0
    secret = client.runtime.keys.create(scopes=["read"], gallery=name).secret
    bound = client.get("/v1/system", headers={"X-API-Key": secret}).json()
    assert {one["gallery"] for one in bound["indexes"]} == {name}
    assert [one["galleries"] for one in bound["encoders"]] == [[name]]
