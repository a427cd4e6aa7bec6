"""Questions about voices over HTTP: who, whether, the same, where; and the answers that are none."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from indexer.embedding.registry import EncoderSpec
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import Settings, load_settings
from indexer.types import EMBEDDING_DIM, Vectors, Waveform
from search.calibration import default_calibrations
from tests.api_kit import (
    RegisteredSpectrum,
    ServiceClient,
    SpectrumServices,
    changed,
    serving,
    wav,
    wav_of,
)
from tests.formats.audio_samples import speech_like
from tests.waiting import eventually

WAV = {"content-type": "audio/wav"}


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(record_settings) as opened:
        assert opened.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        yield opened


def enroll(client: ServiceClient, speaker: str, seed: int) -> None:
    answer = client.post(
        f"/v1/galleries/calls/speakers/{quote(speaker, '')}/enrollments", content=wav(3, seed), headers=WAV
    )
    assert answer.status_code == 201, answer.text


def ask(client: ServiceClient, question: str, audio: bytes, **query: object) -> dict[str, object]:
    answer = client.post(f"/v1/galleries/calls/{question}", content=audio, headers=WAV, params=query)
    assert answer.status_code == 200, answer.text
    document: dict[str, object] = answer.json()
    return document


def both(left: np.ndarray, right: np.ndarray) -> bytes:
    return wav_of(np.stack([left, right], axis=1))


def test_the_enrolled_speaker_is_identified_before_all_others(client: ServiceClient) -> None:
    for seed, name in enumerate(["Ada", "Bea", "Cy"]):
        enroll(client, name, seed)
    found = ask(client, "identify", wav(3, 1), top_k=2, threshold=0.99)
    assert (found["decision"], found["speaker"], found["speech_s"]) == ("identified", "Bea", 3.0)
    point = found["operating_point"]
    assert (point["decides_by"], point["score_threshold"], point["source"]) == ("score", 0.99, "request")
    assert (point["gallery_size"], point["calibration_id"], point["llr_threshold"]) == (3, None, None)
    assert found["embedding"] is None
    candidates = found["candidates"]
    assert isinstance(candidates, list)
    assert [(one["rank"], one["enrollments"]) for one in candidates] == [(1, 1), (2, 1)]
    assert candidates[0]["speaker"] == "Bea"
    assert candidates[0]["score"] == pytest.approx(1, abs=1e-5)
    assert candidates[0]["score"] > candidates[1]["score"]
    assert candidates[0]["margin"] == pytest.approx(candidates[0]["score"] - candidates[1]["score"])
    assert candidates[1]["margin"] is not None  # above the third, who is not shown
    (best,) = candidates[0]["best_enrollments"]
    assert (best["start_s"], best["end_s"], best["score"]) == (0.0, 3.0, candidates[0]["score"])
    listened = client.get(
        f"/v1/galleries/calls/recordings/{best['recording_id']}/audio",
        params={"start_s": best["start_s"], "end_s": best["end_s"]},
    )
    assert (listened.status_code, listened.headers["content-type"]) == (200, "audio/wav")


def test_nobody_is_identified_below_the_threshold_or_in_an_empty_gallery(client: ServiceClient) -> None:
    empty = ask(client, "identify", wav(2, 1))
    assert (empty["decision"], empty["speaker"], empty["candidates"]) == ("unknown", None, [])
    enroll(client, "Ada", 0)
    client.patch("/v1/galleries/calls", json={"identification_threshold": 1.0})
    below = ask(client, "identify", wav(2, 7))
    assert (below["decision"], below["speaker"]) == ("unknown", None)
    assert (below["operating_point"]["score_threshold"], below["operating_point"]["source"]) == (1.0, "gallery")
    assert below["candidates"]


def test_too_little_speech_is_an_answer_that_says_how_much_there_was(client: ServiceClient) -> None:
    enroll(client, "Ada", 0)
    short, silent = wav(0.05), wav_of(np.zeros(32_000, np.float32))
    for question, more in (("identify", {}), ("search", {}), ("verify", {"speaker_id": "Ada"})):
        for audio, speech_s in ((short, 0.05), (silent, 0.0)):
            found = ask(client, question, audio, **more)
            assert (found["decision"], found["speech_s"], found["needed_s"]) == ("not_enough_speech", speech_s, 0.3)
            issues = found["issues"]
            assert isinstance(issues, list)
            assert "recording" in issues[0]
    piece = wav(0.35)
    found = ask(client, "identify", piece)
    assert (found["decision"], found["speech_s"], found["needed_s"]) == ("not_enough_speech", 0.35, 0.4)
    assert "0.4 s where speech is cut out" in str(found["issues"])
    assert ask(client, "identify", piece, allow_poor=True)["decision"] != "not_enough_speech"
    together = client.post("/v1/compare", files={"first": ("a.wav", short), "second": ("b.wav", wav(1))}).json()
    assert (together["decision"], together["score"]) == ("not_enough_speech", None)
    assert (together["first"]["speech_s"], together["second"]["speech_s"]) == (0.05, 1.0)


def test_each_channel_of_a_call_has_an_answer_of_its_own(client: ServiceClient) -> None:
    enroll(client, "Ada", 0)
    enroll(client, "Bea", 1)
    second = np.concatenate([speech_like(4, 16_000, 1), np.zeros(16_000, np.float32)])
    call = both(np.concatenate([speech_like(3, 16_000, 0), np.zeros(32_000, np.float32)]), second)
    assert ask(client, "identify", call, channels="0")["speaker"] == "Ada"
    assert ask(client, "identify", call, channels="right")["speaker"] == "Bea"
    for asked in ({"channels": "each"}, {"speakers": "channels"}):
        found = ask(client, "identify", call, threshold=0.9, **asked)
        voices = found["voices"]
        assert isinstance(voices, list)
        assert {voice["channel"]: voice["speaker"] for voice in voices} == {0: "Ada", 1: "Bea"}
        assert [found[name] for name in ("decision", "speaker", "candidates")] == [
            voices[0][name] for name in ("decision", "speaker", "candidates")
        ]
        assert found["voices_heard"] == 2
        assert "2 voices are heard" in str(found["warnings"])
        assert all(voice["turns"][0]["start_s"] == 0.0 for voice in voices)
    # One that is silent is no voice.
    half = both(speech_like(3, 16_000, 0), np.zeros(48_000, np.float32))
    assert ask(client, "identify", half, channels="each")["speaker"] == "Ada"
    assert client.post("/v1/galleries/calls/identify?channels=middle", content=call, headers=WAV).status_code == 422
    assert client.post("/v1/galleries/calls/identify?speakers=many", content=call, headers=WAV).status_code == 422
    claimed = ask(client, "verify", call, speaker_id="Bea", threshold=0.9, channels="each")
    assert "2 voices are heard" in str(claimed["warnings"])


def test_a_voice_that_is_heard_well_is_answered_beside_a_noisy_one_that_says_more(record_settings: Settings) -> None:
    strict = record_settings.model_copy(
        update={"speech": record_settings.speech.model_copy(update={"min_snr_db": 10.0})}
    )
    noise = 0.1 * np.random.default_rng(3).standard_normal(64_000).astype(np.float32)
    clear = np.concatenate([speech_like(3, 16_000, 0), np.zeros(16_000, np.float32)])
    with serving(strict) as client:
        assert client.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        enroll(client, "Ada", 0)
        found = ask(client, "identify", both(noise, clear), channels="each", threshold=0.9)
    voices = found["voices"]
    assert isinstance(voices, list)
    said = {voice["channel"]: (voice["decision"], voice["speaker"]) for voice in voices}
    assert said == {0: ("not_enough_speech", None), 1: ("identified", "Ada")}
    assert found["decision"] == "not_enough_speech"


def test_two_voices_of_a_recording_are_not_the_same_person_where_that_is_said(client: ServiceClient) -> None:
    for seed, name in enumerate(["Ada", "Bea"]):
        enroll(client, name, seed)
    same = both(speech_like(3, 16_000, 0), 0.5 * speech_like(3, 16_000, 0))

    def speakers(**query: object) -> list[str | None]:
        voices = ask(client, "identify", same, channels="each", threshold=0.5, **query)["voices"]
        assert isinstance(voices, list)
        return [voice["speaker"] for voice in voices]

    assert speakers() == ["Ada", "Ada"]
    assert sorted(map(str, speakers(exclusive=True))) in (["Ada", "Bea"], ["Ada", "None"])


def test_an_operating_point_is_asked_for_in_one_way_and_needs_a_calibration_unless_by_score(
    client: ServiceClient,
) -> None:
    enroll(client, "Ada", 0)

    def refused(question: str, **query: object) -> str:
        answer = client.post(f"/v1/galleries/calls/{question}", content=wav(3, 0), headers=WAV, params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), answer.text
        detail: str = answer.json()["detail"]
        return detail

    assert "several operating points at once" in refused("identify", threshold=0.5, fpir=0.01)
    assert "several operating points at once" in refused("verify", speaker_id="Ada", threshold=0.5, p_target=0.1)
    assert "no calibration" in refused("identify", fpir=0.01)
    assert "no calibration" in refused("verify", speaker_id="Ada", c_fa=10)
    assert "no calibration" in refused("search", llr_threshold=3)
    band = ask(client, "identify", wav(3, 0), threshold=1.0, possible_threshold=0.5)
    assert band["decision"] in {"possible", "identified"}
    assert client.patch("/v1/galleries/calls", json={"target_fpir": 0.02}).status_code == 200
    assert "no calibration" in refused("identify")
    both_ways = client.patch("/v1/galleries/calls", json={"identification_threshold": 0.4})
    assert (both_ways.status_code, both_ways.json()["code"]) == (422, "invalid-request")
    assert "decide by one of them" in both_ways.json()["detail"]
    unknown = client.patch("/v1/galleries/calls", json={"calibration_id": "0123456789"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    # What is refused changes nothing.
    other = next(found for found in default_calibrations() if len(found.encoder_ids) == 1)
    change = {"target_fpir": 0.07, "calibration_id": other.id}
    assert client.patch("/v1/galleries/calls", json=change).json()["code"] == "encoder-mismatch"
    assert client.get("/v1/galleries/calls").json()["target_fpir"] == 0.02


def test_only_speakers_with_every_label_are_considered(client: ServiceClient) -> None:
    for seed, name in enumerate(["Ada", "Bea"]):
        enroll(client, name, seed)
    for name, labels in (("Ada", ["staff"]), ("Bea", ["staff", "night"])):
        assert client.patch(f"/v1/galleries/calls/speakers/{name}", json={"labels": labels}).status_code == 200

    def named(**query: object) -> list[str]:
        candidates = ask(client, "identify", wav(3, 0), **query)["candidates"]
        assert isinstance(candidates, list)
        return [one["speaker"] for one in candidates]

    assert named(label="staff") == ["Ada", "Bea"]
    assert named(label=["staff", "night"]) == ["Bea"]
    assert named(label="nobody") == []


def test_a_vector_is_given_only_to_a_key_with_the_scope_for_it(client: ServiceClient) -> None:
    enroll(client, "Ada", 0)
    keys = {
        name: {"authorization": f"Bearer {client.runtime.keys.create(scopes=scopes).secret}", **WAV}
        for name, scopes in {"without": ["admin"], "with": ["identify", "embeddings"]}.items()
    }
    path = "/v1/galleries/calls/identify"
    assert client.post(path, content=wav(1), headers=keys["without"]).status_code == 200
    refused = client.post(f"{path}?embedding=true", content=wav(1), headers=keys["without"])
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    given = client.post(f"{path}?embedding=true", content=wav(1), headers=keys["with"]).json()["embedding"]
    assert len(given) == EMBEDDING_DIM
    assert np.linalg.norm(given) == pytest.approx(1, abs=1e-5)


def test_a_claim_is_accepted_or_rejected_and_an_unknown_name_is_not_found(client: ServiceClient) -> None:
    enroll(client, "Ann Lee/2", 0)
    right = ask(client, "verify", wav(3, 0), speaker_id="Ann Lee/2", threshold=0.999)
    assert (right["decision"], right["speaker"]) == ("accept", "Ann Lee/2")
    wrong = ask(client, "verify", wav(3, 5), speaker_id="Ann Lee/2", threshold=1)
    assert wrong["decision"] == "reject"
    assert isinstance(wrong["score"], float)
    for audio in (wav(1), wav(0.05)):
        path = "/v1/galleries/calls/verify?speaker_id=Nobody"
        missing = client.post(path, content=audio, headers=WAV)
        assert (missing.status_code, missing.json()["code"]) == (404, "not-found")
    assert client.post("/v1/galleries/calls/verify", content=wav(1), headers=WAV).status_code == 422


def test_two_recordings_are_compared_without_a_gallery(client: ServiceClient) -> None:
    same = client.post("/v1/compare", files={"first": ("a.wav", wav(2, 3)), "second": ("b.wav", wav(2, 3))}).json()
    assert (same["decision"], same["operating_point"]["source"]) == ("accept", "encoder")
    assert (same["llr"], same["operating_point"]["calibration_id"]) == (None, None)
    assert same["warnings"][0] == "uncalibrated: no calibration is known for encoder speechbrain-ecapa-voxceleb"
    assert same["warnings"][1] == "a.wav: short: 2.0 s of speech, and scores are steady from 3 s on"
    assert same["score"] == pytest.approx(1, abs=1e-5)
    one = client.post("/v1/compare", files={"first": ("a.wav", wav(2, 3))})
    assert (one.status_code, one.json()["code"]) == (422, "invalid-request")


def test_an_encoder_is_named_and_never_a_file_of_the_server(client: ServiceClient) -> None:
    files = {"first": ("a.wav", wav(1)), "second": ("b.wav", wav(1))}
    for name in ("no-such-encoder", "/etc/hostname", "weights.nemo"):
        answer = client.post("/v1/compare", files=files, params={"encoder": name})
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_a_voice_is_found_where_it_occurs(client: ServiceClient) -> None:
    long = np.concatenate([speech_like(12, 16_000, 4), speech_like(12, 16_000, 4)])
    kept = client.post("/v1/galleries/calls/recordings?filename=monday.wav", content=wav_of(long), headers=WAV)
    assert kept.status_code == 201, kept.text
    enroll(client, "Ada", 4)
    found = ask(client, "search", wav(3, 4), threshold=0.9, limit=1)
    assert (found["decision"], found["found"]) == ("found", 2)
    recordings = found["recordings"]
    assert isinstance(recordings, list)
    assert len(recordings) == 1
    everything = ask(client, "search", wav(3, 4), threshold=0.9)["recordings"]
    assert isinstance(everything, list)
    monday = next(one for one in everything if one["recording_id"] == kept.json()["id"])
    assert [(one["start_s"], one["end_s"], one["speakers"]) for one in monday["stretches"]] == [(0.0, 24.0, [])]
    assert {speaker for one in everything for speaker in one["speakers"]} == {"Ada"}
    nowhere = ask(client, "search", wav(3, 9), threshold=1)
    assert (nowhere["decision"], nowhere["recordings"]) == ("not_found", [])


def test_what_is_no_audio_is_refused_by_name(client: ServiceClient) -> None:
    for question in ("identify", "search", "verify?speaker_id=Ada"):
        path = f"/v1/galleries/calls/{question}"
        refused = client.post(path, content=b"%PDF-1.7 and so on", headers=WAV)
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported-format")
        torn = client.post(path, content=b"RIFF\x00\x00\x00\x00WAVE", headers=WAV)
        assert (torn.status_code, torn.json()["code"]) == (422, "corrupt-audio")
        assert client.post(path.replace("calls", "none"), content=wav(1), headers=WAV).status_code == 404


def test_a_probe_over_its_limits_is_refused_with_the_setting_that_allows_more(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, database={}, api={"max_probe_s": 2, "max_probe_bytes": 100_000})
    with serving(settings) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        path = "/v1/galleries/calls/identify"
        long = client.post(path, content=wav(2.5), headers=WAV)
        assert (long.status_code, long.json()["code"]) == (413, "payload-too-large")
        assert "VOXDEX_API__MAX_PROBE_S" in long.json()["detail"]
        assert client.post(path, content=wav(4), headers=WAV).status_code == 413
        assert client.post(path, content=wav(1.5), headers=WAV).status_code == 200


class HeldEncoder(RegisteredSpectrum):
    """Embeds nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held = threading.Event()
        self.let_go = threading.Event()

    def embed(self, waveforms: list[Waveform]) -> Vectors:  # type: ignore[override]
        self.held.set()
        assert self.let_go.wait(120)
        return super().embed(waveforms)


class HeldEncodersInUse(EncodersInUse):
    """Gives the one encoder that is held."""

    encoder: HeldEncoder

    def _load(self, name: str, *_: str | None) -> tuple[HeldEncoder, EncoderSpec]:  # type: ignore[override]
        return self.encoder, self._registry.get(name)


def test_probes_that_wait_starve_no_other_request_and_too_many_are_sent_away(tmp_path: Path) -> None:
    settings = changed(load_settings(home=tmp_path, database={}), "probes", queue=60, batch=4, timeout_s=120.0)
    services = SpectrumServices(settings)
    encoders = HeldEncodersInUse(services.registry, settings.embedding)
    encoders.encoder = HeldEncoder()
    services.__dict__["encoders"] = encoders
    with serving(settings, services) as client, ThreadPoolExecutor(80) as pool:
        try:
            client.post("/v1/galleries", json={"name": "calls"})
            assert encoders.encoder.held.wait(60)
            path = "/v1/galleries/calls/identify"
            asked = [pool.submit(client.post, path, content=wav(1), headers=WAV) for _ in range(80)]
            eventually(lambda: 'voxdex_queue_depth{queue="probes"} 60.0' in client.get("/metrics").text)
            for _ in range(5):
                assert client.get("/healthz", timeout=30).status_code == 200
                assert client.get("/v1/galleries/calls", timeout=30).status_code == 200
        finally:
            encoders.encoder.let_go.set()
        answers = [one.result() for one in asked]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(503) >= 80 - 64
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "unavailable"
            assert int(answer.headers["retry-after"]) >= 1
