"""What a bench is given that is broken, short or elsewhere changes what it says, never what is true of the machine."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.bench.api_bench import _require_answers
from api.bench.beginnings import beginnings
from api.bench.encoder_engines import _utterances
from api.bench.machine import describe_commit
from api.bench.own_home import environment_of, make_own_home
from api.dependencies import Services
from indexer.errors import InvalidRequest, NotFound, Unavailable
from indexer.settings import AudioSettings, load_settings
from indexer.types import SAMPLE_RATE_HZ
from tests.cli_kit import voxdex


def write_noise(path: Path, seconds: float) -> None:
    rng = np.random.default_rng(int(10 * seconds))
    soundfile.write(path, rng.normal(0, 0.1, round(seconds * SAMPLE_RATE_HZ)).clip(-1, 1), SAMPLE_RATE_HZ)


def test_beginnings_are_of_recordings_that_can_be_read_and_are_long_enough(tmp_path: Path) -> None:
    for number, seconds in enumerate((1.0, 3.0, 3.5, 4.0)):
        write_noise(tmp_path / f"{number}.wav", seconds)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio\n" * 100)
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    found = list(beginnings([tmp_path], 3.0, AudioSettings()))
    assert [len(waveform) for waveform in found] == [48_000] * 3
    assert all(map(np.array_equal, found, beginnings([tmp_path], 3.0, AudioSettings())))
    with pytest.raises(NotFound, match="nowhere"):
        list(beginnings([tmp_path / "nowhere"], 3.0, AudioSettings()))


def test_no_more_of_a_recording_is_decoded_than_its_beginning(tmp_path: Path) -> None:
    write_noise(tmp_path / "long.wav", 20.0)
    whole = tmp_path / "long.wav"
    # What comes after it cannot be decoded at all.
    samples, _ = soundfile.read(whole, dtype="float32")
    samples[-SAMPLE_RATE_HZ:] = np.nan
    soundfile.write(whole, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    (begun,) = beginnings([whole], 2.0, AudioSettings(block_s=4.0))
    assert len(begun) == 2 * SAMPLE_RATE_HZ


def test_a_batch_is_whole_however_few_utterances_cosines_are_compared_on(tmp_path: Path) -> None:
    for number in range(9):
        write_noise(tmp_path / f"{number}.wav", 1.0)
    services = Services(load_settings())
    assert len(_utterances(services, [tmp_path], 1.0, 2, least=8)) == 8
    assert len(_utterances(services, [tmp_path], 1.0, 9, least=8)) == 9
    assert len(_utterances(services, [], 1.0, 2, least=8)) == 8
    with pytest.raises(
        InvalidRequest, match=r"9 recordings of 1 s or more, and 16 .* whole batch: .* smaller --batches"
    ):
        _utterances(services, [tmp_path], 1.0, 64, least=16)


@pytest.mark.parametrize(
    "words", [("encoder", "--batches", "1.5"), ("encoder", "--batches", "0"), ("api", "no-such", "--clients", "0,1")]
)
def test_passes_and_clients_are_whole_numbers(words: tuple[str, ...]) -> None:
    done = voxdex("bench", *words)
    assert done.returncode == 2
    assert "whole numbers from 1 to" in done.stderr


def test_a_commit_is_of_the_tree_that_the_code_belongs_to(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.test", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet")
    ours, installed = tmp_path / "ours.py", tmp_path / ".venv" / "lib" / "theirs.py"
    installed.parent.mkdir(parents=True)
    for file in (ours, installed):
        file.write_text("pass\n")
    git("add", "ours.py")
    git("commit", "--quiet", "--message", "one file")
    assert describe_commit(ours) == git("rev-parse", "HEAD")
    assert describe_commit(installed) == "unknown"
    ours.write_text("raise SystemExit\n")
    assert describe_commit(ours) == git("rev-parse", "HEAD") + "+changes"


def test_a_bench_has_the_users_encoders_and_nothing_that_others_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = f"sqlite:///{tmp_path}/theirs.sqlite3"
    environment = {
        "VOXDEX_DATABASE": json.dumps({"url": theirs}),
        "voxdex_database__url": theirs,
        "VOXDEX_API__OPEN": "false",
        "VOXDEX_PROBES__WHERE": "workers",
        "VOXDEX_BROKER__URL": "redis://127.0.0.1:1/0",
        "VOXDEX_INDEX__ENGINE": "milvus",
        "VOXDEX_SPEECH__THRESHOLD": "0.6",
        "VOXDEX_HOME": str(tmp_path / "theirs"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "encoders.json").write_text('{"encoders": []}')
    settings = make_own_home(load_settings(), tmp_path / "own")
    assert settings.database_url == f"sqlite:///{tmp_path}/own/voxdex.sqlite3"
    assert (tmp_path / "own" / "encoders.json").read_text() == '{"encoders": []}'
    given = environment_of(settings, environment)
    for name in environment:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    again = load_settings()
    assert again.database_url == settings.database_url
    assert (again.broker.url, again.probes.where, again.api.open) == (None, "process", None)
    assert (again.index.engine, again.speech.threshold) == ("faiss", 0.6)


def test_answers_that_are_all_errors_are_no_figures() -> None:
    answered = {"errors": {"503 unavailable": 1}, "requests": 2}
    _require_answers([answered])
    with pytest.raises(Unavailable, match=r"401 missing-key \(7 times\)"):
        _require_answers([answered, {"errors": {"401 missing-key": 7}, "requests": 7}])
    with pytest.raises(Unavailable, match="no identification succeeded"):
        _require_answers([{"errors": {}, "requests": 0}])
