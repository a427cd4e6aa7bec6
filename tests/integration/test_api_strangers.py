"""What somebody meets who does not know the service: misspelled requests, the same content twice, texts of errors."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api.app import create_app
from indexer.settings import Settings
from tests.api_kit import ServiceClient, serving, wav, wav_of
from tests.formats.audio_samples import speech_like, stereo
from tests.waiting import eventually

AUDIO = {"content-type": "audio/wav"}


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(module_settings) as opened:
        yield opened


@pytest.fixture
def gallery(client: ServiceClient) -> Iterator[str]:
    """Path of a gallery of the test's own."""
    name = uuid.uuid4().hex
    assert client.post("/v1/galleries", json={"name": name}).status_code == 201
    yield f"/v1/galleries/{name}"
    client.delete(f"/v1/galleries/{name}")


def test_a_misspelled_parameter_erases_nothing(client: ServiceClient, gallery: str) -> None:
    assert client.post(f"{gallery}/speakers/Ann/enrollments", content=wav(3), headers=AUDIO).status_code == 201
    refused = client.delete(f"{gallery}/speakers/Ann", params={"keep_recording": "true"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert "query.keep_recording: " in refused.json()["detail"]
    assert "keep_recordings" in refused.json()["detail"].split("takes", 1)[1]
    assert client.get(f"{gallery}/speakers/Ann").json()["recordings"] == 1


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("identify", {"treshold": "0.99"}),
        ("identify", {"lable": "staff"}),
        ("recordings", {"labels": "vip", "sesion": "7"}),
        ("search", {"topk": "3"}),
    ],
)
def test_every_misspelled_parameter_is_named(
    client: ServiceClient, gallery: str, path: str, wrong: dict[str, str]
) -> None:
    refused = client.post(f"{gallery}/{path}", content=wav(1), headers=AUDIO, params={**wrong, "channels": "mix"})
    assert refused.status_code == 422
    assert [one["location"] for one in refused.json()["errors"]] == [f"query.{name}" for name in wrong]


def test_no_route_of_the_api_passes_over_a_parameter(client: ServiceClient, module_settings: Settings) -> None:
    asked = 0
    for context in iter_route_contexts(create_app(module_settings).routes):
        if not isinstance(context.original_route, APIRoute) or not context.path.startswith("/v1/"):
            continue
        path = context.path.replace("{gallery}", "g").replace("{speaker}", "s").replace("{public_id}", "0" * 16)
        for name in ("recording_id", "enrollment_id", "job_id"):
            path = path.replace("{" + name + "}", "1")
        for method in context.methods:
            answer = client.request(method, path, params={"no_such": "1"})
            assert answer.status_code == 422, (method, path, answer.text)
            assert "query.no_such" in answer.json()["detail"], (method, path)
            asked += 1
    assert asked > 30


def test_several_voices_are_enrolled_as_nobody(client: ServiceClient, gallery: str) -> None:
    both = wav_of(stereo(speech_like(2, seed=1), speech_like(2, seed=2)))
    path = f"{gallery}/speakers/Ann/enrollments"
    refused = client.post(path, content=both, headers=AUDIO, params={"channels": "each"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert "channels=0" in refused.json()["detail"]
    assert client.post(path, content=both, headers=AUDIO, params={"channel": "left"}).status_code == 422
    assert client.get(gallery).json()["recordings"] == 0


@pytest.mark.parametrize("path", ["speakers/Ann/enrollments", "recordings"])
def test_the_same_content_is_the_same_or_a_conflict(client: ServiceClient, gallery: str, path: str) -> None:
    both = wav_of(stereo(speech_like(4, seed=1), speech_like(4, seed=2)))

    def send(**query: str) -> tuple[int, dict[str, object]]:
        answer = client.post(f"{gallery}/{path}", content=both, headers=AUDIO, params=query)
        return answer.status_code, answer.json()

    status, first = send(channels="left")
    assert status == 201
    number = first.get("enrollment_id", first.get("id"))
    for same in ({"channels": "left"}, {"channels": "0"}, {}):
        status, again = send(**same)
        assert (status, again.get("enrollment_id", again.get("id"))) == (200, number)
    for other in ("right", "mix"):
        status, refused = send(channels=other)
        assert (status, refused["code"]) == (409, "conflict")
        assert f"recording {number} already, kept with channel 0 alone" in str(refused["detail"])
        assert f"delete recording {number} first" in str(refused["detail"])
    assert client.delete(f"{gallery}/recordings/{number}").status_code == 200
    assert send(channels="right")[0] == 201


def test_an_enrollment_of_what_was_uploaded_before_is_made(client: ServiceClient, gallery: str) -> None:
    audio = wav(4)
    assert client.post(f"{gallery}/recordings", content=audio, headers=AUDIO).status_code == 201
    path = f"{gallery}/speakers/Ann/enrollments"
    assert [client.post(path, content=audio, headers=AUDIO).status_code for _ in range(2)] == [201, 200]
    # One track is the same under every policy that takes it.
    assert client.post(path, content=audio, headers=AUDIO, params={"channels": "left"}).status_code == 200


def test_consent_can_be_sent_with_an_upload_too(client: ServiceClient) -> None:
    name = uuid.uuid4().hex
    client.post("/v1/galleries", json={"name": name, "consent_required": True})
    path, audio = f"/v1/galleries/{name}/recordings", wav(4)
    assert client.post(path, content=audio, headers=AUDIO, params={"speaker": "Lou"}).status_code == 409
    said = {"speaker": "Lou", "consent_reference": "form 7"}
    assert client.post(path, content=audio, headers=AUDIO, params=said).status_code == 201
    assert client.get(f"/v1/galleries/{name}/speakers/Lou").json()["consent_reference"] == "form 7"
    nobody = client.post(path, content=wav(3), headers=AUDIO, params={"consent_reference": "form 7"})
    assert (nobody.status_code, nobody.json()["code"]) == (422, "invalid-request")
    client.delete(f"/v1/galleries/{name}")


def test_too_little_speech_enrolls_nobody(client: ServiceClient, gallery: str) -> None:
    short = wav(0.5)
    # The recording may be kept; a voice is not made of it, now or later.
    assert client.post(f"{gallery}/recordings", content=short, headers=AUDIO).status_code == 201
    for audio, heard_s in ((short, 0.5), (wav(0.7, seed=3), 0.7)):
        for path, query in (("speakers/Ann/enrollments", {}), ("recordings", {"speaker": "Ann"})):
            refused = client.post(f"{gallery}/{path}", content=audio, headers=AUDIO, params=query)
            body = refused.json()
            assert (refused.status_code, body["code"]) == (422, "not-enough-speech")
            assert (body["speech_s"], body["needed_s"]) == (pytest.approx(heard_s, abs=0.01), 1.0)
    assert client.get(gallery).json()["speakers"] == 0


def test_an_enrollment_tells_what_speaks_against_it(client: ServiceClient, gallery: str) -> None:
    def issues(audio: bytes) -> list[str]:
        answer = client.post(f"{gallery}/speakers/Ann/enrollments", content=audio, headers=AUDIO)
        assert answer.status_code == 201
        found: list[str] = answer.json()["quality"]["issues"]
        return found

    (little,) = issues(wav(1.5))
    assert little.startswith("1.5 s of speech is little: below 3 s")
    (clipped,) = issues(wav_of(np.clip(speech_like(4.0) * 40, -1, 1)))
    assert "clipped" in clipped
    assert issues(wav(5, seed=4)) == []


def test_a_cursor_belongs_to_its_list(client: ServiceClient, gallery: str) -> None:
    for number in range(3):
        audio = wav(2, seed=number)
        assert client.post(f"{gallery}/speakers/Ann/enrollments", content=audio, headers=AUDIO).status_code == 201
    cursor = client.get(f"{gallery}/speakers/Ann/enrollments", params={"limit": 1}).json()["next_cursor"]
    query = {"limit": 1, "cursor": cursor}
    assert client.get(f"{gallery}/speakers/Ann/enrollments", params=query).status_code == 200
    for other in (f"{gallery}/recordings", f"{gallery}/speakers", "/v1/jobs", "/v1/keys", "/v1/galleries"):
        refused = client.get(other, params=query)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")


def test_no_key_of_that_id_is_simply_not_there(client: ServiceClient) -> None:
    answer = client.delete("/v1/keys/nope")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_errors_speak_of_routes_and_not_of_commands(client: ServiceClient, gallery: str) -> None:
    audio = wav(3)
    assert client.post(f"{gallery}/speakers/Ann/enrollments", content=audio, headers=AUDIO).status_code == 201
    client.post(f"{gallery}/speakers", json={"name": "Bo"})
    assert client.post("/v1/galleries", json={"name": "asks first", "consent_required": True}).status_code in (201, 409)
    refused = [
        client.get("/v1/galleries/none-such"),
        client.get(f"{gallery}/speakers/Nobody"),
        client.get(f"{gallery}/recordings/999999"),
        client.delete("/v1/keys/nope"),
        client.post(f"{gallery}/verify", content=audio, headers=AUDIO, params={"speaker_id": "Nobody"}),
        client.post(f"{gallery}/verify", content=audio, headers=AUDIO, params={"speaker_id": "Bo"}),
        client.post(f"{gallery}/speakers/Bo/enrollments", content=audio, headers=AUDIO),
        client.post("/v1/galleries/asks%20first/speakers/Bo/enrollments", content=audio, headers=AUDIO),
        client.post(f"{gallery}/jobs", json={"source": "/tmp", "speaker_from": "bogus"}),
    ]
    for answer in refused:
        assert answer.status_code in (404, 409, 422), answer.request.url
        assert "voxdex " not in answer.json()["detail"], answer.json()["detail"]
        assert "--" not in answer.json()["detail"], answer.json()["detail"]
    assert "see GET /v1/galleries" in refused[0].json()["detail"]


def test_an_invalid_value_is_told_with_its_limit(client: ServiceClient, gallery: str) -> None:
    answer = client.post(f"{gallery}/identify", content=wav(1), headers=AUDIO, params={"top_k": 0})
    assert answer.json()["detail"] == "query.top_k: must be greater than or equal to 1 (given: '0')"
    long = client.post(f"{gallery}/speakers", json={"name": "x" * 201})
    assert "at most 200 characters" in long.json()["detail"]
    assert "201 characters" in long.json()["detail"]
    job = client.post("/v1/galleries", json={"name": "a\0b"})
    assert "Value error" not in job.text
    extra = client.post("/v1/galleries", json={"name": "x", "nmae": "y"})
    assert extra.json()["detail"] == "body.nmae: there is no such field"


def test_a_body_that_is_not_said_to_be_json_is_told_so(client: ServiceClient) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for headers in (form, {}):
        answer = client.post("/v1/galleries", content=b'{"name": "x"}', headers=headers)
        assert answer.status_code == 422
        assert "application/json" in answer.json()["detail"]


def test_a_compressed_body_is_refused_by_name(client: ServiceClient, gallery: str) -> None:
    packed = {**AUDIO, "content-encoding": "gzip"}
    for path, body in ((f"{gallery}/identify", wav(1)), (f"{gallery}/speakers", b'{"name": "x"}')):
        answer = client.post(path, content=body, headers=packed)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-format")
        assert "gzip" in answer.json()["detail"]


def test_a_scope_that_only_a_key_can_have_is_told_to_whoever_has_none(client: ServiceClient, gallery: str) -> None:
    answer = client.post(f"{gallery}/identify", content=wav(1), headers=AUDIO, params={"embedding": "true"})
    assert answer.status_code == 403
    assert "this key" not in answer.json()["detail"]
    assert "key create" in answer.json()["detail"]


def test_a_name_is_one_name_however_its_accents_are_written(
    client: ServiceClient, gallery: str, tmp_path: Path
) -> None:
    composed, decomposed = "J\u00fcrgen", "Ju\u0308rgen"
    made = client.post(f"{gallery}/speakers", json={"name": decomposed, "labels": ["e\u0301quipe"]})
    assert (made.status_code, made.json()["name"]) == (201, composed)
    assert client.post(f"{gallery}/speakers", json={"name": composed}).status_code == 409
    for name in (composed, decomposed):
        assert client.get(f"{gallery}/speakers/{quote(name)}").json()["labels"] == ["\u00e9quipe"]
        path = f"{gallery}/speakers/{quote(name)}/enrollments"
        assert client.post(path, content=wav(2), headers=AUDIO).status_code in (200, 201)
    assert len(client.get(f"{gallery}/speakers", params={"label": "e\u0301quipe"}).json()["items"]) == 1
    (tmp_path / decomposed).mkdir()
    (tmp_path / decomposed / "a.wav").write_bytes(wav(2, seed=3))
    job = client.post(f"{gallery}/jobs", json={"source": str(tmp_path), "speaker_from": "parent"}).json()
    eventually(lambda: client.get(f"/v1/jobs/{job['id']}").json()["finished_at"])
    (speaker,) = client.get(f"{gallery}/speakers").json()["items"]
    assert (speaker["name"], speaker["recordings"]) == (composed, 2)
    assert [one["speaker"] for one in client.get(f"/v1/jobs/{job['id']}/items").json()["items"]] == [composed]
