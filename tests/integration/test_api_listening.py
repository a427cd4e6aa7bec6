"""Uploads over HTTP: voices, quality and warnings of what was taken in, and how to have it listened to otherwise."""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, Waveform
from tests.api_kit import ServiceClient, SpectrumServices, serving
from tests.listening_kit import EndlessDoubts, plain_listening, silence, voice


class PlainServices(SpectrumServices):
    """Services that tell bands of noise apart."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.__dict__["listening"] = plain_listening()


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(record_settings, PlainServices(record_settings)) as opened:
        assert opened.post("/v1/galleries", json={"name": "g"}).status_code == 201
        yield opened


def flac(*parts: Waveform) -> dict[str, bytes]:
    written = io.BytesIO()
    soundfile.write(written, np.concatenate(parts), SAMPLE_RATE_HZ, format="FLAC")
    return {"file": written.getvalue()}


CONVERSATION = (voice(0, 6), voice(1, 3), silence(3), voice(0, 3))
ENROLL = "/v1/galleries/g/speakers/Ann/enrollments"


def test_an_enrollment_of_several_voices_is_answered_with_a_warning(client: ServiceClient) -> None:
    made = client.post(ENROLL, files=flac(*CONVERSATION))
    assert made.status_code == 201, made.text
    assert made.json()["utterances"] == 2
    assert any("2 voices were heard (75 %, 25 % of 1" in warning for warning in made.json()["warnings"])
    recording = client.get(f"/v1/galleries/g/recordings/{made.json()['recording_id']}").json()
    assert recording["voices"] == 2
    assert [(one["voice"], one["speakers"]) for one in recording["utterances"]] == [(0, ["Ann"]), (1, []), (0, ["Ann"])]
    assert all(one["quality"]["net_speech_s"] > 2 for one in recording["utterances"])


def test_what_may_be_a_second_voice_is_answered_with_its_place(record_settings: Settings) -> None:
    services = PlainServices(record_settings)
    services.__dict__["listening"] = replace(plain_listening(), second_voice=EndlessDoubts())
    with serving(record_settings, services) as client:
        assert client.post("/v1/galleries", json={"name": "g"}).status_code == 201
        alone = flac(voice(0, 6))
        made = client.post(ENROLL, files=alone).json()
        assert made["possible_second_voice"] == {"start_s": 5.5, "end_s": 6.0, "cosine": 0.25}
        assert any("may hold a second voice: listen to 5.5 to 6.0 s" in warning for warning in made["warnings"])
        assert client.post(ENROLL, files=alone).json()["possible_second_voice"] is None, "it was not heard again"
        sure = client.post(ENROLL, files=flac(*CONVERSATION)).json()
        assert sure["possible_second_voice"] is None
        recordings = "/v1/galleries/g/recordings"
        named = client.post(recordings, files=flac(voice(1, 6)), params={"speaker": "Bo"}).json()
        assert named["possible_second_voice"] == {"start_s": 5.5, "end_s": 6.0, "cosine": 0.25}
        unnamed = client.post(recordings, files=flac(voice(2, 6))).json()
        assert (unnamed["possible_second_voice"], unnamed["warnings"]) == (None, [])


def test_whoever_says_that_one_person_speaks_is_believed(client: ServiceClient) -> None:
    made = client.post(ENROLL, files=flac(*CONVERSATION), params={"speakers": "one"})
    assert made.status_code == 201, made.text
    assert not any("voices were heard" in warning for warning in made.json()["warnings"])


def test_an_upload_that_is_named_is_warned_about_too(client: ServiceClient) -> None:
    taken = client.post("/v1/galleries/g/recordings", files=flac(*CONVERSATION), params={"speaker": "Ann"})
    assert taken.status_code == 201, taken.text
    assert "2 voices were heard" in taken.json()["warnings"][0]
    unnamed = client.post("/v1/galleries/g/recordings", files=flac(voice(2, 5)))
    assert (unnamed.json()["warnings"], unnamed.json()["voices"]) == ([], 1)


def test_nobody_speaking_is_a_problem_of_its_own(client: ServiceClient) -> None:
    hum = flac(3e-3 * voice(0, 6))
    refused = client.post(ENROLL, files=hum)
    assert (refused.status_code, refused.json()["code"]) == (422, "no-speech")
    assert client.post(ENROLL, files=hum, params={"speech": "off"}).status_code == 201


def test_less_speech_is_enrolled_where_it_is_allowed(client: ServiceClient) -> None:
    short = flac(silence(2), voice(0, 0.6), silence(2))
    refused = client.post(ENROLL, files=short)
    assert (refused.status_code, refused.json()["code"]) == (422, "not-enough-speech")
    assert refused.json()["needed_s"] == 1.0
    assert client.post(ENROLL, files=short, params={"min_speech_s": 0.5}).status_code == 201


@pytest.mark.parametrize(("name", "value"), [("speakers", "many"), ("speech", "given:/etc"), ("min_speech_s", "-1")])
def test_what_is_no_way_to_listen_is_refused(client: ServiceClient, name: str, value: str) -> None:
    assert client.post(ENROLL, files=flac(voice(0, 3)), params={name: value}).status_code == 422
