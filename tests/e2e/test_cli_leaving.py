"""A command ends at once, and still does all that is to be done at the end of a process."""

import subprocess
import sys
from pathlib import Path

WORK = """
from api.cli.leaving import leave
import atexit, logging, sys, tempfile, threading, time
marked = sys.argv[1]
atexit.register(lambda: open(marked, "a").write("registered;"))
def slow():
    time.sleep(0.2)
    open(marked, "a").write("thread;")
threading.Thread(target=slow).start()
folder = tempfile.TemporaryDirectory(dir=sys.argv[2])
class Torn:
    def __del__(self, file=open(marked, "a")):
        file.write("torn apart;"); file.flush()
torn = Torn()
print("answered", end="")
print("and said", end="", file=sys.stderr)
if len(sys.argv) > 3:
    leave(int(sys.argv[3]))
"""


def test_threads_end_temporary_files_go_output_is_written_and_modules_are_not_taken_apart(tmp_path: Path) -> None:
    marked, folder = tmp_path / "marked", tmp_path / "temporary"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(marked), str(folder), "3"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "answered", "and said")
    assert marked.read_text() == "thread;registered;"
    assert list(folder.iterdir()) == []


def test_a_process_that_only_imports_it_ends_as_any_other(tmp_path: Path) -> None:
    marked, folder = tmp_path / "marked", tmp_path / "temporary"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK, str(marked), str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "answered")
    assert marked.read_text() == "thread;registered;torn apart;"
