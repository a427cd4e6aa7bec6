"""Random damage to any format comes to a result or to a typed error: never a crash, a hang, or noise on stderr."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_random_damage_never_ends_in_anything_but_a_typed_error(tmp_path: Path) -> None:
    # A process of its own: what crashes in a codec would take the test run with it.
    done = subprocess.run(
        [sys.executable, "-m", "tests.formats.audio_fuzz", str(tmp_path), "24", "1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
    assert done.stdout.count("\n") >= 35
