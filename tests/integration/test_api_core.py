"""The service's core over HTTP, on both databases: galleries, speakers, enrollments, recordings, and their erasure."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from indexer.settings import Settings, load_settings
from tests.api_kit import ServiceClient, changed, serving, wav, wav_of
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
    yield from new_gallery(client)


@pytest.fixture
def strict_gallery(client: ServiceClient) -> Iterator[str]:
    """One that requires consent."""
    yield from new_gallery(client, consent_required=True)


def new_gallery(client: ServiceClient, **rules: object) -> Iterator[str]:
    name = uuid.uuid4().hex
    assert client.post("/v1/galleries", json={"name": name, **rules}).status_code == 201
    yield f"/v1/galleries/{name}"
    client.delete(f"/v1/galleries/{name}")


def enroll(client: ServiceClient, gallery: str, speaker: str, audio: bytes, **query: str) -> int:
    answer = client.post(
        f"{gallery}/speakers/{quote(speaker, '')}/enrollments", files={"file": ("a.wav", audio)}, params=query
    )
    assert answer.status_code == 201, answer.text
    return int(answer.json()["enrollment_id"])


def media_files(client: ServiceClient) -> list[Path]:
    return [path for path in client.runtime.media.root.rglob("*") if path.is_file()]


def identified(client: ServiceClient, gallery: str, audio: bytes) -> str | None:
    answer = client.post(f"{gallery}/identify", content=audio, headers=AUDIO)
    assert answer.status_code == 200, answer.text
    speaker: str | None = answer.json()["speaker"]
    return speaker


def test_a_gallery_is_made_shown_changed_and_erased(client: ServiceClient) -> None:
    made = client.post("/v1/galleries", json={"name": "a/b ü%2F", "consent_required": True})
    assert made.status_code == 201
    path = "/v1/galleries/" + quote("a/b ü%2F", "")
    assert made.headers["location"] == path
    assert client.get(path).json() == made.json()
    changed_ = client.patch(path, json={"identification_threshold": 0.61, "retention_days": 30})
    assert changed_.json() == {**made.json(), "identification_threshold": 0.61, "retention_days": 30}
    back = client.patch(path, json={"retention_days": None})
    assert (back.json()["retention_days"], back.json()["identification_threshold"]) == (None, 0.61)
    assert client.delete(path).json() == {"speakers": 0, "recordings": 0, "vectors": 0}
    assert client.get(path).status_code == 404


def test_a_name_that_is_taken_and_an_encoder_that_is_a_path_are_refused(client: ServiceClient, gallery: str) -> None:
    taken = client.post("/v1/galleries", json={"name": gallery.rsplit("/", 1)[-1]})
    assert (taken.status_code, taken.json()["code"]) == (409, "already-exists")
    path = client.post("/v1/galleries", json={"name": "x", "encoder": "/etc/passwd"})
    assert (path.status_code, path.json()["code"]) == (404, "not-found")


def test_pages_join_to_the_whole_list(client: ServiceClient, gallery: str) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        client.post(f"{gallery}/speakers", json={"name": name})
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"{gallery}/speakers", params=query).json()
        found += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert (found, cursor) == (names, None)


@pytest.mark.parametrize("cursor", ["x", "YWZ0ZXI6LTE=", "YWZ0ZXI6OTk5OTk5OTk5OTk5OTk5OTk5OQ==", "é"])
def test_a_cursor_that_was_not_given_out_is_refused(client: ServiceClient, cursor: str) -> None:
    answer = client.get("/v1/galleries", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_what_was_enrolled_is_found_by_the_next_request(client: ServiceClient, gallery: str) -> None:
    one, other = wav(3, seed=1), wav(3, seed=2)
    assert identified(client, gallery, one) is None
    enroll(client, gallery, "Ann", one)
    assert identified(client, gallery, one) == "Ann"
    enroll(client, gallery, "Bo", other)
    assert identified(client, gallery, other) == "Bo"
    client.delete(f"{gallery}/speakers/Ann")
    assert identified(client, gallery, one) != "Ann"


def test_an_enrollment_tells_what_the_recording_is_like(client: ServiceClient, gallery: str) -> None:
    loud = np.clip(speech_like(2.0, 8000) * 40, -1, 1)
    answer = client.post(f"{gallery}/speakers/Ann/enrollments", content=wav_of(loud, 8000), headers=AUDIO)
    quality = answer.json()["quality"]
    assert (quality["sample_rate_hz"], quality["channels"]) == (8000, 1)
    assert quality["duration_s"] == pytest.approx(2.0)
    assert quality["level_dbfs"] == pytest.approx(20 * np.log10(np.sqrt(np.mean(loud**2))), abs=0.1)
    assert quality["clipped_share"] == pytest.approx(np.mean(np.abs(loud) >= 32_766 / 32_768), abs=0.001)
    assert quality["clipped_share"] > 0.01


@pytest.mark.parametrize(
    ("audio", "status", "code"),
    [
        (b"", 422, "corrupt-audio"),
        (b"just some text, and no audio at all", 415, "unsupported-format"),
        (wav_of(np.zeros(32_000)), 422, "not-enough-speech"),
        (wav(0.05), 422, "audio-too-short"),
        (wav(2)[:30], 422, "corrupt-audio"),
    ],
    ids=["empty", "text", "silent", "short", "header"],
)
def test_unusable_audio_is_refused_and_leaves_nothing(
    client: ServiceClient, gallery: str, audio: bytes, status: int, code: str
) -> None:
    for path in ("speakers/Ann/enrollments", "recordings"):
        answer = client.post(f"{gallery}/{path}", content=audio, headers=AUDIO)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    shown = client.get(gallery).json()
    assert (shown["speakers"], shown["recordings"], shown["embeddings"]) == (0, 0, 0)
    assert client.get("/v1/jobs", params={"gallery": gallery.rsplit("/", 1)[-1]}).json()["items"] == []
    assert media_files(client) == []


def test_two_voices_kept_apart_are_not_one_speaker(client: ServiceClient, gallery: str) -> None:
    both = wav_of(stereo(speech_like(2, seed=1), speech_like(2, seed=2)))
    path = f"{gallery}/speakers/Ann/enrollments"
    refused = client.post(path, content=both, headers=AUDIO, params={"channels": "each"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert client.post(f"{gallery}/recordings", content=both, headers=AUDIO, params={"channels": "each"}).is_success
    known = client.post(path, content=both, headers=AUDIO, params={"channels": "left"})
    assert (known.status_code, known.json()["code"]) == (409, "conflict")


def test_speakers_are_filtered_by_all_their_labels(client: ServiceClient, gallery: str) -> None:
    for name, labels in (("Ann", ["staff", "berlin"]), ("Bo", ["staff"]), ("Cy", [])):
        assert client.post(f"{gallery}/speakers", json={"name": name, "labels": labels}).status_code == 201

    def named(*labels: str) -> list[str]:
        found = client.get(f"{gallery}/speakers", params={"label": list(labels)}).json()
        return [item["name"] for item in found["items"]]

    assert named() == ["Ann", "Bo", "Cy"]
    assert named("staff") == ["Ann", "Bo"]
    assert named("staff", "berlin") == ["Ann"]
    client.patch(f"{gallery}/speakers/Bo", json={"labels": ["berlin"]})
    assert (named("staff"), named("berlin")) == (["Ann"], ["Ann", "Bo"])


def test_a_new_name_is_known_at_once_and_a_taken_one_refused(client: ServiceClient, gallery: str) -> None:
    audio = wav(3)
    enroll(client, gallery, "Ann", audio)
    client.post(f"{gallery}/speakers", json={"name": "Bo"})
    taken = client.patch(f"{gallery}/speakers/Ann", json={"name": "Bo"})
    assert (taken.status_code, taken.json()["code"]) == (409, "already-exists")
    assert client.patch(f"{gallery}/speakers/Ann", json={"name": "Anna / Ann"}).json()["name"] == "Anna / Ann"
    assert client.get(f"{gallery}/speakers/Anna%20%2F%20Ann").status_code == 200
    assert identified(client, gallery, audio) == "Anna / Ann"


def test_merging_moves_enrollments_labels_and_consent(client: ServiceClient, gallery: str) -> None:
    enroll(client, gallery, "Ann", wav(2, seed=1), consent_reference="form 1")
    enroll(client, gallery, "Anna", wav(2, seed=2))
    client.patch(f"{gallery}/speakers/Ann", json={"labels": ["a"]})
    client.patch(f"{gallery}/speakers/Anna", json={"labels": ["b"]})
    merged = client.post(f"{gallery}/speakers/Ann/merge", json={"into": "Anna"}).json()
    assert (merged["name"], merged["recordings"], merged["labels"]) == ("Anna", 2, ["a", "b"])
    assert merged["consent_reference"] == "form 1"
    assert client.get(f"{gallery}/speakers/Ann").status_code == 404
    itself = client.post(f"{gallery}/speakers/Anna/merge", json={"into": "Anna"})
    assert (itself.status_code, itself.json()["code"]) == (422, "invalid-request")


def test_a_gallery_that_requires_consent_enrolls_nobody_without(client: ServiceClient, strict_gallery: str) -> None:
    gallery = strict_gallery
    audio = wav(2)
    for path, query in (("speakers/Ann/enrollments", {}), ("recordings", {"speaker": "Ann"})):
        refused = client.post(f"{gallery}/{path}", content=audio, headers=AUDIO, params=query)
        assert (refused.status_code, refused.json()["code"]) == (409, "consent-required")
    assert client.get(gallery).json()["speakers"] == 0
    assert media_files(client) == []
    enroll(client, gallery, "Ann", audio, consent_reference="form 2026-1")
    assert client.get(f"{gallery}/speakers/Ann").json()["consent_reference"] == "form 2026-1"
    # What is on record counts for the next recording, and cannot be taken back while a voice is enrolled.
    enroll(client, gallery, "Ann", wav(2, seed=5))
    kept = client.patch(f"{gallery}/speakers/Ann", json={"consent_reference": None})
    assert (kept.status_code, kept.json()["code"]) == (409, "consent-required")
    client.post(f"{gallery}/speakers", json={"name": "Bo"})
    enroll(client, gallery, "Bo", wav(2, seed=6), consent_reference="form 2")


def test_a_job_may_not_enroll_without_consent_either(
    client: ServiceClient, strict_gallery: str, tmp_path: Path
) -> None:
    (tmp_path / "in" / "Ann").mkdir(parents=True)
    (tmp_path / "in" / "Ann" / "a.wav").write_bytes(wav(2))
    source = {"source": str(tmp_path / "in"), "speaker_from": "parent:1"}
    job = client.post(f"{strict_gallery}/jobs", json=source).json()
    eventually(lambda: client.get(f"/v1/jobs/{job['id']}").json()["finished_at"])
    state = client.get(f"/v1/jobs/{job['id']}").json()["state"]
    (item,) = client.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert (state, item["error_code"]) == ("succeeded_with_errors", "consent-required")
    assert client.get(strict_gallery).json()["speakers"] == 0


def test_an_enrollment_is_taken_back_with_or_without_its_recording(client: ServiceClient, gallery: str) -> None:
    first, second = enroll(client, gallery, "Ann", wav(2, seed=1)), enroll(client, gallery, "Ann", wav(2, seed=2))
    path = f"{gallery}/speakers/Ann/enrollments"
    listed = client.get(path).json()["items"]
    assert [(item["enrollment_id"], item["uri"]) for item in listed] == [
        (first, "upload:a.wav"),
        (second, "upload:a.wav"),
    ]
    assert identified(client, gallery, wav(2, seed=1)) == "Ann"
    assert client.delete(f"{path}/{first}").json() == {"speakers": 0, "recordings": 0, "vectors": 0}
    assert client.get(f"{gallery}/recordings/{first}").json()["speakers"] == []
    assert client.delete(f"{path}/{first}").status_code == 404
    assert client.delete(f"{path}/{second}", params={"erase": True}).json()["recordings"] == 1
    assert client.get(f"{gallery}/recordings/{second}").status_code == 404
    assert len(media_files(client)) == 1


def test_one_content_is_one_recording(client: ServiceClient, gallery: str) -> None:
    audio = wav(3)
    query = {"session": "monday", "recorded_at": "2026-01-26T09:00:00+01:00", "label": ["a", "b"]}
    first = client.post(f"{gallery}/recordings", files={"file": ("x/y.wav", audio)}, params=query)
    assert first.status_code == 201
    body = first.json()
    assert (body["uri"], body["session"], body["labels"]) == ("upload:y.wav", "monday", ["a", "b"])
    assert body["recorded_at"] == "2026-01-26T08:00:00Z"
    again = client.post(f"{gallery}/recordings", content=audio, headers=AUDIO)
    assert (again.status_code, again.json()["id"]) == (200, body["id"])
    assert len(media_files(client)) == 1
    detail = client.get(first.headers["location"]).json()
    assert [(part["start_s"], part["end_s"]) for part in detail["utterances"]] == [(0.0, 3.0)]


@pytest.mark.parametrize("moment", ["2026-01-26T08:00:00", "2026-01-26T08:00:00Z", "2026-01-26T13:30:00+05:30"])
def test_a_moment_without_a_time_zone_is_utc_as_in_a_manifest(client: ServiceClient, gallery: str, moment: str) -> None:
    made = client.post(f"{gallery}/recordings", content=wav(3), headers=AUDIO, params={"recorded_at": moment})
    assert (made.status_code, made.json().get("recorded_at")) == (201, "2026-01-26T08:00:00Z")


def test_a_recording_enrolled_as_somebody_else_is_a_conflict(client: ServiceClient, gallery: str) -> None:
    audio = wav(3)
    number = enroll(client, gallery, "Ann", audio)
    other = client.post(f"{gallery}/speakers/Bo/enrollments", content=audio, headers=AUDIO)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    # What to do where both names are one person, and where the name is wrong.
    detail = other.json()["detail"]
    assert "merge Bo into it where both are enrolled: POST /v1/galleries/{gallery}/speakers/{speaker}/merge" in detail
    assert f"erase it first: DELETE /v1/galleries/{{gallery}}/recordings/{number}" in detail
    assert client.get(f"{gallery}/speakers/Bo").status_code == 404


def test_a_stretch_is_what_was_recorded_there(client: ServiceClient, gallery: str) -> None:
    samples = speech_like(3.0)
    number = client.post(f"{gallery}/recordings", content=wav_of(samples), headers=AUDIO).json()["id"]
    path = f"{gallery}/recordings/{number}/audio"
    heard = client.get(path, params={"start_s": 0.5, "end_s": 1.25})
    assert (heard.status_code, heard.headers["content-type"]) == (200, "audio/wav")
    assert heard.content[:4] == b"RIFF"
    stretch = np.frombuffer(heard.content[44:], dtype="<i2") / 32_768
    np.testing.assert_allclose(stretch, samples[8000:20_000], atol=3e-4)
    assert len(client.get(path).content) == 44 + 2 * 48_000
    for query in ({"start_s": 3.5}, {"start_s": 1, "end_s": 1}, {"start_s": 0, "end_s": 601}, {"start_s": "nan"}):
        assert client.get(path, params=query).status_code == 422


def test_audio_that_is_not_there_any_more_is_gone(client: ServiceClient, gallery: str, tmp_path: Path) -> None:
    number = client.post(f"{gallery}/recordings", content=wav(2), headers=AUDIO).json()["id"]
    (file,) = media_files(client)
    path = f"{gallery}/recordings/{number}/audio"
    file.write_bytes(wav(2, seed=9))  # Another voice at the same place must not be heard as this one.
    swapped = client.get(path)
    assert (swapped.status_code, swapped.json()["code"]) == (410, "audio-gone")
    file.unlink()
    assert client.get(path).status_code == 410
    assert client.get(f"{gallery}/recordings/99/audio").status_code == 404


def test_erasing_takes_uploaded_files_along(client: ServiceClient, gallery: str) -> None:
    recording = client.post(f"{gallery}/recordings", content=wav(2, seed=1), headers=AUDIO).json()["id"]
    enroll(client, gallery, "Ann", wav(2, seed=2))
    enroll(client, gallery, "Bo", wav(2, seed=3))
    assert len(media_files(client)) == 3
    assert client.delete(f"{gallery}/recordings/{recording}").json() == {"speakers": 0, "recordings": 1, "vectors": 1}
    assert client.delete(f"{gallery}/speakers/Ann").json() == {"speakers": 1, "recordings": 1, "vectors": 1}
    assert len(media_files(client)) == 1
    assert client.delete(gallery).json()["recordings"] == 1
    assert media_files(client) == []
    assert client.get(gallery).status_code == 404


def test_a_limit_in_bytes_is_enforced_whether_it_is_announced_or_not(tmp_path: Path) -> None:
    with serving(changed(load_settings(home=tmp_path), "api", max_upload_bytes=100_000)) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        audio = wav(4)  # 128 kB

        def piecewise() -> Iterator[bytes]:
            for start in range(0, len(audio), 1000):
                yield audio[start : start + 1000]

        for request in (
            {"content": audio, "headers": AUDIO},
            {"content": piecewise(), "headers": AUDIO},
            {"files": {"file": ("a.wav", audio)}},
        ):
            answer = client.post("/v1/galleries/calls/recordings", **request)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")
        assert media_files(client) == []


@pytest.mark.parametrize("name", ["a\0b", " a", "a\nb", "", "x" * 201, "\u202e", ".", ".."])
def test_a_name_that_nobody_could_read_is_refused(client: ServiceClient, gallery: str, name: str) -> None:
    client.post(f"{gallery}/speakers", json={"name": "Ann"})
    for answer in (
        client.post("/v1/galleries", json={"name": name}),
        client.post(f"{gallery}/speakers", json={"name": name}),
        client.patch(f"{gallery}/speakers/Ann", json={"name": name}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


@pytest.mark.parametrize("segment", ["%ff", "%00", "%ed%a0%80", "a%2fb", "..%2f..%2fetc"])
def test_odd_path_segments_name_nothing(client: ServiceClient, segment: str) -> None:
    answer = client.get(f"/v1/galleries/{segment}")
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_bodies_that_are_no_upload_are_refused_with_the_reason(client: ServiceClient, gallery: str) -> None:
    path = f"{gallery}/recordings"
    boundary = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + wav(1)
    cases = [
        ({"json": {}}, 415, "application/json"),
        ({"content": b"abc"}, 415, "(none)"),
        ({"files": {"other": b"x"}}, 422, "other"),
        ({"files": [("file", b"x"), ("file", b"y")]}, 422, "twice"),
        ({"content": b"", "headers": boundary}, 422, "ends before"),
        ({"content": b"--x--\r\n", "headers": boundary}, 422, "lacks the part file"),
        ({"content": part, "headers": boundary}, 422, "ends before"),
        ({"content": b"garbage", "headers": boundary}, 422, "malformed"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 422, "boundary"),
    ]
    for request, status, said in cases:
        answer = client.post(path, **request)  # type: ignore[arg-type]
        assert answer.status_code == status, (request, answer.text)
        assert said in answer.json()["detail"]
    assert media_files(client) == []
