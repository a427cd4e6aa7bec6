"""A container with several audio tracks: one is read, as before, and what is said of the recording names it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import AudioSource, decode, open_audio
from indexer.audio.remarks import remarks
from indexer.errors import InvalidAudio, SilentAudio
from indexer.probes import embed_probes
from indexer.settings import AudioSettings
from indexer.takes import Take
from tests.fakes import SpectrumEncoder
from tests.formats.audio_samples import speech_like, write_format
from tests.formats.several_tracks import write_tracks

RATE = 16_000
MIX = ChannelPolicy.parse("mix")


def read(source: AudioSource, track: int | None) -> np.ndarray:
    with open_audio(source, channels=MIX, limits=AudioSettings(), name="film", track=track) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


@pytest.mark.parametrize(("count", "best"), [(2, 0), (3, 1), (3, 2)])
def test_which_of_several_tracks_was_read_is_told_and_its_samples_are_those_of_a_file_of_its_own(
    tmp_path: Path, count: int, best: int
) -> None:
    tracks = [speech_like(1.0 + number / 10, RATE, seed=number) for number in range(count)]
    write_tracks(tmp_path / "film.mkv", tracks, RATE, default=best)
    write_tracks(tmp_path / "alone.mkv", [tracks[best]], RATE)

    audio, alone = decode(tmp_path / "film.mkv"), decode(tmp_path / "alone.mkv")

    assert (audio.info.track, audio.info.audio_tracks) == (best + 1, count)
    (said,) = remarks(audio.info, audio.issues)
    others = "the other one was" if count == 2 else "the others were"
    read, remedy = said.split("; ")
    assert read == f"audio track {best + 1} of {count} was read, {others} not"
    assert remedy == "to have another one read, save it as a file of its own"
    assert audio.issues == ()  # All of that track was read.
    np.testing.assert_array_equal(audio.waveforms, alone.waveforms)
    assert (alone.info.track, alone.info.audio_tracks) == (1, 1)
    assert remarks(alone.info, alone.issues) == ()


def test_the_channels_of_one_track_are_no_tracks(tmp_path: Path) -> None:
    both = np.stack([speech_like(1.0, RATE, seed=number) for number in range(2)], axis=1)
    write_tracks(tmp_path / "call.mkv", [both], RATE)
    found = decode(tmp_path / "call.mkv", channels=ChannelPolicy.parse("each"))
    assert (len(found.waveforms), found.info.audio_tracks) == (2, 1)
    assert remarks(found.info, found.issues) == ()


def test_what_one_library_reads_has_one_track(tmp_path: Path) -> None:
    path, _, _ = write_format("flac", tmp_path, 1.0)
    info = decode(path).info
    assert (info.track, info.audio_tracks, remarks(info, ())) == (1, 1, ())


def test_an_answer_about_such_a_recording_says_so(tmp_path: Path) -> None:
    write_tracks(tmp_path / "film.mkv", [speech_like(1.0, RATE, seed=number) for number in range(3)], RATE, default=1)
    (probe,) = embed_probes(SpectrumEncoder(), tmp_path / "film.mkv", channels=MIX, limits=AudioSettings())
    assert [issue.split(",")[0] for issue in probe.issues] == ["audio track 2 of 3 was read"]


def test_the_track_that_is_named_is_read_whichever_players_begin_with(tmp_path: Path) -> None:
    tracks = [speech_like(1.0 + number / 10, RATE, seed=number) for number in range(3)]
    write_tracks(tmp_path / "film.mkv", tracks, RATE, default=1)
    for number, samples in enumerate(tracks, start=1):
        write_tracks(tmp_path / "alone.mkv", [samples], RATE)
        np.testing.assert_array_equal(read(tmp_path / "film.mkv", number), read(tmp_path / "alone.mkv", None))
    np.testing.assert_array_equal(read(tmp_path / "film.mkv", None), read(tmp_path / "film.mkv", 2))


@pytest.mark.parametrize("kind", ["matroska", "plain wav", "flac"])
def test_a_track_that_is_not_there_is_refused_with_both_numbers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    samples = speech_like(1.0, RATE, seed=1)
    if kind == "matroska":
        write_tracks(path, [samples], RATE)
    else:
        soundfile.write(path, samples, RATE, format="WAV" if kind == "plain wav" else "FLAC", subtype="PCM_16")
    assert read(path, 1).shape == (1, RATE)  # Where there is one, it is the first, whatever reads it.
    with pytest.raises(InvalidAudio, match=r"film: audio track 2 is to be read, and 1 are found .* ingest it again"):
        read(path, 2)


def test_a_silent_track_beside_others_says_where_sound_may_be(tmp_path: Path) -> None:
    write_tracks(tmp_path / "film.mkv", [speech_like(1.0, RATE, seed=1), np.zeros(RATE)], RATE, default=1)
    with pytest.raises(SilentAudio, match=r"level; audio track 2 of 2 was read, the other one was not; to have"):
        decode(tmp_path / "film.mkv")


def test_what_is_read_once_more_is_the_track_that_was_read_first(tmp_path: Path) -> None:
    """Between two readings, what players begin with changes, as it would where another library decides it."""
    tracks = [speech_like(1.0, RATE, seed=number) for number in range(2)]
    path = tmp_path / "film.mkv"
    write_tracks(path, tracks, RATE, default=1)
    take = Take(path, channels=MIX, limits=AudioSettings())
    first = np.concatenate(list(take.blocks()), axis=1)
    take.forget()
    write_tracks(path, tracks, RATE, default=0)
    np.testing.assert_array_equal(np.concatenate(list(take.blocks()), axis=1), first)
