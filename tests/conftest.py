"""What every test can ask for: real speech, real weights, a home folder of its own.

A fixture that needs something the repository does not carry skips with the reason; with
`VOXDEX_TEST_REQUIRE_ALL=1` (set by `.ci/run`) it fails instead, so that nothing needed is skipped unseen.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from api.cli.local_servers import LocalRedis
from indexer.errors import Unavailable
from indexer.openmp import share_cores

REPOSITORY = Path(__file__).parent.parent

share_cores()  # Before any test loads torch or faiss.

# What passed for a commit passes again. The same examples each time, however long a busy machine takes for one
# (`--hypothesis-profile=default` looks for others), and one mixed order, which changes as tests are added
# (`--randomly-seed=N` for another, `-p no:randomly` for the one in which they are written).
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")
_SEED = 20261123

if "PYTEST_XDIST_WORKER" in os.environ:
    # Here and in every process that tests start: beside others, threads of one operation only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_LONGEST_FIRST = ("e2e", "integration", "formats", "contract", "parity")

# Generated tones and noise are the speech of one voice, in whatever process and scope; tests about speech and voices
# ask for `hearing`.
os.environ |= {"VOXDEX_SPEECH__DETECTOR": "off", "VOXDEX_SPEECH__SPEAKERS": "one"}


def unavailable(reason: str) -> NoReturn:
    """Skip the test for a stated reason, or fail where everything must run."""
    if os.environ.get("VOXDEX_TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"required here, and not available: {reason}")
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Mix tests in the same order each time, unless another one is asked for."""
    if config.getoption("randomly_seed", None) == "default":
        config.option.randomly_seed = _SEED


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, for they wait for other processes a third of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders of the longest files, so that none of them goes on alone at the end (loadfile)."""
    ranks = {REPOSITORY / "tests" / name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.parent, len(ranks)))


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """Folder of real speech with a manifest.csv (path, speaker, session, seconds, sample_rate_hz, set, license)."""
    given = os.environ.get("VOXDEX_TEST_SPEECH_DIR")
    folder = Path(given) if given else REPOSITORY.parent / "shared" / "data" / "speech"
    if not (folder / "manifest.csv").is_file():
        unavailable(f"no manifest.csv in {folder}; set VOXDEX_TEST_SPEECH_DIR to a folder of labeled speech")
    return folder


@pytest.fixture(scope="session")
def default_weights() -> Path:
    """Weights of the default encoder, verified; fetched into the user's cache the first time."""
    from indexer.embedding.registry import EncoderRegistry
    from indexer.errors import Unavailable
    from indexer.settings import load_settings

    settings = load_settings()
    registry = EncoderRegistry(settings.home, settings.cache, offline=settings.offline)
    try:
        return registry.pull(registry.get(settings.embedding.encoder))
    except Unavailable as error:
        unavailable(f"weights of the default encoder: {error}")


@pytest.fixture(scope="session")
def campplus_weights() -> Path:
    """Weights of CAM++, verified; fetched into the user's cache the first time."""
    from indexer.embedding.registry import CAMPPLUS_ZH_EN, EncoderRegistry
    from indexer.errors import Unavailable
    from indexer.settings import load_settings

    settings = load_settings()
    try:
        return EncoderRegistry(settings.home, settings.cache, offline=settings.offline).pull(CAMPPLUS_ZH_EN)
    except Unavailable as error:
        unavailable(f"weights of CAM++: {error}")


@pytest.fixture(scope="session")
def meeting_dir() -> Path:
    """Folder of the meeting excerpts that the demo runs on; fetched into the user's cache the first time."""
    from indexer.demo_data import fetch_demo_recordings
    from indexer.errors import Unavailable
    from indexer.settings import load_settings

    settings = load_settings()
    try:
        return fetch_demo_recordings(settings.cache, offline=settings.offline, progress=None)
    except Unavailable as error:
        unavailable(f"meeting excerpts: {error}")


@pytest.fixture
def redis_server() -> Iterator[LocalRedis]:
    """A Redis of the test's own, which may be restarted."""
    try:
        with LocalRedis() as server:
            yield server
    except Unavailable as error:
        unavailable(str(error))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's own database."""
    monkeypatch.setenv("VOXDEX_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Begin torch's random numbers anew, as pytest-randomly does Python's and numpy's."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(_SEED)


@pytest.fixture
def hearing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find speech and tell voices apart, as outside of tests."""
    monkeypatch.delenv("VOXDEX_SPEECH__DETECTOR")
    monkeypatch.delenv("VOXDEX_SPEECH__SPEAKERS")
