"""Who writes the files of a folder."""

import gc
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.errors import Unavailable
from indexer.index.keeper import Keeper


def test_the_first_who_asks_is_elected_until_it_resigns(tmp_path: Path) -> None:
    first, second = Keeper(tmp_path / "index"), Keeper(tmp_path / "index")
    assert first.elected()
    assert not second.elected()
    assert first.elected()
    first.resign()
    assert second.elected()
    assert not first.elected()
    second.resign()


def test_a_keeper_that_is_killed_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from indexer.index.keeper import Keeper\n"
        "keeper = Keeper(Path(sys.argv[1]))\n"
        "print(keeper.elected(), flush=True)\n"
        "time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    here = Keeper(tmp_path)
    assert other.stdout is not None
    with other, other.stdout:
        assert other.stdout.readline() == "True\n"
        assert not here.elected()
        other.send_signal(signal.SIGKILL)
    assert here.elected()
    here.resign()


def test_a_folder_that_was_deleted_and_made_anew_needs_another_election(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    before, after = Keeper(folder), Keeper(folder)
    assert before.elected()
    shutil.rmtree(folder)
    assert after.elected()
    assert not before.elected()
    after.resign()
    assert before.elected()
    before.resign()


def test_one_that_nobody_holds_any_more_holds_up_nobody(tmp_path: Path) -> None:
    lost = Keeper(tmp_path)
    assert lost.elected()
    del lost
    gc.collect()
    here = Keeper(tmp_path)
    assert here.elected()
    here.resign()


def test_a_folder_that_cannot_be_made_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match=r"cannot write the index in .*file/index.*free some space"):
        Keeper(tmp_path / "file" / "index").elected()
