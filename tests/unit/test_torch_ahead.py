"""Torch is linked by a thread before it is imported, and the collector of garbage is as it was afterwards."""

import gc
import importlib
import subprocess
import sys
import threading

import pytest

import indexer.torch_imported
from indexer.torch_linking import link_ahead

_LINKED = """
import sys, threading
from pathlib import Path
from indexer.torch_linking import link_ahead
link_ahead()
[thread.join() for thread in threading.enumerate() if thread.name == "link-torch"]
print("torch" in sys.modules, "libtorch_python" in Path("/proc/self/maps").read_text())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are linked ahead on Linux")
def test_libraries_are_linked_while_nothing_of_torch_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", _LINKED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True"


def test_where_torch_is_there_nothing_is_linked() -> None:
    link_ahead()
    assert not [thread for thread in threading.enumerate() if thread.name == "link-torch"]


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_collected_again_where_it_was_before(collecting: bool) -> None:
    (gc.enable if collecting else gc.disable)()
    try:
        importlib.reload(indexer.torch_imported)
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
