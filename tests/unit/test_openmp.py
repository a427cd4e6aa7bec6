"""OpenMP's threads let others have the cores, before the first library that brings them is loaded."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.openmp import SPIN_COUNT, share_cores

GUARD = """
import sys
from indexer.openmp import share_cores
share_cores()
loaded = {"torch", "faiss", "numpy"} & set(sys.modules)
assert not loaded, loaded
import ctypes
ctypes.CDLL(sys.argv[1])
"""


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "77"), ("OMP_WAIT_POLICY", "active")])
def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    share_cores()
    given = {
        variable: os.environ[variable] for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if variable in os.environ
    }
    assert given == {name: value}


def test_the_library_that_torch_brings_takes_the_value() -> None:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    libraries = sorted(Path(found.origin).parent.glob("lib/libgomp*"))
    if not libraries:
        pytest.skip("this build of torch brings no GNU OpenMP")
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", GUARD, libraries[0]],
        env={**environment, "OMP_DISPLAY_ENV": "verbose"},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in told


@pytest.mark.parametrize(
    "entry",
    [
        "from api.cli.main import answer as run",
        "from worker.process import main; run = lambda: main('ingest', 'prefork')",
    ],
)
def test_every_entry_sets_it_before_it_does_anything(entry: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    # Settings that make no sense end both at once.
    environment["VOXDEX_AUDIO__CHANNELS"] = "nonsense"
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import os, sys\nsys.argv = ['voxdex', 'galleries', 'list']\n{entry}\ntry:\n    run()\n"
            "except SystemExit:\n    pass\nprint(os.environ.get('GOMP_SPINCOUNT'))",
        ],
        env=environment,
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.splitlines()[-1] == str(SPIN_COUNT)
