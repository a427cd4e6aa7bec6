"""Who speaks when, found in one reading where that is enough, and in memory that no recording outgrows."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import indexer.decoding
import indexer.probes
import indexer.takes
from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import AudioReader, open_audio
from indexer.audio.regions import Region, SpeechStream
from indexer.audio.rttm import RttmTurn
from indexer.audio.speech import SileroDetector, SoundDetector
from indexer.embedded_files import EmbeddedFile
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import InvalidRequest, NonFiniteEmbedding, NoSpeech, NotEnoughSpeech, NotFound, Unavailable
from indexer.hearing import HeardTrack, hear_tracks
from indexer.listening import Doubt, Listening, Suspicion, UnlikeStretch, VoiceTurn, parse_speakers, speech_by_voice
from indexer.listening_choices import listening_as_asked
from indexer.pipeline import EmbeddingPipeline
from indexer.probes import hear_voices
from indexer.settings import AudioSettings, SpeechSettings
from indexer.takes import Blocks, Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Vectors, Waveform
from search.screening import OneVoiceScreen
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.formats.several_tracks import write_tracks
from tests.listening_kit import AlikeScreen, EndlessDoubts, NearestDiarizer, plain_listening, silence, voice, write_take

MIX = ChannelPolicy.parse("mix")
LIMITS = AudioSettings(block_s=1.0)


class Readings:
    """Counts how often a recording was read."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, blocks: Blocks) -> Blocks:
        self.count += 1
        yield from blocks


def take_of(path: Path, readings: Readings | None = None, channels: str = "mix") -> Take:
    policy = ChannelPolicy.parse(channels)
    return Take(path, channels=policy, limits=LIMITS, name=path.name, watched=readings or Readings())


def heard(path: Path, listening: Listening, channels: str = "mix") -> list[HeardTrack]:
    take = take_of(path, channels=channels)
    return hear_tracks(take, listening, SpectrumEncoder(), name=path.name, utterance_s=LIMITS.utterance_s)


def test_two_voices_are_told_apart(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 4), voice(1, 2), voice(0, 2))
    (track,) = heard(path, plain_listening())
    assert track.voices == {0, 1}
    spoken = speech_by_voice((turn.voice, turn.end_s - turn.start_s) for turn in track.turns)
    assert spoken == pytest.approx({0: 6.0, 1: 2.0}, abs=0.6)


def test_turns_that_are_too_short_for_the_screen_are_left_to_the_diarizer(tmp_path: Path) -> None:
    words = [part for turn in range(10) for part in (voice(turn % 2, 0.9, seed=turn), silence(0.9))]
    path = write_take(tmp_path / "a.wav", *words)
    (track,) = heard(path, replace(plain_listening(), screen=OneVoiceScreen()))
    assert track.voices == {0, 1}


def test_under_three_seconds_of_speech_one_voice_is_taken_for_granted(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 1.4), silence(2), voice(1, 1.4))
    assert heard(path, plain_listening())[0].voices == {0}


def test_somebody_who_says_one_is_believed(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 4), voice(1, 4))
    assert heard(path, plain_listening("one"))[0].voices == {0}


def test_a_voice_a_channel_is_numbered_through_the_recording(tmp_path: Path) -> None:
    stereo = np.stack([voice(0, 4), np.concatenate([silence(1), voice(1, 3)])], axis=1)
    path = tmp_path / "call.wav"
    write_take(path, stereo)
    tracks = heard(path, plain_listening("channels"), channels="each")
    assert [track.voices for track in tracks] == [{0}, {1}]
    assert [track.voices for track in heard(path, plain_listening("one"), channels="each")] == [{0}, {0}]


def test_nobody_speaking_is_an_error_with_figures(tmp_path: Path) -> None:
    path = write_take(tmp_path / "still.wav", 1e-3 * voice(0, 5))
    with pytest.raises(NoSpeech, match=r"still\.wav: nobody speaks in its 5 s") as caught:
        heard(path, plain_listening())
    assert caught.value.speech_s == 0.0
    assert caught.value.code == "no-speech"


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (1e-3 * voice(0, 5), "nobody speaks in its 5 s"),
        (
            np.concatenate([silence(4), voice(0, 0.5)]),
            "and the encoder needs 4 s of one voice: give a longer recording",
        ),
    ],
)
def test_where_a_track_has_too_little_speech_it_says_that_there_are_others(
    tmp_path: Path, second: Waveform, said: str
) -> None:
    path = tmp_path / "film.mkv"
    write_tracks(path, [voice(0, 5), second], SAMPLE_RATE_HZ, default=1)
    encoder = SpectrumEncoder()
    encoder.min_samples = 4 * SAMPLE_RATE_HZ
    with pytest.raises(NotEnoughSpeech) as caught:
        hear_voices(EncoderSet(encoder), path, plain_listening(), channels=MIX, limits=LIMITS, name=path.name)
    first, track, remedy = str(caught.value).rsplit("; ", 2)
    assert said in first
    assert track == "audio track 2 of 2 was read, the other one was not"
    assert remedy == "to have another one read, save it as a file of its own"


def test_marked_speech_takes_the_place_of_the_detector_and_named_marks_of_the_diarizer(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 10))
    marks = [RttmTurn("a", 1.0, 2.0, "x"), RttmTurn("a", 4.0, 2.5, "y"), RttmTurn("a", 9.0, 20.0, "x")]
    (track,) = heard(path, replace(plain_listening(), given={"a": marks}))
    assert track.turns == ((0, 1.0, 3.0), (1, 4.0, 6.5), (0, 9.0, 10.0))
    (track,) = heard(path, replace(plain_listening("one"), given={"a": marks}))
    assert track.turns == ((0, 1.0, 3.0), (0, 4.0, 6.5), (0, 9.0, 10.0))
    with pytest.raises(NotFound, match=r"no speech is marked under the name a"):
        heard(path, replace(plain_listening(), given={"b": marks}))


def test_a_short_recording_is_decoded_once_and_a_long_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 6))
    take = take_of(path)
    first = np.concatenate(list(take.blocks()), axis=1)
    path.unlink()
    np.testing.assert_array_equal(np.concatenate(list(take.blocks()), axis=1), first)
    monkeypatch.setattr(indexer.takes, "KEPT_S", 2.0)
    path = write_take(path, voice(0, 6))
    long = take_of(path)
    np.testing.assert_array_equal(np.concatenate(list(long.blocks()), axis=1), first)
    path.unlink()
    with pytest.raises(NotFound):
        list(long.blocks())


def test_what_is_heard_does_not_depend_on_how_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 4), voice(1, 2), silence(3), voice(0, 2))
    kept = heard(path, plain_listening())
    monkeypatch.setattr(indexer.takes, "KEPT_S", 1.0)
    assert heard(path, plain_listening()) == kept


@pytest.mark.parametrize(
    ("text", "speakers"), [("auto", "auto"), (" One ", "one"), ("channels", "channels"), ("1", "one"), ("4", 4)]
)
def test_the_words_for_how_many_speak(text: str, speakers: str | int) -> None:
    assert parse_speakers(text) == speakers


@pytest.mark.parametrize("text", ["", "0", "21", "two", "-1", "1.5", "autoone"])
def test_other_words_are_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(InvalidRequest, match="give auto, one, channels, or how many speak"):
        parse_speakers(text)


def test_a_voice_a_channel_and_one_channel_contradict_each_other() -> None:
    assert str(plain_listening("channels").channels(MIX)) == "each"
    assert plain_listening("auto").channels(MIX) is MIX
    with pytest.raises(InvalidRequest, match="leave one of the two out"):
        plain_listening("channels").channels(ChannelPolicy.parse("left"))


def test_what_is_asked_for_replaces_what_is_set(tmp_path: Path) -> None:
    settings = SpeechSettings(detector="off")
    given = tmp_path / "a.rttm"
    given.write_text("SPEAKER a 1 0.5 1.0 <NA> <NA> x <NA> <NA>\n")
    plain = plain_listening()
    assert listening_as_asked(plain, settings) is plain
    assert listening_as_asked(plain, settings, speakers="3").speakers == 3
    assert isinstance(listening_as_asked(plain, settings, speech="off").detector, SoundDetector)
    sounding = replace(plain, detector=SoundDetector())
    assert isinstance(listening_as_asked(sounding, settings, speech="auto").detector, SileroDetector)
    marked = listening_as_asked(plain, settings, speech=f"given:{given}").given
    assert marked is not None
    assert list(marked) == ["a"]
    for word in ("on", "given:", "silero"):
        with pytest.raises(InvalidRequest, match="give auto, off, or given:PATH"):
            listening_as_asked(plain, settings, speech=word)


# Probes


def test_a_probe_has_a_vector_of_each_voice_and_who_speaks_most_comes_first(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(1, 2), voice(0, 5), silence(3), voice(1, 1))
    encoders = EncoderSet(SpectrumEncoder(), ReversedSpectrumEncoder())
    first, second = hear_voices(encoders, path, plain_listening(), channels=MIX, limits=LIMITS)
    assert (first.voice, second.voice) == (1, 0)
    assert first.quality.net_speech_s == pytest.approx(5.0, abs=0.6)
    assert set(first.vectors) == set(encoders.ids)
    alone = SpectrumEncoder().embed([voice(0, 4, seed=9), voice(1, 4, seed=9)])
    for number, found in ((0, first), (1, second)):
        cosines = alone @ found.vectors[encoders.first.id]
        assert cosines[number] > cosines[1 - number] + 0.2


def test_a_short_probe_of_one_voice_is_embedded_whole(tmp_path: Path) -> None:
    samples = np.concatenate([0.001 * voice(2, 0.5), voice(0, 1.5), 0.001 * voice(2, 0.3)])
    path = write_take(tmp_path / "a.wav", samples)
    (found,) = hear_voices(EncoderSet(SpectrumEncoder()), path, plain_listening(), channels=MIX, limits=LIMITS)
    encoder = SpectrumEncoder()
    np.testing.assert_allclose(found.vectors[encoder.id], encoder.embed([samples])[0], atol=1e-6)
    assert found.turns == ((pytest.approx(0.5), pytest.approx(2.0)),)


def test_speech_shorter_than_the_encoder_needs_is_not_enough(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 0.3))
    encoders = EncoderSet(ReversedSpectrumEncoder(min_samples=16_000))
    with pytest.raises(NotEnoughSpeech, match=r"0\.3 s of speech in 0\.3 s, and the encoder needs 1 s") as caught:
        hear_voices(encoders, path, plain_listening(), channels=MIX, limits=LIMITS)
    assert (caught.value.speech_s, caught.value.needed_s) == (pytest.approx(0.3), 1.0)


def test_the_vector_of_hours_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_take(tmp_path / "a.wav", *[part for n in range(5) for part in (voice(0, 3, seed=n), silence(3))])
    encoders = EncoderSet(SpectrumEncoder())
    (whole,) = hear_voices(encoders, path, plain_listening(), channels=MIX, limits=LIMITS)
    monkeypatch.setattr(indexer.probes, "_PIECE_S", 3.0)
    (pieces,) = hear_voices(encoders, path, plain_listening(), channels=MIX, limits=LIMITS)
    assert whole.vectors[encoders.first.id] @ pieces.vectors[encoders.first.id] > 0.95


# Files


def run_all(pipeline: EmbeddingPipeline, paths: Sequence[Path]) -> dict[str, EmbeddedFile]:
    files = [ArchiveFile(path, None, path.stat().st_size) for path in paths]
    return {result.file.path.name: result for result in pipeline.run(files)}


def pipeline_of(encoder: SpectrumEncoder, listening: Listening, threads: int = 2) -> EmbeddingPipeline:
    return EmbeddingPipeline(
        EncoderSet(encoder),
        channels=MIX,
        limits=LIMITS,
        decode_threads=threads,
        is_known=lambda content: False,
        listening=listening,
    )


def test_each_utterance_is_of_one_voice_and_has_its_quality(tmp_path: Path) -> None:
    paths = [
        write_take(tmp_path / "both.wav", voice(0, 12), silence(1), voice(1, 4)),
        write_take(tmp_path / "one.wav", voice(0, 7)),
        write_take(tmp_path / "none.wav", 1e-3 * voice(0, 7)),
    ]
    done = run_all(pipeline_of(SpectrumEncoder(), plain_listening()), paths)
    both = done["both.wav"]
    assert both.voices_s == pytest.approx({0: 12.0, 1: 4.0}, abs=0.6)
    assert both.speech_s == pytest.approx(16.0, abs=0.6)
    assert {utterance.voice for utterance in both.utterances} == {0, 1}
    assert all(utterance.quality is not None for utterance in both.utterances)
    assert list(done["one.wav"].voices_s) == [0]
    assert isinstance(done["none.wav"].error, NoSpeech)
    assert done["none.wav"].info is not None


class CountingEncoder(SpectrumEncoder):
    """Remembers in which threads it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        self.threads.add(threading.current_thread().name)
        return super().embed(waveforms)


def test_threads_that_decode_embed_nothing(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    paths = [write_take(tmp_path / f"{n}.wav", voice(0, 4, seed=n), voice(1, 4, seed=n)) for n in range(6)]
    done = run_all(pipeline_of(encoder, plain_listening()), paths)
    assert len(done) == 6
    assert encoder.threads <= {"embed_0", "embed_1", "embed_2"}  # one for windows, the others for utterances


class LengthsEncoder(SpectrumEncoder):
    """Remembers how long what it embedded was, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        self.seconds += [len(waveform) / SAMPLE_RATE_HZ for waveform in waveforms]
        return super().embed_raw(waveforms)


class DoubtfulScreen(AlikeScreen):
    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        return Suspicion()


def test_what_was_taken_for_one_voice_is_not_embedded_again_where_doubt_was_unfounded(tmp_path: Path) -> None:
    encoder = LengthsEncoder()
    doubtful = replace(plain_listening(), screen=DoubtfulScreen())
    done = run_all(pipeline_of(encoder, doubtful), [write_take(tmp_path / "one.wav", voice(0, 7))])["one.wav"]
    assert [(one.start_s, one.end_s, one.voice) for one in done.utterances] == [(0.0, 7.0, 0)]
    assert encoder.seconds.count(7.0) == 1
    path = write_take(tmp_path / "probe.wav", voice(0, 6))
    (found,) = hear_voices(EncoderSet(encoder), path, doubtful, channels=MIX, limits=LIMITS)
    assert found.voice == 0
    assert encoder.seconds.count(6.0) == 1


def test_a_file_in_doubt_is_decoded_once_if_it_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(*args: Any, **named: Any) -> AudioReader:
        opened.append(named["name"])
        return open_audio(*args, **named)

    monkeypatch.setattr(indexer.takes, "open_audio", counted)
    doubtful = replace(plain_listening(), screen=DoubtfulScreen())
    path = write_take(tmp_path / "one.wav", voice(0, 7))
    run_all(pipeline_of(SpectrumEncoder(), doubtful), [path])
    assert len(opened) == 1
    monkeypatch.setattr(indexer.decoding, "_KEPT_IN_DOUBT_S", 6.9)
    run_all(pipeline_of(SpectrumEncoder(), doubtful), [path])
    assert len(opened) > 2


class CertainScreen(DoubtfulScreen):
    """Has seen two voices with its own eyes."""

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        return Suspicion((((Region(0.0, 3.0),), (Region(5.0, 8.0),)),))

    def least_voices(self, vectors: Vectors, encoder_id: EncoderId) -> int | None:
        return 2


class LumpingDiarizer(NearestDiarizer):
    """Takes everybody for one, unless it is told better."""

    def turns(
        self, regions: Sequence[Region], windows: Sequence[Region], vectors: Vectors, *, speakers: int | None
    ) -> list[VoiceTurn]:
        found = super().turns(regions, windows, vectors, speakers=speakers)
        return found if speakers == 2 else [turn._replace(voice=0) for turn in found]


def test_two_voices_that_a_closer_look_is_sure_of_are_two_whatever_the_diarizer_finds(tmp_path: Path) -> None:
    path = write_take(tmp_path / "both.wav", voice(0, 4), voice(1, 4))
    for screen, voices in ((DoubtfulScreen(), {0}), (CertainScreen(), {0, 1})):
        lumping = replace(plain_listening(), screen=screen, diarizer=LumpingDiarizer())
        done = run_all(pipeline_of(SpectrumEncoder(), lumping), [path])["both.wav"]
        assert set(done.voices_s) == voices


class AskedUnder(EndlessDoubts):
    """Remembers under which encoder windows were embedded by themselves, and the first of their vectors."""

    def __init__(self, place: int) -> None:
        self._place = place
        self.found: list[tuple[EncoderId, Vectors]] = []

    def tells_best(self, encoder_ids: Sequence[EncoderId]) -> EncoderId:
        return encoder_ids[self._place]

    def find(self, doubt: Doubt, vectors: Vectors, encoder_id: EncoderId) -> UnlikeStretch | None:
        self.found.append((encoder_id, vectors))
        return super().find(doubt, vectors, encoder_id)


@pytest.mark.parametrize("place", [0, 1])
def test_what_may_be_a_second_voice_is_looked_at_under_the_encoder_that_tells_best(tmp_path: Path, place: int) -> None:
    finder, encoders = AskedUnder(place), (SpectrumEncoder(), ReversedSpectrumEncoder())
    pipeline = EmbeddingPipeline(
        EncoderSet(*encoders),
        channels=MIX,
        limits=LIMITS,
        decode_threads=2,
        is_known=lambda content: False,
        listening=replace(plain_listening(), second_voice=finder),
    )
    paths = [write_take(tmp_path / f"{name}.wav", voice(seed, 6)) for seed, name in enumerate(("ann", "bea"))]
    files = [ArchiveFile(path, path.stem, path.stat().st_size) for path in paths]
    assert {result.unlike and result.unlike.cosine for result in pipeline.run(files)} == {0.25}
    assert [encoder_id for encoder_id, _ in finder.found] == [encoders[place].id] * 2
    windows = [np.concatenate([voice(seed, 6)[:8000], voice(seed, 6)[-8000:]]).reshape(2, -1) for seed in (0, 1)]
    expected = sorted(float(encoders[place].embed(list(cut))[0, 0]) for cut in windows)
    assert sorted(float(vectors[0, 0]) for _, vectors in finder.found) == pytest.approx(expected, abs=0.02)


def test_a_fetched_conversation_stays_readable_until_its_voices_are_told_apart(tmp_path: Path) -> None:
    stored = write_take(tmp_path / "stored" / "both.wav", voice(0, 4), voice(1, 4))
    fetched = tmp_path / "fetched.wav"

    @contextmanager
    def fetch(file: ArchiveFile) -> Iterator[Path]:
        shutil.copy(stored, fetched)
        yield fetched
        fetched.unlink()

    pipeline = EmbeddingPipeline(
        EncoderSet(SpectrumEncoder()),
        channels=MIX,
        limits=LIMITS,
        decode_threads=1,
        is_known=lambda content: False,
        fetch=fetch,
        listening=plain_listening(),
    )
    done = run_all(pipeline, [stored])["both.wav"]
    assert (done.error, set(done.voices_s)) == (None, {0, 1})
    assert not fetched.exists()


def test_windows_that_cannot_be_embedded_fail_their_file_alone(tmp_path: Path) -> None:
    loud = write_take(tmp_path / "loud.wav", 20 * voice(0, 4))
    fine = [write_take(tmp_path / f"{n}.wav", voice(0, 4, seed=n), voice(1, 4, seed=n)) for n in range(4)]
    done = run_all(pipeline_of(SpectrumEncoder(refuses_above=2.0), plain_listening(), threads=4), [*fine, loud])
    assert isinstance(done.pop("loud.wav").error, NonFiniteEmbedding)
    assert [result.error for result in done.values()] == [None] * 4


class BrokenEncoder(SpectrumEncoder):
    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        raise Unavailable("the device is gone")


class MissingDetector(SoundDetector):
    def stream(self, *, edges: bool = True) -> SpeechStream:
        raise Unavailable("the network is not installed")


def test_a_detector_that_cannot_be_had_is_no_files_fault(tmp_path: Path) -> None:
    path = write_take(tmp_path / "a.wav", voice(0, 4))
    listening = replace(plain_listening(), detector=MissingDetector())
    with pytest.raises(Unavailable, match="not installed"):
        run_all(pipeline_of(SpectrumEncoder(), listening), [path])


def test_producers_that_wait_for_windows_end_when_the_run_does(tmp_path: Path) -> None:
    paths = [write_take(tmp_path / f"{n}.wav", voice(0, 4, seed=n)) for n in range(8)]
    before = threading.active_count()
    with pytest.raises(Unavailable, match="the device is gone"):
        run_all(pipeline_of(BrokenEncoder(), plain_listening(), threads=3), paths)
    assert threading.active_count() == before


def test_a_run_that_is_closed_leaves_no_thread_behind(tmp_path: Path) -> None:
    paths = [write_take(tmp_path / f"{n}.wav", voice(0, 4, seed=n), voice(1, 2)) for n in range(8)]
    before = threading.active_count()
    results = pipeline_of(SpectrumEncoder(), plain_listening()).run(ArchiveFile(path, None, 1) for path in paths)
    assert next(results).error is None
    results.close()
    assert threading.active_count() == before
