"""The pictures of docs/page.md: `python -m tests.reports.page_pictures SPEECH [--only identify,verify]`.

SPEECH is a folder of labeled recordings with a manifest.csv, as tests have it. A service of its own takes some of them
in, readers under names that were made up, and a browser shows each page in both themes. Needs what `make test-page`
brings.
"""

import argparse
import csv
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
from PIL import Image

from tests.page_kit import settle
from tests.reports.page import GALLERY, chromium, served

TARGET = Path(__file__).parents[2] / "docs" / "pictures" / "page"
WIDE, PHONE = {"width": 1280, "height": 890}, {"width": 390, "height": 844}
KEPT_WIDTH = 950
"""Of pictures of wide screens: as wide as the documentation shows them."""

READERS = {
    "LS27": "Ada Moreau",
    "LS4406": "Ben Okafor",
    "LS5652": "Clara Nyström",
    "LS8226": "David Levi",
    "LS4088": "Elena Petrova",
}
ENROLLED = 3


class Shown:
    """A browser at a service with people, an archive and unknown voices."""

    def __init__(self, browser: Any, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.page = browser.new_context(viewport=WIDE, reduced_motion="reduce").new_page()
        self.page.set_default_timeout(120_000)

    def open(self, place: str) -> Any:
        """Go to a place of the page."""
        self.page.goto(f"{self.url}/#/{place}")
        self.page.get_by_role("heading", level=1).wait_for()
        settle(self.page)
        return self.page

    def save(self, name: str, *, full: bool = False) -> None:
        """Take what is shown in both themes."""
        settle(self.page)
        for theme in ("light", "dark"):
            self.page.emulate_media(color_scheme=theme)
            self.page.locator(f"html[data-theme={theme}]").wait_for(state="attached")
            self.page.wait_for_timeout(400)  # Charts and players are drawn again.
            taken = Image.open(io.BytesIO(self.page.screenshot(full_page=full))).convert("RGB")
            width = min(taken.width, 720 if full else KEPT_WIDTH)
            taken = taken.resize((width, round(taken.height * width / taken.width)), Image.Resampling.LANCZOS)
            taken.quantize(256, dither=Image.Dither.NONE).save(TARGET / f"{name}-{theme}.png", optimize=True)


def identify(shown: Shown) -> None:
    """A conversation of two, and one of them beside her best match."""
    page = shown.open("identify")
    page.get_by_label("Recording").set_input_files(shown.folder / "conversation.wav")
    page.get_by_role("button", name="Listen").first.click()
    page.evaluate("window.scrollTo(0, 0)")
    shown.save("identify")


def phone(shown: Shown) -> None:
    """What fits on a telephone."""
    shown.page.set_viewport_size(PHONE)
    page = shown.open("identify")
    page.get_by_label("Recording").set_input_files(shown.folder / "ada.wav")
    page.get_by_role("list", name="Candidates").wait_for()
    shown.save("identify-phone")
    shown.open("speakers/Ada Moreau")
    shown.save("speaker-phone")
    shown.page.set_viewport_size(WIDE)


def verify(shown: Shown) -> None:
    """A claim that is true."""
    page = shown.open("verify")
    page.get_by_label("Recording").set_input_files(shown.folder / "ada.wav")
    page.get_by_label("Speaker").fill("Ada Moreau")
    page.get_by_role("button", name="Verify").click()
    page.get_by_role("region", name="Answer").get_by_role("status").filter(has_text="Accepted").wait_for()
    shown.save("verify")


def search(shown: Shown) -> None:
    """A voice that is in the archive."""
    page = shown.open("search")
    page.get_by_label("Recording").set_input_files(shown.folder / "ada.wav")
    page.get_by_role("list", name="Recordings").wait_for()
    shown.save("search")


def lists(shown: Shown) -> None:
    """Speakers, recordings, jobs, and what the service is made of."""
    for place in ("speakers", "recordings", "jobs", "system"):
        shown.open(place)
        shown.save(place)
    shown.open("quality")
    shown.save("quality", full=True)


def speaker(shown: Shown) -> None:
    """A speaker, and what is asked before she is deleted."""
    page = shown.open("speakers/Ada Moreau")
    shown.save("speaker")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("status").wait_for()
    shown.save("delete")
    page.keyboard.press("Escape")


def single(shown: Shown) -> None:
    """One recording, one job, one unknown voice."""
    found = httpx.get(f"{shown.url}/v1/galleries/{GALLERY}/recordings", params={"q": "meeting"}).json()["items"][0]
    shown.open(f"recordings/{found['id']}")
    shown.save("recording")
    shown.open("jobs/2")
    shown.save("job")
    page = shown.open("unknown")
    page.get_by_role("button", name="Listen").first.click()
    shown.save("unknown")
    page.get_by_role("list", name="Unknown voices").get_by_role("link").first.click()
    page.get_by_role("button", name="Merge").wait_for()
    shown.save("unknown-voice")


SHOWN: dict[str, Callable[[Shown], None]] = {
    "identify": identify,
    "verify": verify,
    "search": search,
    "lists": lists,
    "speaker": speaker,
    "single": single,
    "phone": phone,
}


@contextmanager
def archive_folder() -> Iterator[Path]:
    """Make a folder for a while whose name, unlike a temporary one's, may be seen in pictures."""
    folder = Path(tempfile.gettempdir()) / "calls"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def prepare(speech: Path, folder: Path) -> None:
    """Write what is taken in and what is asked about."""
    with (speech / "manifest.csv").open(encoding="utf-8") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: float(row["seconds"]))
    files: dict[str, list[Path]] = {}
    for row in rows:
        if row["set"] in ("an4", "librispeech_multi"):
            files.setdefault(row["speaker"], []).append(speech / row["path"])
    unnamed = [name for name in sorted(files) if name.startswith("LS") and name not in READERS]
    with (folder / "people.csv").open("w", encoding="utf-8", newline="") as written:
        listed = csv.writer(written)
        listed.writerow(["path", "speaker"])
        for name, paths in files.items():
            if name in unnamed:
                continue
            listed.writerows([path, READERS.get(name, name)] for path in paths[:ENROLLED])
    archive = folder / "archive"
    archive.mkdir()
    for name in unnamed:
        for number, path in enumerate(files[name][-3:]):
            shutil.copy(path, archive / f"call-{name[2:]}-{number}{path.suffix}")
    (archive / "notes.wav").write_bytes(b"RIFF and no audio at all")
    (archive / "empty.mp3").write_bytes(b"")
    joined(folder / "ada.wav", files["LS27"][-1:], 8)
    joined(folder / "conversation.wav", [files[name][place] for place in (-1, -2) for name in ("LS27", "LS4406")], 8)
    joined(archive / "meeting.wav", [files[name][-2] for name in ("LS5652", "LS27", "LS8226")], 9)


def joined(target: Path, paths: list[Path], seconds: int) -> None:
    """Write the beginnings of recordings one after the other."""
    pause = np.zeros(8_000, dtype=np.float32)
    parts = [soundfile.read(path, dtype="float32", frames=seconds * 16_000)[0] for path in paths]
    soundfile.write(target, np.concatenate([one for part in parts for one in (part, pause)]), 16_000)


def taken_in(url: str, folder: Path) -> None:
    """Enroll people, take the archive in, and look for unknown voices: jobs 1, 2 and 3."""
    gallery = f"{url}/v1/galleries/{GALLERY}"
    for job in (
        {"source": str(folder / "people.csv")},
        {"source": str(folder / "archive")},
    ):
        ended(url, httpx.post(f"{gallery}/jobs", json=job).json()["id"])
    ended(url, httpx.post(f"{gallery}/unknown-voices/cluster", json={}).json()["id"])
    for name in READERS.values():
        change = {"labels": ["reader"], "consent_reference": "form 2026-114"}
        httpx.patch(f"{gallery}/speakers/{name}", json=change).raise_for_status()


def ended(url: str, job: int) -> None:
    """Wait until a job has ended."""
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=600) as events:
        for _ in events.iter_lines():
            pass


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("speech", type=Path, help="folder of labeled recordings with a manifest.csv")
    parser.add_argument("--only", help=f"of {', '.join(SHOWN)}, with commas between")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else list(SHOWN)
    with tempfile.TemporaryDirectory() as home, archive_folder() as folder:
        prepare(given.speech.resolve(), folder)
        with served(Path(home)) as url, chromium() as browser:
            taken_in(url, folder)
            shown = Shown(browser, url, folder)
            for one in wanted:
                SHOWN[one](shown)


if __name__ == "__main__":
    main()
