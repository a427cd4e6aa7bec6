"""Which device and which pool of processes a worker uses; decided before Celery starts, by a process that only asks."""

import subprocess
import sys
from pathlib import Path

from indexer.settings import Settings

_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Where a machine shows its CUDA driver: Linux, and Linux inside Windows."""

_ASK_S = 120.0


def worker_device(settings: Settings) -> str:
    """Name the device, with "auto" resolved: asked of torch in a process of its own, for asking may touch CUDA."""
    device = settings.embedding.device
    if device != "auto":
        return device
    if not any(driver.exists() for driver in _DRIVERS):
        return "cpu"
    question = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, timeout=_ASK_S, check=False
    )
    return "cuda" if answer.stdout.strip() == "cuda" else "cpu"


def worker_pool(device: str) -> str:
    """Name Celery's pool for a device.

    On a CPU a child of its own does the work, so that a crash in a codec takes neither the messages nor Celery with
    it. A device other than the CPU is used by threads of the one process, which never forks: a child's calls would
    fail or hang. Where Python does not fork safely (macOS), threads serve the CPU too.
    """
    return "prefork" if device == "cpu" and sys.platform == "linux" else "threads"
