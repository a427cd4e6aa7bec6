"""A container with several audio tracks: one is read, as before, and what is said of the recording names it."""

from pathlib import Path

import numpy as np
import pytest

from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import decode
from indexer.probes import embed_probes
from indexer.settings import AudioSettings
from tests.fakes import SpectrumEncoder
from tests.formats.audio_samples import speech_like, write_format
from tests.formats.several_tracks import write_tracks

RATE = 16_000


@pytest.mark.parametrize(("count", "best"), [(2, 0), (3, 1), (3, 2)])
def test_which_of_several_tracks_was_read_is_told_and_its_samples_are_those_of_a_file_of_its_own(
    tmp_path: Path, count: int, best: int
) -> None:
    tracks = [speech_like(1.0 + number / 10, RATE, seed=number) for number in range(count)]
    write_tracks(tmp_path / "film.mkv", tracks, RATE, default=best)
    write_tracks(tmp_path / "alone.mkv", [tracks[best]], RATE)

    audio, alone = decode(tmp_path / "film.mkv"), decode(tmp_path / "alone.mkv")

    assert (audio.info.track, audio.info.audio_tracks) == (best + 1, count)
    (said,) = audio.info.notices
    others = "the other one was" if count == 2 else "the others were"
    read, remedy = said.split("; ")
    assert read == f"audio track {best + 1} of {count} was read, {others} not"
    assert remedy == "to have another one read, save it as a file of its own"
    assert audio.issues == ()  # All of that track was read.
    np.testing.assert_array_equal(audio.waveforms, alone.waveforms)
    assert (alone.info.track, alone.info.audio_tracks, alone.info.notices) == (1, 1, ())


def test_the_channels_of_one_track_are_no_tracks(tmp_path: Path) -> None:
    both = np.stack([speech_like(1.0, RATE, seed=number) for number in range(2)], axis=1)
    write_tracks(tmp_path / "call.mkv", [both], RATE)
    found = decode(tmp_path / "call.mkv", channels=ChannelPolicy.parse("each"))
    assert (len(found.waveforms), found.info.audio_tracks, found.info.notices) == (2, 1, ())


def test_what_one_library_reads_has_one_track(tmp_path: Path) -> None:
    path, _, _ = write_format("flac", tmp_path, 1.0)
    assert decode(path).info.notices == ()


def test_an_answer_about_such_a_recording_says_so(tmp_path: Path) -> None:
    write_tracks(tmp_path / "film.mkv", [speech_like(1.0, RATE, seed=number) for number in range(3)], RATE, default=1)
    (probe,) = embed_probes(
        SpectrumEncoder(), tmp_path / "film.mkv", channels=ChannelPolicy.parse("mix"), limits=AudioSettings()
    )
    assert [issue.split(",")[0] for issue in probe.issues] == ["audio track 2 of 3 was read"]
