"""A device that runs out of memory gets smaller passes, and no utterance is lost by it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.embedding.checkpoints import read_checkpoint
from indexer.embedding.encoder import SpeakerEncoder
from indexer.embedding.room import Room, samples_that_fit
from indexer.errors import Unavailable
from indexer.torch_threads import settle_threads, use_threads
from indexer.types import Waveform

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"
CPU = torch.device("cpu")


def test_a_pass_takes_what_fits_into_six_tenths_of_free_memory_within_what_was_tried_and_ten_minutes() -> None:
    assert samples_that_fit(100_000, 6_000, 100) == 1_000
    assert samples_that_fit(1_000, 6_000, 100) == 100
    assert samples_that_fit(1_000_000_000, 6, 100) == 600 * 16_000
    assert samples_that_fit(1_000, 0, 100) == 60_000  # a device that does not tell what it took


class SmallDevice:
    """Makes three rows at a time."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []

    def run(self, rows: list[int]) -> list[int]:
        if len(rows) > 3:
            raise torch.OutOfMemoryError("no memory for more than 3")
        self.made.append(rows)
        return [10 * row for row in rows]


def test_what_is_too_much_is_made_in_halves_in_order_and_later_passes_are_smaller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device, room = SmallDevice(), Room(CPU, 1_000_000)
    parts = room.run(device.run, list(range(11)), [16_000] * 11)
    assert [row for rows, _ in parts for row in rows] == list(range(11))
    assert all(made == [10 * row for row in rows] for rows, made in parts)
    assert [len(rows) for rows in device.made] == [2, 3, 3, 3]
    assert room.samples == 2 * 16_000
    assert "ran out of memory" in caplog.text


class CrampedEncoder(SpeakerEncoder):
    """Has memory for two utterances of up to two seconds."""

    passes = 0

    def _forward(self, waveforms: Sequence[Waveform]) -> torch.Tensor:
        self.passes += 1
        if len(waveforms) > 2 or len(waveforms[0]) > 32_000:
            raise torch.OutOfMemoryError("no memory")
        return super()._forward(waveforms)


@pytest.fixture
def one_thread_only() -> Iterator[None]:
    """Let torch have one thread, on which the size of passes depends, however many cores there are."""
    before = settle_threads()
    use_threads(1)
    yield
    use_threads(before)


@pytest.mark.usefixtures("one_thread_only")
def test_an_encoder_whose_device_has_too_little_memory_gives_the_same_vectors_and_remembers() -> None:
    checkpoint = read_checkpoint(TINY, "nemo")
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(0.0, 0.1, length).astype(np.float32) for length in [8_000, 12_000] * 7]
    cramped = CrampedEncoder(checkpoint, name="cramped", device="cpu")
    expected = SpeakerEncoder(checkpoint, name="roomy", device="cpu").embed(waveforms)
    np.testing.assert_allclose(cramped.embed(waveforms), expected, atol=1e-5)
    cramped.passes = 0
    cramped.embed(waveforms)
    assert cramped.passes == 14  # one at a time, of what one of the longer ones needs; none of them fails
    with pytest.raises(Unavailable, match="too little memory for 3 s"):
        cramped.embed([np.tile(waveforms[0], 6)])
