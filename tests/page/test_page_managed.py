"""A collection looked after as people do it: enrolled with consent, put together, stopped, tried again, erased."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from indexer.db.galleries import Galleries
from indexer.db.jobs import IN_PROCESS, Jobs
from indexer.db.models import JobItemState, JobState
from indexer.types import GalleryId
from tests.api_kit import ServiceClient
from tests.formats.several_tracks import write_tracks
from tests.page_kit import GALLERY, Speech, Watched, heard_for, settle

STRICT = "board"
UNTOUCHED = "untouched"
"""Where no job was run before the one that begins on its empty page, in whichever order tests come."""


@pytest.fixture(scope="module", autouse=True)
def strict(service: ServiceClient) -> None:
    """A gallery that enrolls nobody without consent, and one that no test but one uses."""
    assert service.post("/v1/galleries", json={"name": STRICT, "consent_required": True}).status_code == 201
    assert service.post("/v1/galleries", json={"name": UNTOUCHED}).status_code == 201


def shown_in(shown: Watched, gallery: str, place: str, heading: str) -> Any:
    """Open a place of another gallery, chosen as people choose it."""
    page = shown.open(place, heading)
    page.get_by_role("combobox", name="Gallery", exact=True).select_option(gallery)
    return page


def try_again(page: Any, service: ServiceClient) -> None:
    """Have the failed file of the job that is shown tried again, and wait for the job's end."""
    with page.expect_response(lambda answer: answer.url.endswith("/retry-failed")) as again:
        page.get_by_role("button", name="Try failed files again").press("Enter")
    assert again.value.json() == {"requeued": 1}
    with service.stream("GET", again.value.url.replace("retry-failed", "events"), timeout=60) as events:
        assert any(line == "event: end" for line in events.iter_lines())


def test_nobody_is_enrolled_without_consent_where_it_is_required_and_two_of_one_person_become_one(
    shown: Watched, speech: Speech, service: ServiceClient
) -> None:
    page = shown_in(shown, STRICT, "speakers", "Speakers")
    page.get_by_role("heading", name="Nobody is enrolled yet").wait_for()
    enroll = page.get_by_role("button", name="Enroll a speaker").last
    enroll.click()
    page.get_by_role("dialog").wait_for()  # Escape before it is there would close nothing.
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.wait_for_function("button => document.activeElement === button", arg=enroll.element_handle())

    enroll.press("Enter")
    dialog = page.get_by_role("dialog", name="Enroll a speaker")
    dialog.get_by_role("button", name="Record", exact=True).click()
    heard_for(dialog, 4)
    dialog.get_by_role("button", name="Stop recording").click()
    dialog.get_by_role("list", name="To be enrolled").get_by_text("microphone").wait_for()
    dialog.get_by_label("Name").fill("Joan Smith")
    dialog.get_by_role("button", name="Enroll", exact=True).click()
    consent = dialog.get_by_label("Consent")
    assert consent.evaluate("field => field.validity.valueMissing && document.activeElement === field")
    consent.fill("board minutes 7")
    dialog.get_by_role("button", name="Enroll", exact=True).click()
    dialog.get_by_role("status", name="Results").filter(has_text="Enrolled").wait_for()

    dialog.get_by_label("Name").fill("J. Smith")
    dialog.get_by_label("Recording").set_input_files(speech.probes["LS27"])
    dialog.get_by_role("button", name="Enroll", exact=True).click()
    dialog.get_by_role("link", name="Show J. Smith").click()
    page.get_by_role("heading", level=1, name="J. Smith").wait_for()
    page.get_by_role("button", name="Merge").click()
    dialog = page.get_by_role("dialog", name="Merge J. Smith")
    dialog.get_by_label("The same person as").fill("Joan Smith")
    dialog.get_by_role("button", name="Merge").click()
    page.get_by_role("heading", level=1, name="Joan Smith").wait_for()
    listed = page.get_by_role("table", name="Enrollments").get_by_role("link")
    listed.nth(1).wait_for()
    recorded, sent = listed.all_inner_texts()  # By the names that their files came with.
    assert (recorded.startswith("microphone-"), sent) == (True, speech.probes["LS27"].name)
    found = service.get(f"/v1/galleries/{STRICT}/speakers/Joan Smith").json()
    assert (found["recordings"], found["consent_reference"]) == (2, "board minutes 7")
    assert service.get(f"/v1/galleries/{STRICT}/speakers/J. Smith").status_code == 404


def test_a_recording_of_several_audio_tracks_shows_which_was_read_and_what_is_said_twice_stands_once(
    shown: Watched, speech: Speech, service: ServiceClient, tmp_path: Path
) -> None:
    assert service.post("/v1/galleries", json={"name": "films"}).status_code == 201
    voice, rate = soundfile.read(speech.stranger, dtype="float32")
    write_tracks(tmp_path / "film.mkv", [voice[: len(voice) // 2], voice], rate, default=1)
    sent = {"file": ("film.mkv", (tmp_path / "film.mkv").read_bytes())}
    kept = service.post("/v1/galleries/films/recordings", files=sent)
    assert kept.status_code == 201, kept.text
    page = shown_in(shown, "films", "recordings", "Recordings")
    page.get_by_role("link", name="film.mkv").click()
    about = page.get_by_role("region", name="About it")
    about.get_by_text("Audio track", exact=True).wait_for()
    assert "2 of 2" in about.inner_text()

    soundfile.write(tmp_path / "cut.wav", voice, rate, "PCM_16")
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) * 3 // 4])
    page = shown.open("speakers", "Speakers")
    page.get_by_role("button", name="Enroll a speaker").last.click()
    dialog = page.get_by_role("dialog", name="Enroll a speaker")
    dialog.get_by_label("Name").fill("Joan Smith")
    dialog.get_by_label("Recording").set_input_files(tmp_path / "cut.wav")
    dialog.get_by_role("button", name="Enroll", exact=True).click()
    warnings = dialog.get_by_role("list", name="Warnings")
    warnings.get_by_text("the file is truncated").wait_for()
    assert "partial: decoded" in warnings.inner_text()


def test_a_job_asks_whether_one_voice_has_two_names(
    shown: Watched, speech: Speech, service: ServiceClient, tmp_path: Path
) -> None:
    assert service.post("/v1/galleries", json={"name": "twice"}).status_code == 201
    for name, path in zip(("Jo", "Joan", "Sam"), (*speech.unnamed, speech.stranger), strict=True):
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name / path.name)
    posted = service.post("/v1/galleries/twice/jobs", json={"source": str(tmp_path), "speaker_from": "parent:1"})
    number = posted.json()["id"]
    page = shown_in(shown, "twice", f"jobs/{number}", f"Job {number}")
    asked = page.get_by_role("region", name="One voice under two names")
    asked.wait_for()  # When the job has ended, before one's eyes.
    assert sorted(asked.get_by_role("link").all_inner_texts()) == ["Jo", "Joan"]
    assert "times likelier" in asked.inner_text()
    asked.get_by_role("link", name="Joan").click()
    page.get_by_role("heading", level=1, name="Joan").wait_for()
    merged = service.post("/v1/galleries/twice/speakers/Joan/merge", json={"into": "Jo"})
    assert merged.status_code == 200, merged.text
    shown.open(f"jobs/{number}", f"Job {number}")
    page.get_by_role("list", name="Files").or_(page.get_by_text("No file failed.")).wait_for()
    settle(page)
    assert asked.count() == 0


def test_before_somebody_is_deleted_it_says_what_stays_when_only_the_name_goes(shown: Watched) -> None:
    page = shown.open("speakers/mcrt", "mcrt")
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete mcrt")
    said = dialog.get_by_role("status")
    said.filter(has_text="3 recordings, with their audio").wait_for()
    dialog.get_by_label("Forget the name only").check()
    said.filter(has_text="3 recordings will stay").wait_for()
    dialog.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").wait_for(state="detached")


def test_a_job_is_stopped_and_what_it_took_in_stays(shown: Watched, speech: Speech) -> None:
    page = shown_in(shown, UNTOUCHED, "jobs", "Jobs")
    page.get_by_role("heading", name="No archive was taken in yet").wait_for()
    page.get_by_role("button", name="Take an archive in").last.click()
    dialog = page.get_by_role("dialog", name="Take an archive in")
    dialog.get_by_label("Folder or manifest").fill(str(speech.long))
    dialog.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop the job").click()
    progress = page.get_by_role("region", name="Progress")
    progress.get_by_text("stopped", exact=True).wait_for()
    done, found = (int(word) for word in progress.get_by_role("status").inner_text().split() if word.isdigit())
    assert done < found or found == 0
    page.get_by_role("button", name="Stop").wait_for(state="detached")
    page.get_by_role("link", name="Jobs").first.click()
    page.get_by_role("list", name="Jobs").get_by_text("stopped", exact=True).wait_for()
    # The same again, and stopped again: what was asked for is what the first one was asked for.
    page.get_by_role("list", name="Jobs").get_by_role("link").first.click()
    with page.expect_response(lambda answer: answer.request.method == "POST") as again:
        page.get_by_role("button", name="Take the rest in").click()
    job = again.value.json()
    page.get_by_role("heading", level=1, name=f"Job {job['id']}").wait_for()
    assert (job["source"], job["gallery"], job["kind"]) == (str(speech.long), UNTOUCHED, "folder")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop the job").click()
    page.get_by_role("region", name="Progress").get_by_text("stopped", exact=True).wait_for()


def test_an_archive_is_taken_in_before_ones_eyes_and_what_failed_is_mended_and_tried_again(
    shown: Watched, speech: Speech, service: ServiceClient
) -> None:
    page = shown.open("jobs", "Jobs")
    page.get_by_role("button", name="Take an archive in").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Folder or manifest").fill(str(speech.archive))
    dialog.get_by_role("button", name="Start").click()
    progress = page.get_by_role("region", name="Progress").get_by_role("status")
    progress.filter(has_text="2 of 3 files done").wait_for()
    failed = page.get_by_role("list", name="Files").get_by_role("listitem").filter(has_text="notes.wav")
    failed.filter(has_text="not audio").wait_for()
    try_again(page, service)
    page.get_by_text("Tried again: 1 file failed again.").wait_for()
    failed.filter(has_text="not audio").wait_for()  # It is what it was.
    broken = speech.archive / "notes.wav"
    # Another reason is shown without asking for the page again.
    soundfile.write(broken, np.zeros(16_000, dtype=np.float32), 16_000)
    try_again(page, service)
    failed.filter(has_text="silent").wait_for()
    shutil.copy(speech.stranger, broken)
    try_again(page, service)
    progress.filter(has_text="3 of 3 files done").wait_for()
    page.get_by_text("Tried again: nothing failed.").wait_for()
    page.get_by_role("region", name="Progress").get_by_text("done", exact=True).wait_for()
    page.get_by_role("button", name="Try failed files again").wait_for(state="detached")
    page.get_by_label("Which files").select_option("noticed")
    page.get_by_text("No such file.").wait_for()  # Nobody was enrolled, so there is nothing to say of any.
    page.get_by_label("Which files").select_option("done")
    page.get_by_role("list", name="Files").get_by_role("link", name="notes.wav").click()
    page.get_by_role("heading", level=1, name="notes.wav").wait_for()


def test_one_of_several_files_that_failed_is_tried_again_and_the_others_stay_as_they_are(
    shown: Watched, speech: Speech, service: ServiceClient
) -> None:
    folder = speech.archive.parent / "mended-in-part"
    folder.mkdir()
    for name in ("left.wav", "mended.wav"):
        (folder / name).write_bytes(b"RIFF and no audio at all")
    page = shown_in(shown, STRICT, "jobs", "Jobs")
    page.get_by_role("button", name="Take an archive in").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Folder or manifest").fill(str(folder))
    dialog.get_by_role("button", name="Start").click()
    files = page.get_by_role("list", name="Files").get_by_role("listitem")
    mended = page.get_by_role("button", name="Try mended.wav again")
    for said in ("failed again", "did not fail"):
        if said == "did not fail":
            soundfile.write(folder / "mended.wav", soundfile.read(speech.stranger)[0][:-3200], 16_000)
        with page.expect_response(lambda answer: "/retry-failed?item=" in answer.url) as again:
            mended.press("Enter")
        assert again.value.json() == {"requeued": 1}
        page.get_by_text(f"Tried again: mended.wav {said}.").wait_for()
        # Its button went away meanwhile: whoever uses the keyboard is at the progress, and not lost.
        page.wait_for_function("document.activeElement !== document.body")
    mended.wait_for(state="detached")
    left = files.filter(has_text="left.wav")
    left.get_by_role("button", name="Try left.wav again").wait_for()
    assert files.count() == 1
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    job = service.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}").json()
    assert (job["state"], job["done"], job["failed"]) == ("succeeded_with_errors", 1, 1)


def test_a_job_whose_source_was_not_there_is_tried_again_when_it_is(shown: Watched, speech: Speech) -> None:
    mounted = speech.archive.parent / "mounted"
    manifest = mounted / "list.csv"
    page = shown_in(shown, STRICT, "jobs", "Jobs")
    page.get_by_role("button", name="Take an archive in").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Folder or manifest").fill(str(manifest))
    dialog.get_by_role("button", name="Start").click()
    progress = page.get_by_role("region", name="Progress")
    progress.get_by_text("failed", exact=True).wait_for()
    assert str(manifest) in progress.inner_text()  # The reason names the place.
    mounted.mkdir()
    # Not the whole of it, which may be in already.
    soundfile.write(mounted / "part.wav", soundfile.read(speech.stranger)[0][:-1600], 16_000)
    manifest.write_text("path,speaker\npart.wav,\n", encoding="utf-8")
    page.get_by_role("button", name="Try again").click()
    progress.get_by_role("status").filter(has_text="1 of 1 files done").wait_for()
    progress.get_by_text("done", exact=True).wait_for()


def test_a_job_that_a_command_ran_says_to_run_it_again(shown: Watched, service: ServiceClient) -> None:
    database = service.runtime.services.database
    with database.session_scope() as session:
        jobs = Jobs(session)
        number = jobs.start(
            GalleryId(Galleries(session).by_name(STRICT).id), kind=IN_PROCESS, source="/archive", found=2
        )
        jobs.record(number, "/archive/torn.wav", JobItemState.FAILED, error_code="not-audio", error_message="torn")
        jobs.finish(number, JobState.SUCCEEDED_WITH_ERRORS)
    page = shown.open(f"jobs/{number}", f"Job {number}")
    page.get_by_text("run the same command again").wait_for()
    page.get_by_role("list", name="Files").get_by_text("torn.wav").wait_for()
    assert page.get_by_role("button", name="Try").count() == 0  # The service would refuse.


def test_unknown_voices_are_found_put_right_and_named(shown: Watched, speech: Speech, service: ServiceClient) -> None:
    for path in speech.unnamed:
        sent = service.post(f"/v1/galleries/{GALLERY}/recordings", files={"file": (path.name, path.read_bytes())})
        assert sent.status_code == 201
    page = shown.open("unknown", "Unknown voices")
    page.get_by_role("button", name="Look").first.click()
    page.get_by_role("link", name="See the unknown voices").click()
    first = page.get_by_role("list", name="Unknown voices").get_by_role("listitem").first
    name = first.get_by_role("link").inner_text()
    with page.expect_response(lambda answer: "/audio?" in answer.url) as heard:
        first.get_by_role("button", name="Listen").click()
        first.get_by_role("button", name="Play").first.click()
    assert heard.value.status in (200, 206)

    first.get_by_role("link", name=name).click()
    page.get_by_role("heading", level=1, name=name).wait_for()
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Another person: split 1 off").click()
    page.get_by_role("heading", level=1).filter(has_not_text=name).wait_for()
    other = page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("button", name="Merge").click()
    dialog = page.get_by_role("dialog", name=f"Merge {other}")
    dialog.get_by_label("The same person as").select_option(name)
    dialog.get_by_role("button", name="Merge").click()
    page.get_by_role("heading", level=1, name=name).wait_for()

    page.get_by_role("button", name="Name").click()
    dialog = page.get_by_role("dialog", name=f"Name {name}")
    dialog.get_by_label("Who is it?").fill("Heard Twice")
    dialog.get_by_role("button", name="Enroll").click()
    page.get_by_role("heading", level=1, name="Heard Twice").wait_for()
    assert service.get(f"/v1/galleries/{GALLERY}/speakers/Heard Twice").json()["recordings"] == 2
