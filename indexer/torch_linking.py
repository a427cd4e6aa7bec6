"""Linking the libraries of torch ahead: a fifth of the time that importing it takes, and it needs no interpreter."""

import importlib.util
import sys
import threading
from contextlib import suppress
from pathlib import Path


def link_ahead() -> None:
    """Have the libraries of torch linked by a thread, while this one imports something else.

    For commands that will need torch at once. What cannot be linked this way, `import` links as always.
    """
    if sys.platform.startswith("linux") and "torch" not in sys.modules:
        # The interpreter waits for the thread before it ends: a process that links cannot be left.
        threading.Thread(target=_link, name="link-torch", daemon=False).start()


def _link() -> None:
    import ctypes

    found = importlib.util.find_spec("torch")
    for folder in (found.submodule_search_locations if found is not None else None) or ():
        libraries = Path(folder) / "lib"
        with suppress(OSError):
            # As torch does it: what its libraries need is open to all that is linked, they themselves are not.
            ctypes.CDLL(str(libraries / "libtorch_global_deps.so"), mode=ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(libraries / "libtorch_python.so"))
