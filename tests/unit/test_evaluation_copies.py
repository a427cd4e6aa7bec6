"""Copies of recordings: as noisy, narrow and short as they say, and the same ones in every run."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.evaluation.copies import CopyMaker, add_noise, crop, reverberate, through_telephone
from api.evaluation.recordings import write_copies
from indexer.errors import AlreadyExists, InvalidRequest, NotFound
from indexer.settings import AudioSettings
from search.trials import LabeledRecording, read_manifest

RATE_HZ = 16_000


def _tone(hz: float, seconds: float = 1.0, level: float = 0.2) -> np.ndarray:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def _level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10((waveform.astype(np.float64) ** 2).mean()))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, _tone(300, 3.0) + _tone(2000, 3.0), RATE_HZ)
    return path


def _maker(tmp_path: Path, *conditions: str, seed: int = 1) -> CopyMaker:
    for name, sound in (("noise", np.random.default_rng(0).normal(0, 0.1, RATE_HZ)), ("rir", np.eye(1, 400)[0])):
        (tmp_path / name).mkdir(exist_ok=True)
        soundfile.write(tmp_path / name / "one.wav", sound, RATE_HZ)
    return CopyMaker(
        conditions, noise_folder=tmp_path / "noise", rir_folder=tmp_path / "rir", seed=seed, limits=AudioSettings()
    )


@pytest.mark.parametrize("snr_db", [10.0, 5.0, -3.0])
def test_noise_lies_as_far_below_the_speech_as_asked(snr_db: float) -> None:
    speech = _tone(300)
    noisy = add_noise(speech, np.random.default_rng(0).normal(0, 0.3, 5000), snr_db, np.random.default_rng(1))
    gain = float(noisy @ speech / (speech @ speech))  # Loud copies are turned down as a whole.
    noise = noisy / gain - speech
    assert _level_db(speech) - _level_db(noise) == pytest.approx(snr_db, abs=0.3)
    assert np.abs(noisy).max() <= 0.99


def test_level_is_that_of_the_speech_and_not_of_the_pauses() -> None:
    speech = np.concatenate([_tone(300), np.zeros(3 * RATE_HZ, dtype=np.float32)])
    noisy = add_noise(speech, _tone(1000), 10.0, np.random.default_rng(1))
    pause = noisy[2 * RATE_HZ :]
    assert _level_db(_tone(300)) - _level_db(pause) == pytest.approx(10.0, abs=0.3)


def test_an_impulse_response_of_one_impulse_changes_nothing_wherever_it_is() -> None:
    speech = _tone(300)
    late = np.zeros(800, dtype=np.float32)
    late[300] = 0.5
    np.testing.assert_allclose(reverberate(speech, late), speech, atol=1e-5)


def test_a_telephone_lets_its_band_pass_and_nothing_else() -> None:
    for hz, passes in ((60, False), (1000, True), (3000, True), (5000, False)):
        before, after = _level_db(_tone(hz)), _level_db(through_telephone(_tone(hz)) + 1e-9)
        assert (before - after < 3) == passes, (hz, before - after)
    assert len(through_telephone(_tone(300, 0.77))) == len(_tone(300, 0.77))


def test_a_crop_is_as_long_as_asked_and_a_shorter_recording_stays_whole() -> None:
    rng = np.random.default_rng(1)
    assert len(crop(_tone(300, 5), 2.0, rng)) == 2 * RATE_HZ
    assert len(crop(_tone(300, 1), 2.0, rng)) == RATE_HZ


def test_equal_seeds_make_equal_copies_and_others_make_others(tmp_path: Path, recording: Path) -> None:
    first = _maker(tmp_path, "noise10").make(recording, "noise10")
    assert first == _maker(tmp_path, "noise10", "reverb").make(recording, "noise10")
    assert first != _maker(tmp_path, "noise10", seed=2).make(recording, "noise10")
    assert _maker(tmp_path).key("x", "noise10") == _maker(tmp_path).key("x", "noise10")
    assert _maker(tmp_path).key("x", "noise10") != _maker(tmp_path, seed=2).key("x", "noise10")
    assert _maker(tmp_path).key("x", "noise10") != _maker(tmp_path).key("x", "noise5")


def test_copies_are_written_with_a_manifest_that_names_what_they_are_of(tmp_path: Path, recording: Path) -> None:
    listed, refused = write_copies(
        tmp_path / "out",
        [LabeledRecording("a.wav", "ann", "x", "1")],
        [recording],
        _maker(tmp_path, "telephone", "crop2s"),
        lambda: None,
    )
    assert refused == []
    copies = read_manifest(listed)
    assert [(copy.path, copy.speaker, copy.set, copy.original) for copy in copies] == [
        ("telephone/a.wav.wav", "ann", "x", "a.wav"),
        ("crop2s/a.wav.wav", "ann", "x", "a.wav"),
    ]
    made, rate_hz = soundfile.read(io.BytesIO((tmp_path / "out" / "crop2s" / "a.wav.wav").read_bytes()))
    assert (rate_hz, len(made)) == (RATE_HZ, 2 * RATE_HZ)
    with pytest.raises(AlreadyExists, match="not empty"):
        write_copies(tmp_path / "out", [], [], _maker(tmp_path), lambda: None)


@pytest.mark.parametrize("path", ["../a.wav", "/tmp/a.wav"])
def test_a_copy_is_never_written_outside_its_folder(tmp_path: Path, recording: Path, path: str) -> None:
    with pytest.raises(InvalidRequest, match="not below the audio root"):
        write_copies(
            tmp_path / "out", [LabeledRecording(path, "ann")], [recording], _maker(tmp_path, "crop2s"), lambda: None
        )


@pytest.mark.parametrize(
    ("condition", "named"),
    [("loud", "condition 'loud'"), ("noise10", "--noise"), ("reverb", "--rir"), ("crop2", "condition 'crop2'")],
)
def test_a_condition_that_cannot_be_made_is_refused(condition: str, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        CopyMaker([condition], noise_folder=None, rir_folder=None, seed=1, limits=AudioSettings())


def test_a_folder_without_sounds_is_refused_by_name(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "empty").mkdir()
    maker = CopyMaker(["noise5"], noise_folder=tmp_path / "empty", rir_folder=None, seed=1, limits=AudioSettings())
    with pytest.raises(NotFound, match="no recordings in it"):
        maker.make(recording, "noise5")
