"""Every broken file gives its typed error or says that it is partial, in bounded time, without a word on stderr."""

import threading
import time
from pathlib import Path

import pytest

from indexer.audio.decode import DecodedAudio, decode
from indexer.errors import AudioTooLarge, VoxdexError
from indexer.settings import AudioSettings
from tests.formats.audio_samples import write_format
from tests.formats.audio_zoo import Outcome, build_zoo, raw_wav

LONGEST_S = 20.0


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Outcome]]:
    return build_zoo(tmp_path_factory.mktemp("zoo"))


def attempt(path: Path) -> DecodedAudio | BaseException | None:
    """Decode in a thread of its own; None when it did not come back."""
    results: list[DecodedAudio | BaseException] = []

    def work() -> None:
        try:
            results.append(decode(path))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LONGEST_S)
    return results[0] if results else None


def describe(result: DecodedAudio | BaseException | None) -> str:
    if result is None:
        return "did not come back"
    if isinstance(result, DecodedAudio):
        return "partial" if result.issues else "ok"
    return f"{type(result).__name__}: {result}"


def test_every_kind_comes_to_what_it_must(zoo: dict[str, tuple[Path, Outcome]], capfd: pytest.CaptureFixture) -> None:
    assert len(zoo) >= 60
    wrong: dict[str, str] = {}
    for kind, (path, expected) in zoo.items():
        started = time.process_time()
        result = attempt(path)
        met = isinstance(result, expected) if not isinstance(expected, str) else describe(result) == expected
        if not met or time.process_time() - started > 5:
            wrong[kind] = describe(result)
    assert wrong == {}
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_every_refusal_names_the_file_on_one_line_with_a_remedy(zoo: dict[str, tuple[Path, Outcome]]) -> None:
    for kind, (path, expected) in zoo.items():
        if isinstance(expected, str):
            continue
        with pytest.raises(VoxdexError) as caught:
            decode(path)
        message = str(caught.value)
        assert path.name in message, kind
        assert message.isprintable(), kind
        assert ";" in message or "looks like" in message or "no such file" in message, kind


def test_the_bytes_of_every_kind_come_to_the_same(zoo: dict[str, tuple[Path, Outcome]]) -> None:
    wrong: dict[str, str] = {}
    for kind, (path, expected) in zoo.items():
        if not path.is_file() or path.name == "locked.wav":
            continue
        try:
            found = "partial" if decode(path.read_bytes()).issues else "ok"
            met = found == expected
        except VoxdexError as error:
            found = type(error).__name__
            met = not isinstance(expected, str) and isinstance(error, expected)
        if not met:
            wrong[kind] = found
    assert wrong == {}


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        ("truncated wav", "decoded 2.4 s of the 4.0 s its header claims: the file is truncated"),
        ("claims 10^9 frames", "decoded 4.0 s of the 62500.0 s its header claims: the file is truncated"),
        ("truncated ogg vorbis", "found no end mark: the file is truncated"),
        ("mp3 damaged in the middle", "packets are damaged and were skipped"),
        ("truncated m4a, index first", "s of the 4.0 s its header claims: the file is truncated"),
    ],
)
def test_a_partial_result_says_how_much_is_missing(kind: str, claim: str, zoo: dict[str, tuple[Path, Outcome]]) -> None:
    assert claim in "; ".join(decode(zoo[kind][0]).issues)


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        ("nan", "sample 20000 of channel 0 (at 1.250 s) is nan"),
        ("infinity", "sample 63999 of channel 0"),
        ("empty", "empty (0 bytes)"),
        ("header only", "a header and no samples"),
        ("65535 channels", "65535 channels is over the limit of 64"),
        ("rate 4 GHz", "4000000000 Hz is outside 4000 to 192000 Hz"),
        ("pdf", "a PDF document"),
        ("zip", "a zip archive"),
        ("video without sound", "holds no audio track"),
        ("channels that cancel", "while channel 0, 1 of 2 holds sound"),
    ],
)
def test_a_refusal_names_the_value(kind: str, claim: str, zoo: dict[str, tuple[Path, Outcome]]) -> None:
    with pytest.raises(VoxdexError) as caught:
        decode(zoo[kind][0])
    assert claim in str(caught.value)


def test_limits_in_bytes_seconds_and_channels_are_refused_by_name(tmp_path: Path) -> None:
    data = raw_wav(bytes(range(1, 251)) * 1280)  # 10 s
    with pytest.raises(AudioTooLarge, match=r"over the limit of 1000; raise VOXDEX_AUDIO__MAX_BYTES"):
        decode(data, limits=AudioSettings(max_bytes=1000))
    with pytest.raises(AudioTooLarge, match="lasts 10 s, over the limit of 5 s"):
        decode(data, limits=AudioSettings(max_duration_s=5))
    stereo = raw_wav(bytes(range(1, 251)) * 1280, channels=2)
    with pytest.raises(AudioTooLarge, match="2 channels is over the limit of 1"):
        decode(stereo, limits=AudioSettings(max_channels=1))
    path, _, _ = write_format("aac-adts", tmp_path, 6.0)  # its length is an estimate: found out while decoding
    with pytest.raises(AudioTooLarge, match="lasts more than 5 s, over the limit of 5 s"):
        decode(path, limits=AudioSettings(max_duration_s=5))
