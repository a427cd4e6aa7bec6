"""Told turns begin and end where speech does, whatever little of the rest is kept for vectors."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audio.channels import ChannelPolicy
from indexer.audio.edges import REACH_S, LevelMeter, Levels, sharpened
from indexer.audio.regions import Region, SpeechStream
from indexer.audio.speech import SileroDetector
from indexer.embedding.encoder_set import EncoderSet
from indexer.hearing import hear_tracks, listen
from indexer.listening import Listening
from indexer.probes import hear_voices
from indexer.settings import AudioSettings, SpeechSettings
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, Waveform
from tests.fakes import SpectrumEncoder
from tests.listening_kit import LoudnessDetector, LoudnessStream, plain_listening, silence, voice, write_take
from tests.unit.test_speech_detection import read

LIMITS = AudioSettings()
MIX = ChannelPolicy.parse("mix")
FRAMES = st.lists(st.sampled_from([-120.0, -60.0, -45.0, -30.0, -20.0]), min_size=1, max_size=120)


def levels_of(*parts: Waveform) -> Levels:
    meter = LevelMeter()
    for block in np.array_split(np.concatenate(parts), 7):
        meter.push(block)
    return meter.levels()


def noise(seconds: float, dbfs: float) -> Waveform:
    samples = np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    return (samples * 10 ** (dbfs / 20)).astype(np.float32)


@pytest.mark.parametrize("behind_dbfs", [-90.0, -60.0, -35.0])
def test_edges_found_too_early_or_too_late_are_moved_to_where_the_sound_is(behind_dbfs: float) -> None:
    levels = levels_of(noise(1, behind_dbfs), voice(0, 1), noise(1, behind_dbfs))
    for wrong_s in (-0.08, 0.08):
        (found,) = sharpened([Region(1 + wrong_s, 2 - wrong_s)], levels, pause_s=0.3)
        assert found == (pytest.approx(1.0, abs=0.021), pytest.approx(2.0, abs=0.021))


def test_speech_after_louder_speech_begins_where_it_rises_above_the_pause() -> None:
    levels = levels_of(voice(0, 1), noise(0.5, -70), 0.1 * voice(0, 1), noise(0.5, -70))
    found = sharpened([Region(0, 1.06), Region(1.44, 2.56)], levels, pause_s=0.3)
    assert [round(edge, 1) for region in found for edge in region] == [0.0, 1.0, 1.5, 2.5]


def test_pauses_that_are_short_once_edges_are_found_part_no_speech() -> None:
    levels = levels_of(voice(0, 1), silence(0.2), voice(0, 1), silence(0.4), voice(0, 1))
    found = sharpened([Region(0, 1), Region(1.22, 2.2), Region(2.6, 3.6)], levels, pause_s=0.3)
    assert [round(edge, 1) for region in found for edge in region] == [0.0, 2.2, 2.6, 3.6]


@given(levels=FRAMES, cuts=st.lists(st.integers(0, 125), min_size=2, max_size=8, unique=True))
def test_sharpened_stretches_stay_apart_and_near_to_where_they_were(levels: list[float], cuts: list[int]) -> None:
    edges = sorted(cuts)
    before = [Region(start / 100, end / 100) for start, end in zip(edges[::2], edges[1::2], strict=False)]
    after = sharpened(before, np.array(levels, dtype=np.float32), pause_s=-1.0)
    assert len(after) == len(before)
    assert all(found.start_s < found.end_s for found in after)
    assert all(one.end_s <= other.start_s for one, other in pairwise(after))
    moved = [abs(a - b) for one, other in zip(before, after, strict=True) for a, b in zip(one, other, strict=True)]
    assert max(moved) <= max(REACH_S, (125 - len(levels)) / 100) + 1e-6


def test_levels_do_not_depend_on_blocks_and_a_constant_is_silence() -> None:
    sound = np.concatenate([voice(1, 0.5), np.full(8000, 0.3, dtype=np.float32)])
    whole = LevelMeter()
    whole.push(sound)
    np.testing.assert_array_equal(whole.levels(), levels_of(sound))
    assert len(whole.levels()) == 100
    assert whole.levels()[55:].max() <= -100
    assert len(LevelMeter().levels()) == 0


def test_bare_speech_of_a_sentence_ends_with_its_sound(speech_dir: Path) -> None:
    sentence = read(speech_dir / "librispeech_multi" / "LS4088" / "4088-158077-0085.flac")
    sound = np.concatenate([sentence[:80_000], silence(1)])
    stream = SileroDetector(SpeechSettings()).stream()
    regions = [*stream.push(sound), *stream.finish()]
    spoken = stream.spoken()
    assert spoken[-1].end_s == pytest.approx(5.0, abs=0.02)  # It is cut there within a word.
    assert regions[-1].end_s > 5.1


class WideStream(LoudnessStream):
    """Finds speech with 0.2 s around it."""

    def finish(self) -> list[Region]:
        return [Region(start_s - 0.2, end_s + 0.2) for start_s, end_s in super().finish()]

    def spoken(self) -> list[Region]:
        return super().finish()


class WideDetector(LoudnessDetector):
    def stream(self, *, edges: bool = True) -> LoudnessStream:
        return WideStream()


class DeafStream(WideStream):
    def spoken(self) -> list[Region]:
        return []


class DeafDetector(LoudnessDetector):
    def stream(self, *, edges: bool = True) -> LoudnessStream:
        return DeafStream()


def two_voices(folder: Path) -> Path:
    return write_take(folder / "a.wav", silence(1), voice(0, 4), silence(1), voice(1, 2), voice(0, 1), silence(1))


def test_told_turns_leave_out_what_vectors_are_made_with(tmp_path: Path) -> None:
    path = two_voices(tmp_path)
    wide = Listening(WideDetector(), plain_listening().diarizer, plain_listening().screen)
    take = Take(path, channels=MIX, limits=LIMITS)
    (track,) = hear_tracks(take, wide, SpectrumEncoder(), name="a.wav", utterance_s=30)
    assert (track.turns[0].start_s, track.turns[-1].end_s) == (pytest.approx(1.0), pytest.approx(9.0))
    assert not [turn for turn in track.turns if turn.start_s < 6.0 - 1e-6 and turn.end_s > 5.0 + 1e-6]
    hearing = listen(take, wide, name="a.wav")
    assert hearing.tracks[0].turns[0] == (0, pytest.approx(0.8), pytest.approx(5.2))
    assert hearing.told(take)[0].turns[0] == (0, pytest.approx(1.0), pytest.approx(5.0))


def turns_and_speech(path: Path, detector: LoudnessDetector) -> Sequence[tuple[float, float, float]]:
    listening = Listening(detector, plain_listening().diarizer, plain_listening().screen)
    voices = hear_voices(EncoderSet(SpectrumEncoder()), path, listening, channels=MIX, limits=LIMITS)
    return [(one.turns[0].start_s, one.turns[-1].end_s, one.quality.net_speech_s) for one in voices]


def test_probes_tell_the_same_turns_and_measure_the_speech_that_they_embed(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", silence(1), voice(0, 4), silence(1))
    ((start_s, end_s, speech_s),) = turns_and_speech(path, WideDetector())
    assert (start_s, end_s, speech_s) == (pytest.approx(1.0), pytest.approx(5.0), pytest.approx(4.4, abs=0.01))


def test_a_voice_of_which_no_bare_speech_is_left_keeps_its_turns(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", silence(1), voice(0, 4), silence(1))
    ((start_s, end_s, _),) = turns_and_speech(path, DeafDetector())
    assert (start_s, end_s) == (pytest.approx(0.8), pytest.approx(5.2))


def test_regions_are_the_same_where_nobody_asks_for_edges(speech_dir: Path) -> None:
    detector = SileroDetector(SpeechSettings())
    for path in sorted(speech_dir.rglob("*.flac"))[::40]:
        sound = read(path)
        stream = detector.stream(edges=False)
        assert [*stream.push(sound), *stream.finish()] == listened(detector.stream(), sound), path.name
        with pytest.raises(RuntimeError, match="edges"):
            stream.spoken()


def listened(stream: SpeechStream, sound: Waveform) -> list[Region]:
    return [*stream.push(sound), *stream.finish()]


def test_a_stream_without_sound_has_nothing_to_tell() -> None:
    stream: SpeechStream = SileroDetector(SpeechSettings()).stream()
    assert [*stream.push(silence(0.5)), *stream.finish()] == []
    assert stream.spoken() == []
