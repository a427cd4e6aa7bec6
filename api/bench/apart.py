"""Measurements in processes of their own: memory is counted from nothing, and a crash or a hang ends one of them only.

`python -m api.bench.apart TASK RESULT` reads the task's arguments as JSON from standard input.
"""

import json
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from indexer.errors import Unavailable, VoxdexError, one_line

TASKS = {
    "build": "api.bench.own",
    "search": "api.bench.own",
    "peer": "api.bench.peers",
    "device_scan": "api.bench.device_scan",
    "enrolled": "api.bench.enrolled_voices",
    "ask": "api.bench.api_clients",
    "ask_in_turns": "api.bench.api_bench",
}
"""Functions that may be run apart, and the module of each."""


def run_apart(task: str, *, limit_s: float | None = None, **arguments: Any) -> Any:
    """Run a task in a process of its own and return its answer, which must have a JSON form.

    Raises
    ------
    Unavailable
        If it fails, is killed, or takes longer than `limit_s`; the message says which.
    """
    with tempfile.TemporaryDirectory(prefix="voxdex-bench-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "api.bench.apart", task, str(result)]
        try:
            done = subprocess.run(
                command, input=json.dumps(arguments), text=True, capture_output=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"not finished after {limit_s:.0f} s") from error
        if result.exists():
            document = json.loads(result.read_text(encoding="utf-8"))
            if "error" in document:
                raise Unavailable(document["error"])
            return document["answer"]
    ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
    last = done.stderr.strip().splitlines()[-1:] or ["nothing said"]
    raise Unavailable(f"{task} ended with {ended}: {last[0]}")


def main(task: str, result: str) -> None:
    """Run one task; what it returns, or why it could not, goes into the file `result`."""
    arguments = json.load(sys.stdin)
    try:
        document = {"answer": getattr(import_module(TASKS[task]), task)(**arguments)}
    except (VoxdexError, ImportError, MemoryError) as error:
        document = {"error": one_line(error) if isinstance(error, VoxdexError) else f"{type(error).__name__}: {error}"}
    Path(result).write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
