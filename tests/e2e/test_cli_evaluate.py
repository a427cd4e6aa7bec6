"""`voxdex evaluate` as a user runs it, on tiny recordings, with the default encoder."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from api.cli.main import app
from indexer.errors import InvalidRequest, NotFound
from indexer.settings import load_settings
from tests.cli_kit import voxdex
from tests.formats.audio_samples import speech_like

pytestmark = pytest.mark.real_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four made-up voices, three recordings of a second each, a manifest, a trial list, and an RTTM of one."""
    folder = tmp_path_factory.mktemp("data")
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker", "set"])
        for speaker in range(4):
            for take in range(3):
                name = f"s{speaker}-{take}.wav"
                rate_hz = 16_000 + 1500 * speaker  # Read at another rate, the same voice is another one.
                samples = speech_like(1.2, rate_hz, seed=take)
                soundfile.write(folder / name, samples[:16_000], 16_000)
                rows.writerow([name, f"s{speaker}", "made"])
    (folder / "trials.txt").write_text("1 s0-0.wav s0-1.wav\n0 s0-0.wav s1-0.wav\n1 s2-0.wav s2-1.wav\n")
    (folder / "s0-0.rttm").write_text("SPEAKER s0-0 1 0.0 1.0 <NA> <NA> a <NA> <NA>\n")
    (folder / "noise").mkdir()
    soundfile.write(folder / "noise" / "n.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    return folder


def _run(*words: object) -> Any:
    done = voxdex("evaluate", *words, "--json")
    assert done.returncode == 0, done.stderr
    return done.answer


def test_evaluations_end_to_end(
    data: Path, tmp_path: Path, default_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "encoders").symlink_to(load_settings().cache / "encoders")
    monkeypatch.setenv("VOXDEX_CACHE", str(cache))
    verified = _run(
        "verification", "--manifest", data / "manifest.csv", "--baseline", "--bootstrap", 10,
        "--conditions", "noise5,crop2s", "--noise", data / "noise", "--report", tmp_path / "report",
    )  # fmt: skip
    systems = [system["system"] for system in verified["systems"]]
    assert systems[0] == "baseline"
    assert "speechbrain-ecapa-voxceleb" in systems
    overall = verified["systems"][1]["slices"][0]
    assert (overall["targets"], overall["nontargets"]) == (12, 54)
    assert 0 <= overall["figures"]["eer"]["value"] <= 1
    assert [one["name"] for one in verified["systems"][1]["slices"]][-1] == "all conditions"
    assert (tmp_path / "report" / "report.html").is_file()

    # The second run hears nothing: the network would have to be asked otherwise, and answers come from the cache.
    listed = _run("verification", data / "trials.txt", "--bootstrap", 0, "--uncalibrated")
    assert listed["trials"] == 3

    identified = _run(
        "identification", data / "manifest.csv", "--enroll-per-speaker", 2, "--gallery-sizes", "2,3",
        "--uncalibrated", "--bootstrap", 0,
    )  # fmt: skip
    assert [one["gallery_size"] for one in identified["systems"]] == [2, 3]
    assert all(one["mated"] == 12 for one in identified["systems"])

    diarized = _run("diarization", data / "s0-0.rttm", "--speech", "given", "--speakers", "known", "--bootstrap", 0)
    assert diarized["systems"][0]["figures"]["der"]["value"] == pytest.approx(0.0, abs=0.01)

    copied = _run("copies", data / "manifest.csv", "--conditions", "telephone", "--output", tmp_path / "copies")
    assert len(list((tmp_path / "copies" / "telephone").iterdir())) == 12
    assert Path(copied["manifest"]).is_file()


def test_what_cannot_be_evaluated_is_named_before_anything_is_heard(data: Path, tmp_path: Path) -> None:
    manifest = str(data / "manifest.csv")
    for words, kind, named in (
        (["verification"], InvalidRequest, "give either a trial list"),
        (["verification", str(data / "none.txt")], InvalidRequest, "none.txt: no such file"),
        (["verification", "--manifest", manifest, "--sets", "x"], InvalidRequest, "the manifest has made"),
        (["verification", "--manifest", manifest, "--part", "1"], InvalidRequest, "--part '1'"),
        (["verification", "--manifest", manifest, "--without", "s9"], InvalidRequest, "no such speaker"),
        (["verification", str(data / "trials.txt"), "--audio-root", str(tmp_path)], NotFound, "and 4 more of 5"),
        (["identification", manifest], InvalidRequest, "--enroll-per-speaker"),
        (["identification", manifest, "--enroll-per-speaker", "2"], InvalidRequest, "--gallery-sizes"),
        (["identification", manifest, "--enroll-per-speaker", "1", "--gallery-sizes", "a"], InvalidRequest, "50,200"),
    ):
        done = CliRunner().invoke(app, ["evaluate", *words])
        assert isinstance(done.exception, kind), (words, done.exception)
        assert named in str(done.exception)
