"""What makes an answer or an enrollment less sure than it looks is said where it is looked at."""

from typing import Any

import numpy as np
import pytest
import soundfile

from tests.api_kit import ServiceClient, wav_of
from tests.formats.audio_samples import Signal
from tests.page_kit import Speech, Watched

RATE = 16_000
MIXED = "mixed"
ANN = "Ann Lee"


def given(page: Any, name: str, samples: Signal) -> None:
    """Give the page a recording as somebody gives a file."""
    page.get_by_label("Recording").set_input_files({"name": name, "mimeType": "audio/wav", "buffer": wav_of(samples)})


@pytest.fixture(scope="module")
def spoken(speech: Speech) -> Signal:
    """Five seconds of LS27, who is enrolled."""
    samples, rate = soundfile.read(speech.spoken)
    assert rate == RATE
    return np.asarray(samples)


def test_a_poor_recording_is_verified_with_a_word_about_what_is_wrong_with_it(shown: Watched, spoken: Signal) -> None:
    page = shown.open("verify", "Verify")
    page.get_by_label("Speaker").fill("LS27")
    verify = page.get_by_role("button", name="Verify", exact=True)
    answer = page.get_by_role("region", name="Answer")
    warnings = answer.get_by_role("list", name="Warnings")
    noise = np.random.default_rng(1).standard_normal(len(spoken)) * np.sqrt(np.mean(spoken**2)) * 0.5
    for name, samples, word in (
        ("short.wav", spoken[: 2 * RATE], "short: "),
        ("noisy.wav", 0.5 * (spoken + noise), "noisy: "),
        ("loud.wav", np.clip(40 * spoken, -1, 1), "clipped: "),
    ):
        given(page, name, samples)
        verify.click()
        warnings.get_by_text(word).wait_for()
    given(page, "good.wav", spoken)
    verify.click()
    answer.get_by_role("status").filter(has_text="this is LS27").wait_for()
    assert warnings.count() == 0


def test_next_to_no_speech_is_told_from_a_rejection_and_says_how_much_is_needed(shown: Watched, spoken: Signal) -> None:
    page = shown.open("verify", "Verify")
    page.get_by_label("Speaker").fill("LS27")
    given(page, "word.wav", spoken[RATE : round(1.2 * RATE)])
    page.get_by_role("button", name="Verify", exact=True).click()
    said = page.get_by_role("region", name="Answer").get_by_role("status").filter(has_text="Not enough speech")
    said.wait_for()
    assert "are needed" in said.inner_text()


def test_a_recording_of_somebody_else_under_a_name_is_marked_heard_and_taken_back(
    shown: Watched, speech: Speech, service: ServiceClient
) -> None:
    assert service.post("/v1/galleries", json={"name": MIXED}).status_code == 201
    theirs = f"/v1/galleries/{MIXED}/speakers/{ANN}/enrollments"
    for path in (speech.spoken, speech.stranger, speech.probes["LS27"]):
        sent = service.post(theirs, files={"file": (path.name, path.read_bytes())})
        assert sent.status_code == 201, sent.text
    page = shown.open("speakers", "Speakers")
    page.get_by_role("combobox", name="Gallery", exact=True).select_option(MIXED)
    page.get_by_role("link", name=ANN).click()
    rows = page.get_by_role("table", name="Enrollments").get_by_role("row")
    marked = rows.filter(has_text="unlike the others")
    marked.wait_for()
    assert (rows.count(), marked.count()) == (4, 1)  # With the row of headings.
    stranger = speech.stranger.name
    with page.expect_response(lambda answer: "/audio?" in answer.url) as heard:
        marked.get_by_role("button", name=f"Play {stranger}").click()
    assert heard.value.status in (200, 206)
    marked.get_by_role("button", name=f"Take {stranger} back").click()
    dialog = page.get_by_role("dialog", name=f"Take {stranger} back")
    dialog.get_by_label("Erase the recording too").check()
    dialog.get_by_role("button", name="Take back and erase").click()
    marked.wait_for(state="detached")
    page.get_by_role("link", name=speech.spoken.name).wait_for()
    assert [one["is_outlier"] for one in service.get(theirs).json()["items"]] == [False, False]
    assert service.get(f"/v1/galleries/{MIXED}").json()["recordings"] == 2
