"""The page in a real browser, on a real service with real voices.

`make test-page` brings the browser; without one these tests are skipped, and say so.
"""

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from api.dependencies import Services
from api.page_files import PageFiles
from indexer.settings import load_settings
from tests.api_kit import ServiceClient, serving
from tests.page_kit import GALLERY, Speech, Watched, absent, watched

SPEAKERS = ("fclc", "fejs", "fjam", "fkai", "mcrt", "mcfl", "LS27", "LS4406")
ENROLLED = 3

TURN_S = 6
"""Of the conversation: long enough to tell two voices apart, short enough to wait for."""

LONG_COPIES = 12
"""Of each file of the long archive, each begun elsewhere: a job must last until a browser on a busy machine has pressed
Stop, twice."""


@pytest.fixture(scope="session")
def browser(speech: Speech) -> Iterator[Any]:
    """Debian's Chromium where it is installed, else the one that Playwright fetched; somebody speaks into it."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError:
        absent("playwright is not installed: `make test-page` brings it")
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(
                executable_path=os.environ.get("VOXDEX_TEST_CHROMIUM") or shutil.which("chromium"),
                # No question whether the microphone may be used; no sandbox where root runs the tests.
                args=[
                    "--use-fake-device-for-media-stream",
                    "--use-fake-ui-for-media-stream",
                    f"--use-file-for-fake-audio-capture={speech.spoken}",
                ],
                chromium_sandbox=os.getuid() != 0,
            )
        except Error as error:
            absent(f"no Chromium could be started: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def speech(speech_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Speech:
    folder = tmp_path_factory.mktemp("speech")
    (folder / "archive").mkdir()
    with (speech_dir / "manifest.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    files: dict[str, list[Path]] = {}
    for row in sorted(rows, key=lambda row: float(row["seconds"])):
        files.setdefault(row["speaker"], []).append(speech_dir / row["path"])
    listed = [["path", "speaker"]]
    for speaker in SPEAKERS:
        for path in files[speaker][:ENROLLED]:
            listed.append([str(path), speaker])
    with (folder / "known.csv").open("w", newline="", encoding="utf-8") as written:
        csv.writer(written).writerows(listed)
    for path in files["mjhp"][:2]:
        shutil.copy(path, folder / "archive" / path.name)
    (folder / "archive" / "notes.wav").write_bytes(b"RIFF and no audio at all")
    one, two = (
        [soundfile.read(path, dtype="float32", frames=TURN_S * 16_000)[0] for path in files[name][3:5]]
        for name in ("LS27", "LS4406")
    )
    pause = np.zeros(8000, dtype=np.float32)
    conversation = folder / "conversation.wav"
    soundfile.write(conversation, np.concatenate([one[0], pause, two[0], pause, one[1], pause, two[1]]), 16_000)
    # What the microphone hears, again and again.
    spoken = folder / "spoken.wav"
    soundfile.write(spoken, soundfile.read(files["LS27"][-1], frames=5 * 16_000)[0], 16_000, "PCM_16")
    (folder / "long").mkdir()
    for path in [path for name in ("LS5652", "LS8226", "LS4406") for path in files[name]]:
        heard, rate = soundfile.read(path, dtype="float32")
        for copy in range(LONG_COPIES):
            begun = np.roll(heard, copy * len(heard) // LONG_COPIES)
            soundfile.write(folder / "long" / f"{path.stem}-{copy}.wav", begun, rate)
    probes = {"mcrt": files["mcrt"][-1], "LS27": files["LS27"][3]}
    unnamed = (files["LS5652"][-1], files["LS5652"][-2])
    return Speech(
        folder / "known.csv",
        folder / "archive",
        folder / "long",
        probes,
        files["LS8226"][0],
        conversation,
        unnamed,
        spoken,
    )


@pytest.fixture(scope="session")
def service(
    browser: Any, speech: Speech, default_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceClient]:
    """A service as somebody runs it for themselves: no key, the default encoder, some people enrolled by a job."""
    page = PageFiles()
    if not page.is_built:
        absent("the page is not built: `make page` builds it")
    settings = load_settings(
        home=tmp_path_factory.mktemp("home"), database={}, speech={"detector": "silero", "speakers": "auto"}
    )
    with serving(settings, Services(settings), page) as client:
        assert client.post("/v1/galleries", json={"name": GALLERY}).status_code == 201
        job = client.post(f"/v1/galleries/{GALLERY}/jobs", json={"source": str(speech.manifest)}).json()
        _ended(client, job["id"])
        yield client


def _ended(client: httpx.Client, job_id: int) -> None:
    with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=120) as events:
        told = [line for line in events.iter_lines() if line.startswith("event: end")]
    assert told, "the events of the job ended before the job did"
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded"


@pytest.fixture
def shown(browser: Any, service: ServiceClient) -> Iterator[Watched]:
    """A page of its own, in which nothing may go wrong and from which nothing may leave for another machine."""
    yield from watched(browser, str(service.base_url).rstrip("/"))
