"""`voxdex bench`, `bench ingest` and `bench api` from end to end, in times that say nothing of speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli_kit import voxdex

VOXDEX = Path(sys.executable).with_name("voxdex")
TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


@pytest.mark.usefixtures("hearing", "default_weights")
def test_without_recordings_encoder_and_ingest_are_measured_of_noise_and_the_record_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXDEX_DATABASE__URL", f"sqlite:///{tmp_path}/record.sqlite3")
    done = voxdex("bench", "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    report = done.answer
    assert {"platform", "processor", "cores", "memory"} <= report["machine"].keys()
    assert {"python", "torch", "voxdex"} <= report["versions"].keys()
    assert report["commit"]
    assert [(row["utterance_s"], row["batch"]) for row in report["encoder"]] == [(3, 1), (3, 8), (10, 1), (10, 8)]
    assert report["ingest_times_real_time"] > 0
    assert report["ingest_share_of_encoder"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("default_weights")
def test_an_ingest_in_which_nothing_can_be_embedded_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    done = voxdex("bench", "ingest", tmp_path)
    assert done.returncode == 2
    assert "of 2 recordings none could be embedded" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_processor_without_bfloat16_is_measured_in_float32_with_as_many_threads_as_are_set() -> None:
    held = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "VOXDEX_EMBEDDING__THREADS": "1"}
    words = ["--lengths", "0.5", "--batches", "1", "--seconds", "0.1", "--encoder", str(TINY), "--json"]
    command = [str(VOXDEX), "bench", "encoder", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=held)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["threads"] == 1
    assert report["matrix_gflop_per_s"].keys() == {"float32"}
    assert {row["precision"] for row in report["rows"]} == {"float32"}
    assert report["missing"].keys() == {"PyTorch autocast", "voxdex fast"}
