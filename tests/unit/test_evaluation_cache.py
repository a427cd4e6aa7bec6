"""What was heard is kept by content, way of hearing and encoder, and never taken for something else."""

import ast
import multiprocessing
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.evaluation.cache import HeardCache
from api.evaluation.hearing import PRODUCT_SOURCES, HeardRecording, WholeFile
from api.evaluation.recordings import hear_files, require_files
from api.evaluation.remembering import RememberingEncoder
from indexer.audio.decode import AudioSource
from indexer.errors import NotFound, Unavailable
from indexer.settings import Settings
from indexer.types import EncoderId
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.formats.audio_samples import speech_like

A, B = EncoderId("a"), EncoderId("b")

REPOSITORY = Path(__file__).parents[2]
DECIDING = ("indexer/audio/", "indexer/embedding/aggregation.py", "search/")
"""Code that decides vectors; the rest of what it imports only carries them, or is named by the encoder's id."""


def write_wav_of(path: Path, seconds: float, seed: int) -> None:
    soundfile.write(path, speech_like(seconds, seed=seed), 16_000)


def _heard(seed: int = 0) -> HeardRecording:
    vectors = np.random.default_rng(seed).normal(size=(2, 192)).astype(np.float32)
    return HeardRecording({A: vectors[0], B: vectors[1]}, 2.5, 1.25, 17.5, 2)


def test_what_was_kept_is_found_again_under_exactly_its_key(tmp_path: Path) -> None:
    with closing(HeardCache(tmp_path)) as cache:
        cache.keep("content", "hearing", [A, B], _heard())
    with closing(HeardCache(tmp_path)) as cache:
        found = cache.find("content", "hearing", [A, B])
        assert found is not None
        np.testing.assert_array_equal(found.vectors[A], _heard().vectors[A])
        np.testing.assert_array_equal(found.vectors[B], _heard().vectors[B])
        assert (found.duration_s, found.net_speech_s, found.snr_db, found.voices) == (2.5, 1.25, 17.5, 2)
        only_b = cache.find("content", "hearing", [B])
        assert only_b is not None
        assert set(only_b.vectors) == {B}
        assert cache.find("other", "hearing", [A]) is None
        assert cache.find("content", "other", [A]) is None
        assert cache.find("content", "hearing", [A, EncoderId("c")]) is None


def test_a_refusal_is_remembered_as_one(tmp_path: Path) -> None:
    with closing(HeardCache(tmp_path)) as cache:
        cache.keep("content", "hearing", [A], HeardRecording({}, 0.0, 0.0, refusal="not-enough-speech", voices=0))
        found = cache.find("content", "hearing", [A])
    assert found is not None
    assert (dict(found.vectors), found.refusal) == ({}, "not-enough-speech")


def test_nobody_else_on_the_machine_reads_what_was_heard(tmp_path: Path) -> None:
    with closing(HeardCache(tmp_path)) as cache:
        cache.keep("content", "hearing", [A, B], _heard())
        files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert len(files) == 3, "the database, its log and the log's index"
    assert set(files.values()) == {0o600}, files


def _imported_by(source: str) -> set[str]:
    """Name the project's files that one of them imports modules or their parts from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((REPOSITORY / source).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            base = node.module.replace(".", "/")
            found |= {f"{base}.py", *(f"{base}/{name.name}.py" for name in node.names)}
    return {path for path in found if (REPOSITORY / path).is_file()}


def test_vectors_are_never_taken_for_those_of_other_code_that_decides_them() -> None:
    reached = {path for source in PRODUCT_SOURCES for path in _imported_by(source) if path.startswith(DECIDING)}
    assert "indexer/audio/regions.py" in reached
    assert reached <= set(PRODUCT_SOURCES), sorted(reached - set(PRODUCT_SOURCES))


def _keep_many(folder: Path, first: int) -> None:
    with closing(HeardCache(folder)) as cache:
        for number in range(first, first + 40):
            cache.keep(str(number), "hearing", [A, B], _heard(number))


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_keep_many, args=(tmp_path, first)) for first in (0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    with closing(HeardCache(tmp_path)) as cache:
        for number in range(60):
            found = cache.find(str(number), "hearing", [A, B])
            assert found is not None
            np.testing.assert_array_equal(found.vectors[A], _heard(number).vectors[A])


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "heard-1.sqlite3").write_bytes(b"no database at all, though it is where one should be" * 100)
    with pytest.raises(Unavailable, match=r"heard-1\.sqlite3.*--no-cache"):
        HeardCache(tmp_path)


def test_no_waveform_goes_through_the_network_twice(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    waveforms = [rng.normal(0, 0.1, 4000).astype(np.float32) for _ in range(3)]
    encoder = SpectrumEncoder()
    expected = SpectrumEncoder().embed(waveforms)
    with closing(HeardCache(tmp_path)) as cache:
        remembering = RememberingEncoder(encoder, cache)
        np.testing.assert_array_equal(remembering.embed(waveforms[:2]), expected[:2])
        np.testing.assert_array_equal(remembering.embed(waveforms[::-1]), expected[::-1])
        assert encoder.embedded == 3
        other = RememberingEncoder(ReversedSpectrumEncoder(), cache)
        np.testing.assert_array_equal(other.embed(waveforms), ReversedSpectrumEncoder().embed(waveforms))
        assert remembering.embed([]).shape == (0, 192)


class _Counting(WholeFile):
    """Counts what is really heard."""

    heard = 0

    def hear(self, source: AudioSource, name: str) -> HeardRecording:
        self.heard += 1
        return super().hear(source, name)


def test_a_recording_is_heard_once_wherever_it_lies_and_again_when_it_changes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    write_wav_of(first, 1.0, seed=1)
    second.write_bytes(first.read_bytes())
    hearing = _Counting(SpectrumEncoder(), Settings(home=tmp_path))
    with closing(HeardCache(tmp_path / "cache")) as cache:
        heard = hear_files(hearing, [first, second, first], cache, lambda: None)
        assert hearing.heard == 1
        np.testing.assert_array_equal(
            heard[0].vectors[hearing.encoders[0].id], heard[1].vectors[hearing.encoders[0].id]
        )
        write_wav_of(second, 1.0, seed=2)
        hear_files(hearing, [first, second], cache, lambda: None)
        assert hearing.heard == 2
        hear_files(hearing, [first], None, lambda: None)
        assert hearing.heard == 3


def test_another_setting_is_another_way_of_hearing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    other = settings.model_copy(update={"audio": settings.audio.model_copy(update={"channels": "left"})})
    assert WholeFile(SpectrumEncoder(), settings).id == WholeFile(SpectrumEncoder(), settings).id
    assert WholeFile(SpectrumEncoder(), settings).id != WholeFile(SpectrumEncoder(), other).id


def test_a_file_that_is_no_audio_is_told_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"text")
    heard = WholeFile(SpectrumEncoder(), Settings(home=tmp_path)).hear(tmp_path / "a.wav", "a.wav")
    assert heard.vectors == {}
    assert heard.refusal == "unsupported-format"


def test_missing_recordings_are_counted_before_any_is_heard(tmp_path: Path) -> None:
    write_wav_of(tmp_path / "a.wav", 1.0, seed=1)
    with pytest.raises(NotFound, match=r"b\.wav: no such recording, and 1 more of 3"):
        require_files(tmp_path, ["a.wav", "b.wav", "c.wav"])
