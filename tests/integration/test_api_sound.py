"""What the page shows of recordings: how they look, parts to play, who speaks in them, what erasing would take."""

import io
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from indexer.db.speakers import Speakers
from indexer.settings import Settings
from tests.api_kit import ServiceClient, serving, wav, wav_of

AUDIO = {"content-type": "audio/wav"}


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(module_settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def gallery(client: ServiceClient) -> str:
    """Path of a gallery with two people, of whom one is heard in what the other is enrolled with too."""
    name = uuid.uuid4().hex
    client.post("/v1/galleries", json={"name": name})
    path = f"/v1/galleries/{name}"
    for speaker, seed in (("Ann_Lee", 1), ("Bo", 2), ("ANNE", 3)):
        kept(client, f"{path}/speakers/{speaker}/enrollments", seed)
    return path


def kept(client: ServiceClient, path: str, seed: int, **query: str) -> int:
    made = client.post(path, content=wav(4, seed=seed), headers=AUDIO, params={"speech": "off", **query})
    assert made.status_code == 201, made.text
    document = made.json()
    return int(document.get("recording_id") or document["id"])


def rising(seconds: float = 4.0) -> bytes:
    """A tone that grows louder from silence to full scale."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    return wav_of((np.sin(2 * np.pi * 440 * time) * time / seconds).astype(np.float32))


def test_peaks_follow_how_loud_a_recording_is(client: ServiceClient) -> None:
    found = client.post("/v1/inspect?points=8", content=rising(), headers=AUDIO).json()
    assert (found["start_s"], found["end_s"], found["sample_rate_hz"], found["container"]) == (0.0, 4.0, 16_000, "wav")
    np.testing.assert_allclose(found["peaks"], np.arange(1, 9) / 8, atol=0.01)
    short = client.post("/v1/inspect?points=1000", content=rising(0.1), headers=AUDIO).json()
    assert len(short["peaks"]) == 10  # One for every 10 ms there is.


def test_a_format_of_few_players_comes_back_as_wav(client: ServiceClient) -> None:
    written = io.BytesIO()
    tone = np.sin(np.arange(8000) / 4)[:, None] * (0.5, 0.25)
    soundfile.write(written, tone, 8000, "ULAW", format="AU")
    answer = client.post("/v1/decode?channels=right", content=written.getvalue(), headers=AUDIO)
    assert answer.headers["content-type"] == "audio/wav"
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert (samples.shape, rate) == ((16_000,), 16_000)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.25 / np.sqrt(2), abs=0.01)
    several = client.post("/v1/decode?channels=each", content=written.getvalue(), headers=AUDIO)
    assert (several.status_code, several.json()["code"]) == (422, "invalid-request")


def test_a_stored_recording_looks_as_it_did_when_it_was_sent(client: ServiceClient, gallery: str) -> None:
    made = client.post(f"{gallery}/recordings?speech=off", content=rising(), headers=AUDIO).json()
    path = f"{gallery}/recordings/{made['id']}/waveform"
    part = client.get(path, params={"points": 4, "start_s": 2, "end_s": 4}).json()
    assert (part["start_s"], part["end_s"]) == (2.0, 4.0)
    np.testing.assert_allclose(part["peaks"], [0.625, 0.75, 0.875, 1.0], atol=0.01)
    late = client.get(path, params={"start_s": 9})
    assert (late.status_code, late.json()["code"]) == (422, "invalid-request")


def test_a_player_gets_the_bytes_that_it_asks_for(client: ServiceClient, gallery: str) -> None:
    number = kept(client, f"{gallery}/recordings", 11)
    path = f"{gallery}/recordings/{number}/audio?start_s=1&end_s=2"
    whole = client.get(path)
    assert (whole.status_code, whole.headers["accept-ranges"], len(whole.content)) == (200, "bytes", 32_044)
    etag = whole.headers["etag"]
    for asked, first, last in (
        ("0-9", 0, 9),
        ("32000-", 32_000, 32_043),
        ("-4", 32_040, 32_043),
        ("40-99999", 40, 32_043),
    ):
        answer = client.get(path, headers={"Range": f"bytes={asked}", "If-Range": etag})
        assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes {first}-{last}/32044")
        assert answer.content == whole.content[first : last + 1]
    beyond = client.get(path, headers={"Range": "bytes=32044-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */32044")
    for ignored in ({"Range": "lines=1-2"}, {"Range": "bytes=0-1", "If-Range": '"another"'}, {"Range": "bytes=5-1,x"}):
        assert client.get(path, headers=ignored).content == whole.content


def test_who_speaks_in_a_recording_is_who_is_enrolled_else_who_it_sounds_like(
    client: ServiceClient, gallery: str
) -> None:
    enrolled = client.get(f"{gallery}/speakers/Bo/enrollments").json()["items"][0]["recording_id"]
    [voice] = client.get(f"{gallery}/recordings/{enrolled}/voices").json()["voices"]
    assert (voice["decision"], voice["speaker"], voice["speakers"]) == ("enrolled", "Bo", ["Bo"])
    assert voice["candidates"] == []
    heard = kept(client, f"{gallery}/recordings", 12)
    found = client.get(f"{gallery}/recordings/{heard}/voices?top_k=2").json()
    [voice] = found["voices"]
    assert (found["duration_s"], voice["turns"]) == (4.0, [{"start_s": 0.0, "end_s": 4.0}])
    asked = client.post(f"{gallery}/identify?top_k=2&allow_poor=true", content=wav(4, seed=12), headers=AUDIO).json()
    assert [one["speaker"] for one in voice["candidates"]] == [one["speaker"] for one in asked["candidates"]]
    assert voice["decision"] == asked["decision"]


def test_lists_are_cut_down_to_what_has_a_part_in_its_name(client: ServiceClient, gallery: str) -> None:
    def names(part: str) -> list[str]:
        return [item["name"] for item in client.get(f"{gallery}/speakers", params={"q": part}).json()["items"]]

    assert names("ann") == ["Ann_Lee", "ANNE"]
    assert names("n_l") == ["Ann_Lee"]  # No pattern: an underline is an underline.
    assert names("%") == []
    client.post(f"{gallery}/recordings?speech=off&filename=Monday.wav", content=wav(4, seed=13), headers=AUDIO)
    listed = client.get(f"{gallery}/recordings", params={"q": "monday"}).json()["items"]
    assert [item["uri"] for item in listed] == ["upload:Monday.wav"]


def test_what_an_erasure_would_take_is_what_it_takes(client: ServiceClient) -> None:
    name = uuid.uuid4().hex
    client.post("/v1/galleries", json={"name": name})
    path = f"/v1/galleries/{name}"
    kept(client, f"{path}/speakers/Ann/enrollments", 21)
    shared = kept(client, f"{path}/speakers/Ann/enrollments", 22)
    with client.runtime.database.session_scope() as session:
        speakers, catalog = Speakers(session), client.runtime.services.catalog
        bo = speakers.get_or_create(client.runtime.gallery_id(name), ["Bo"])["Bo"]
        _, utterances = catalog.recording(name, shared)
        speakers.enroll(bo, [one.utterance_id for one in utterances])
    foretold = client.get(f"{path}/speakers/Ann/erasure").json()
    assert foretold == {"enrollments": 2, "recordings": 1, "vectors": 1, "kept_recordings": 1}
    kept_all = client.get(f"{path}/speakers/Ann/erasure?keep_recordings=true").json()
    assert kept_all == {"enrollments": 2, "recordings": 0, "vectors": 0, "kept_recordings": 2}
    assert client.get(f"{path}/speakers/Ann").json()["enrolled_utterances"] == 2
    erased = client.delete(f"{path}/speakers/Ann").json()
    assert (erased["recordings"], erased["vectors"]) == (foretold["recordings"], foretold["vectors"])
    assert client.get(f"{path}/speakers/Ann/erasure").status_code == 404
