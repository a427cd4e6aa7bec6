"""How heavy the page is and how soon it can be used: `python -m tests.reports.page [--runs 7]`.

`voxdex serve` as it comes, on a database of its own with one gallery, and a browser that has seen nothing of it before
each run. Stated are bytes as they come over the line, and the time from asking for `/` until every control works (the
page marks it): as this machine is, and with a processor slowed down four times as Chromium can, about a phone's. Needs
what `make test-page` brings.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from api.cli.local_servers import free_port

GALLERY = "calls"
SLOWER = 4


@contextmanager
def served(home: Path) -> Iterator[str]:
    """Run `voxdex serve` with one gallery and give its address."""
    voxdex = [sys.executable, "-m", "api.cli.main"]
    subprocess.run([*voxdex, "galleries", "create", GALLERY, "--home", home, "--json"], check=True, capture_output=True)
    port = free_port()
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen([*voxdex, "serve", "--home", home, "--port", str(port)], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the service says that it is ready."""
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("voxdex serve ended before it was ready")


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser of the tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("VOXDEX_TEST_CHROMIUM") or shutil.which("chromium"),
            chromium_sandbox=os.getuid() != 0,
        )
        yield browser
        browser.close()


def opened(browser: Any, url: str, *, slower: int) -> dict[str, float]:
    """Open the page in a browser that knows nothing of it; return milliseconds, bytes and requests."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        sizes: list[int] = []
        page.on("requestfinished", lambda asked: sizes.append(sum(asked.sizes()[one] for one in _OF_ANSWERS)))
        page.goto(url)
        page.get_by_role("heading", level=1, name="Identify").wait_for()
        page.wait_for_load_state("networkidle")
        marked = page.evaluate("performance.getEntriesByName('usable')[0].startTime")
        return {"usable_ms": marked, "bytes": sum(sizes), "requests": len(sizes)}


_OF_ANSWERS = ("responseHeadersSize", "responseBodySize")


def measured(runs: int) -> dict[str, Any]:
    """Open the page so often, and state the median and the range."""
    with tempfile.TemporaryDirectory() as home, served(Path(home)) as url, chromium() as browser:
        opened(browser, url, slower=1)  # The service's own first time.
        found = {slower: [opened(browser, url, slower=slower) for _ in range(runs)] for slower in (1, SLOWER)}
    times = {slower: [one["usable_ms"] for one in figures] for slower, figures in found.items()}
    return {
        "bytes": found[1][0]["bytes"],
        "requests": found[1][0]["requests"],
        "usable_ms": {
            slower: {"median": statistics.median(some), "least": min(some), "most": max(some)}
            for slower, some in times.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="times that the page is opened (default: 7)")
    parser.add_argument("--json", action="store_true", help="print a document")
    given = parser.parse_args()
    figures = measured(given.runs)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    sys.stdout.write(f"{figures['bytes'] / 1000:.0f} kB in {figures['requests']} answers\n")
    for slower, times in figures["usable_ms"].items():
        sys.stdout.write(
            f"usable after {times['median']:.0f} ms ({times['least']:.0f} to {times['most']:.0f}), "
            f"processor {'as it is' if slower == 1 else f'{slower} times slower'}\n"
        )


if __name__ == "__main__":
    main()
