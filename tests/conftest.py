"""What every test can ask for: real speech, real weights, a home folder of its own.

A fixture that needs something the repository does not carry skips with the reason; with
`VOXDEX_TEST_REQUIRE_ALL=1` (set by `.ci/run`) it fails instead, so that nothing needed is skipped unseen.
"""

import os
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).parent.parent


def unavailable(reason: str) -> NoReturn:
    """Skip the test for a stated reason, or fail where everything must run."""
    if os.environ.get("VOXDEX_TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"required here, and not available: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """Folder of real speech with a manifest.csv (path, speaker, session, seconds, sample_rate_hz, set, license)."""
    given = os.environ.get("VOXDEX_TEST_SPEECH_DIR")
    folder = Path(given) if given else REPOSITORY.parent / "shared" / "data" / "speech"
    if not (folder / "manifest.csv").is_file():
        unavailable(f"no manifest.csv in {folder}; set VOXDEX_TEST_SPEECH_DIR to a folder of labeled speech")
    return folder
