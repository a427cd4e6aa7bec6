"""`voxdex bench index` from end to end, at a size that says nothing of speed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli_kit import voxdex
from tests.vectors import unit_vectors

VOXDEX = Path(sys.executable).with_name("voxdex")
QUICK = ["--vectors", "3000", "--probes", "20", "--seconds", "0.1"]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    # One thread: more of them wait for each other where other tests run beside.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([VOXDEX, "bench", "index", *words], capture_output=True, text=True, check=False, env=alone)


def test_it_measures_the_index_and_peers_and_says_on_what(tmp_path: Path) -> None:
    done = bench(*QUICK, "--peers", "faiss flat,usearch", "--enrolled", "500", "--folder", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"platform", "processor", "cores", "memory"} <= report["machine"].keys()
    assert {"python", "numpy", "voxdex"} <= report["versions"].keys()
    assert report["commit"]
    assert report["seed"] == 20260101
    (size,) = report["sizes"]
    assert "problem" not in size, size["problem"]
    assert size["search"]["recall"] == {"known": 1.0, "strangers": 1.0}
    assert size["search"]["largest_score_error"] < 1e-12
    assert [entry["share"] for entry in size["search"]["filters"]] == [0.01, 0.1, 0.5]
    assert all(entry["recall"] == {"known": 1.0, "strangers": 1.0} for entry in size["search"]["filters"])
    assert size["search"]["deleted"]["settled"]["recall"] == {"known": 1.0, "strangers": 1.0}
    flat, usearch = report["peers"]
    assert flat["answers"][0]["recall"] == {"known": 1.0, "strangers": 1.0}
    assert usearch["version"]
    for answer in (*flat["answers"], *usearch["answers"]):
        assert all(words.split()[0] in {"recall", "query", "batch", "build", "memory"} for words in answer["wins"])
    assert report["enrolled"]["speakers"] == 50
    # That a part takes less time than the whole is not said of a tenth of a second on a machine that others use.
    assert all(report["enrolled"][f"{what}_to_search"] > 0 for what in ("nearest", "wide_nearest", "identify"))
    for part in ("wide_nearest", "record", "decide", "identify"):
        assert all(report["enrolled"][f"{part}_s"][kind] > 0 for kind in ("known", "strangers"))
    assert list(tmp_path.iterdir()) == []


def test_the_table_says_the_same_of_real_embeddings(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", rows=unit_vectors(200, seed=1))
    done = bench(*QUICK, "--set", "jittered", "--embeddings", str(tmp_path / "real.npz"))
    assert done.returncode == 0, done.stderr
    for words in ("commit ", "seed 20260101", "160 embeddings of real.npz", "recall@10, strangers", "3,000"):
        assert words in done.stdout


def test_a_scan_of_a_device_is_measured_alone_beside_what_its_memory_allows() -> None:
    done = bench(*QUICK, "--engine", "faiss-gpu", "--device", "cpu", "--device-vectors", "4000", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (size,) = report["sizes"]
    assert "problem" not in size, size["problem"]
    assert size["search"]["kind"] == "faiss-flat-float16"
    (entry,) = report["device"]
    assert "problem" not in entry, entry["problem"]
    assert (entry["vectors"], entry["device"]) == (4000, "cpu")


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    done = voxdex("bench", "index", *QUICK, "--engine", "faiss-gpu", "--device", "cuda:97")
    assert done.returncode != 0
    assert "'cuda:97'" in done.stderr
    assert "--device cpu" in done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--vectors", "ten"], "'ten'"),
        (["--vectors", "10"], "'10'"),
        (["--vectors", "100000000000"], "to 1,000,000,000 with commas between"),
        (["--vectors", "100000000000"], "2.5 kB of disk meanwhile, the most of them 2.5 TB"),
        (["--peers", "oracle"], "oracle"),
        (["--set", "jittered"], "--embeddings"),
        (["--gallery", "x"], "--set jittered"),
        (["--engine", "faiss-gpu", "--device", "tpu"], "'tpu'"),
        (["--engine", "faiss-gpu", "--device", "cpu", "--device-vectors", "5"], "--device-vectors '5'"),
        (["--folder", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(words: list[str], named: str) -> None:
    done = voxdex("bench", "index", *words)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_end_from_outside_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    command = [str(VOXDEX), "bench", "index", "--vectors", "60000", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "in a new process" in line:
                break
        running.send_signal(signal.SIGTERM)
        rest = running.stderr.read()
        assert running.wait() == 130
    assert rest == "voxdex: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_size_for_which_there_is_no_room_is_no_success(tmp_path: Path) -> None:
    done = voxdex("bench", "index", "--vectors", "1000000000", "--folder", tmp_path)
    assert "choose another --folder" in done.stdout
    assert done.returncode == 1
