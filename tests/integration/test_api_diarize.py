"""Who speaks when over HTTP, and the command line's answer to who they are."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, Waveform
from tests.api_kit import ServiceClient, SpectrumServices, serving
from tests.listening_kit import plain_listening, silence, voice


class PlainServices(SpectrumServices):
    """Services that tell bands of noise apart."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.__dict__["listening"] = plain_listening()


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(record_settings, PlainServices(record_settings)) as opened:
        yield opened


def flac(*parts: Waveform) -> dict[str, bytes]:
    written = io.BytesIO()
    soundfile.write(written, np.concatenate(parts), SAMPLE_RATE_HZ, format="FLAC")
    return {"file": written.getvalue()}


CONVERSATION = (voice(0, 6), voice(1, 3), silence(3), voice(0, 3))


def test_each_voice_comes_with_its_turns_and_whoever_speaks_most_comes_first(client: ServiceClient) -> None:
    answered = client.post("/v1/diarize", files=flac(voice(1, 3), *CONVERSATION))
    assert answered.status_code == 200, answered.text
    told = answered.json()
    assert told["duration_s"] == 18.0
    assert told["issues"] == []
    assert [(one["voice"], one["channel"]) for one in told["voices"]] == [(1, None), (0, None)]
    assert [one["speech_s"] for one in told["voices"]] == pytest.approx([9.0, 6.0], abs=0.3)
    starts = [[turn["start_s"] for turn in one["turns"]] for one in told["voices"]]
    assert [len(own) for own in starts] == [2, 2]
    assert np.allclose(starts, [[3.0, 15.0], [0.0, 9.0]], atol=0.3)


def test_whoever_says_that_one_person_speaks_is_believed(client: ServiceClient) -> None:
    told = client.post("/v1/diarize", files=flac(*CONVERSATION), params={"speakers": "one"}).json()
    assert [one["voice"] for one in told["voices"]] == [0]


def test_nobody_speaking_and_unknown_encoders_are_refused(client: ServiceClient) -> None:
    nobody = client.post("/v1/diarize", files=flac(3e-3 * voice(0, 6)))
    assert (nobody.status_code, nobody.json()["code"]) == (422, "no-speech")
    unknown = client.post("/v1/diarize", files=flac(voice(0, 3)), params={"encoder": "no-such"})
    assert unknown.status_code == 404
    assert client.post("/v1/diarize", files=flac(voice(0, 3)), params={"speakers": "many"}).status_code == 422
