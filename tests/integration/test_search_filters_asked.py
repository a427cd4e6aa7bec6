"""Filters of a search as users ask for them: over HTTP, from Python, and on the command line."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api import dependencies
from api.cli.main import app
from indexer.settings import Settings, load_settings
from tests.api_kit import ServiceClient, SpectrumServices, serving, wav
from voxdex_client import Client, errors

WAV = {"content-type": "audio/wav"}
PROBE = wav(3, 0)
SEARCH = "/v1/galleries/calls/search"


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    """A service with four recordings: the probe's own voice on Monday and Tuesday, two other voices.

    Tests leave it as they found it.
    """
    with serving(module_settings) as opened:
        assert opened.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        for audio, said in (
            (
                wav(3, 0),
                {"filename": "mon.wav", "session": "mon", "recorded_at": "2026-01-05T10:00:00Z", "label": "day"},
            ),
            (
                wav(5, 0, 8000),
                {
                    "filename": "tue.wav",
                    "session": "tue",
                    "recorded_at": "2026-01-06T10:00:00Z",
                    "label": ["day", "it's"],
                },
            ),
            (wav(3, 3), {"filename": "ann.wav", "speaker": "Ann"}),
            (wav(12, 4), {"filename": "other.wav", "label": "night"}),
        ):
            kept = opened.post("/v1/galleries/calls/recordings", content=audio, headers=WAV, params=said)
            assert kept.status_code == 201, kept.text
        yield opened


def ask(client: ServiceClient, **query: Any) -> dict[str, Any]:
    answer = client.post(SEARCH, content=PROBE, headers=WAV, params=query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def found(client: ServiceClient, **query: Any) -> list[str]:
    """Search for the best ten, and return the names of what came, sorted."""
    return sorted(one["uri"].removeprefix("upload:") for one in ask(client, top_k=10, **query)["recordings"])


def test_each_filter_keeps_a_search_to_what_it_names(client: ServiceClient) -> None:
    assert found(client) == ["ann.wav", "mon.wav", "other.wav", "tue.wav"]
    assert found(client, label="day") == ["mon.wav", "tue.wav"]
    assert found(client, label=["day", "it's"]) == ["tue.wav"]
    assert found(client, session=["mon", "wed"]) == ["mon.wav"]
    assert found(client, speaker="Ann") == ["ann.wav"]
    assert found(client, recorded_from="2026-01-06T11:00:00+01:00") == ["tue.wav"]
    assert found(client, recorded_until="2026-01-06T10:00:00Z") == ["mon.wav"]
    assert found(client, recorded_from="2026-01-01T00:00:00Z", recorded_until="2026-01-06T10:00:01Z", label="it's") == [
        "tue.wav"
    ]
    assert found(client, min_sample_rate_hz=16_000, label="day") == ["mon.wav"]
    assert found(client, max_sample_rate_hz=8000) == ["tue.wav"]
    assert found(client, min_speech_s=4) == ["other.wav", "tue.wav"]
    assert found(client, min_duration_s=5) == ["other.wav", "tue.wav"]


def test_an_answer_says_what_the_filter_leaves_and_what_reaches_the_threshold(client: ServiceClient) -> None:
    nothing = ask(client, label="nobody's")
    assert (nothing["decision"], nothing["eligible"], nothing["recordings"]) == ("not_found", 0, [])
    best = ask(client, label="night", top_k=1, channels="mix")
    client.patch("/v1/galleries/calls", json={"identification_threshold": 1.0})
    below = ask(client, label="night", top_k=1)
    assert client.patch("/v1/galleries/calls", json={"identification_threshold": None}).status_code == 200
    assert (below["decision"], below["found"], len(below["recordings"])) == ("not_found", 0, 1)
    assert below["recordings"][0]["score"] == best["recordings"][0]["score"] < 1.0
    point = below["operating_point"]
    assert (point["score_threshold"], point["source"], point["gallery_size"]) == (1.0, "gallery", 1)
    assert ask(client, label="night", top_k=1, threshold=1)["recordings"] == []
    assert ask(client, top_k=2, threshold=-1, limit=1)["truncated"]
    everything = ask(client, threshold=-1)
    assert (everything["eligible"], everything["found"], everything["truncated"]) == (None, 4, False)
    short = client.post(SEARCH, content=wav(0.05), headers=WAV, params={"label": "day"}).json()
    assert (short["decision"], short["eligible"]) == ("not_enough_speech", 2)


REFUSED = [
    ({"recorded_from": "2026-01-06T11:00:00"}, "no time zone"),
    ({"recorded_until": "2026-01-06"}, "no time zone"),
    ({"recorded_from": "yesterday"}, "recorded_from"),
    ({"recorded_from": "2026-02-01T00:00:00Z", "recorded_until": "2026-01-01T00:00:00Z"}, "later than"),
    ({"recorded_from": "0001-01-01T00:00:00+05:00"}, "1 to 9999"),
    ({"min_duration_s": "-1"}, "min_duration_s"),
    ({"min_duration_s": "nan"}, "min_duration_s"),
    ({"min_sample_rate_hz": "16000", "max_sample_rate_hz": "8000"}, "16000"),
    ({"top_k": "1001"}, "top_k"),
    ({"top_k": "0"}, "top_k"),
    ({"labels": "day"}, "this route takes"),
    ({"label": ""}, "query.label.0: is empty: give a value, or leave it out"),
    ({"speaker": " "}, "an empty speaker in a filter"),
    ({"recorded_from": ""}, "query.recorded_from: is empty"),
    ({"min_duration_s": ""}, "query.min_duration_s: is empty"),
]


def test_what_has_no_meaning_is_refused_and_not_passed_over(client: ServiceClient) -> None:
    for query, said in REFUSED:
        answer = client.post(SEARCH, content=PROBE, headers=WAV, params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), query
        assert said in answer.text


def test_an_unknown_speaker_is_not_passed_over(client: ServiceClient) -> None:
    for audio in (PROBE, wav(0.05)):
        answer = client.post(SEARCH, content=audio, headers=WAV, params={"speaker": ["Ann", "Nobody"]})
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
        assert "'Nobody'" in answer.json()["detail"]


def test_what_comes_in_and_goes_is_in_the_next_answer(client: ServiceClient) -> None:
    assert found(client, label="day") == ["mon.wav", "tue.wav"]
    said = {"filename": "wed.wav", "label": "day"}
    kept = client.post("/v1/galleries/calls/recordings", content=wav(3, 8), headers=WAV, params=said)
    assert found(client, label="day") == ["mon.wav", "tue.wav", "wed.wav"]
    assert client.delete(f"/v1/galleries/calls/recordings/{kept.json()['id']}").status_code == 200
    assert found(client, label="day") == ["mon.wav", "tue.wav"]


def test_the_python_client_sends_every_filter(client: ServiceClient) -> None:
    monday = dt.datetime(2026, 1, 5, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    with Client(str(client.base_url)) as voxdex:
        answer = voxdex.search(
            "calls",
            PROBE,
            top_k=5,
            labels=["day"],
            sessions=["mon", "tue"],
            recorded_from=monday,
            recorded_until=monday + dt.timedelta(days=1),
            min_duration_s=1,
            min_speech_s=1,
            min_sample_rate_hz=8000,
            max_sample_rate_hz=48_000,
        )
        assert [one.uri for one in answer.recordings] == ["upload:mon.wav"]
        assert answer.eligible == 1
        assert voxdex.search("calls", PROBE, top_k=5, speakers=["Ann"]).recordings[0].speakers == ["Ann"]
        with pytest.raises(errors.NotFound, match="Nobody"):
            voxdex.search("calls", PROBE, speakers=["Nobody"])


def test_the_command_line_keeps_a_search_to_what_its_options_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "Services", SpectrumServices)
    home = tmp_path / "home"
    services = SpectrumServices(load_settings(home=home, database={}))
    services.create_gallery("calls", None)
    services.close()
    for name, seed, rate in (("mon", 0, 16_000), ("tue", 1, 8000), ("ann", 2, 16_000)):
        (tmp_path / f"{name}.wav").write_bytes(wav(3, seed, rate))
    manifest = tmp_path / "archive.csv"
    manifest.write_text(
        "path,speaker,session,recorded_at,labels\n"
        "mon.wav,,mon,2026-01-05T10:00:00Z,day\n"
        "tue.wav,,tue,2026-01-06T10:00:00Z,day;it's\n"
        "ann.wav,Ann,,,\n"
    )

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, [*words, "-g", "calls", "--home", str(home)])

    taken = run("ingest", str(manifest))
    assert taken.exit_code == 0, taken.output
    search = ("search", str(tmp_path / "mon.wav"), "--top-k", "9")

    def names(*options: str) -> list[str]:
        answer = run(*search, *options, "--json")
        assert answer.exit_code == 0, answer.output
        return sorted(Path(one["uri"]).stem for one in json.loads(answer.stdout)["results"][0]["recordings"])

    assert names() == ["ann", "mon", "tue"]
    assert names("--label", "day", "--label", "it's") == ["tue"]
    assert names("--session", "mon", "--session", "tue") == ["mon", "tue"]
    assert names("--speaker", "Ann") == ["ann"]
    assert names("--from", "2026-01-06T00:00Z") == ["tue"]
    assert names("--from", "2026-01-01T00:00Z", "--until", "2026-01-06T00:00Z") == ["mon"]
    assert names("--max-sample-rate", "8000") == names("--max-sample-rate", "8000", "--min-speech", "2") == ["tue"]
    assert names("--min-sample-rate", "16000", "--min-duration", "2.5") == ["ann", "mon"]
    said = run(*search, "--label", "day")
    assert "the filter leaves 2 utterances" in said.output
    for options, message in (
        (("--speaker", "Nobody"), "no speaker 'Nobody'"),
        (("--from", "2026-01-06"), "write 2026-01-06T00:00:00Z"),
    ):
        refused = run(*search, *options)
        assert refused.exit_code != 0
        assert message in str(refused.exception)
