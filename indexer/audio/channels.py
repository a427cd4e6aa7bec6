"""Which channels of a recording become tracks: mixed, one picked, or each on its own."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidAudio, InvalidRequest

MAX_CHANNEL_NUMBER = 63
"""Highest channel number that can be asked for; `AudioSettings.max_channels` allows no more by default."""

_NAMED = {"left": 0, "right": 1}


@dataclass(frozen=True)
class ChannelPolicy:
    """How the channels of a recording become mono tracks.

    A telephone call keeps one speaker per channel, so mixing would blend two voices into one vector; a stereo studio
    recording holds the same voice twice, so `each` would count it twice. Only the owner of the archive knows which.
    """

    text: str
    kind: Literal["mix", "one", "each"]
    channel: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `mix`, `left`, `right`, a channel number from 0, or `each`.

        Raises
        ------
        InvalidRequest
            If the text is none of these.
        """
        word = text.strip().lower()
        if word == "mix":
            return cls(word, "mix")
        if word == "each":
            return cls(word, "each")
        if word in _NAMED:
            return cls(word, "one", _NAMED[word])
        if word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= MAX_CHANNEL_NUMBER:
            return cls(word, "one", int(word))
        raise InvalidRequest(
            f"channels = {text!r} is not a channel policy; use mix, left, right, each, or a channel number from 0 to "
            f"{MAX_CHANNEL_NUMBER}"
        )

    def __str__(self) -> str:
        return self.text

    def tracks(self, channels: int, name: str) -> int:
        """Count the tracks that a recording of so many channels gives.

        Raises
        ------
        InvalidAudio
            If the recording lacks the channel that the policy picks.
        """
        if self.kind == "each":
            return channels
        if self.kind == "one" and self.channel >= channels:
            last = channels - 1
            raise InvalidAudio(
                f"{name}: channel {self.text} was asked for and the recording has {channels} (0 to {last}); "
                "use mix, each or a channel it has"
            )
        return 1

    def keeps(self, channels: int) -> bool:
        """Tell whether the tracks of a recording of so many channels are its channels, unchanged."""
        return self.kind == "each" or channels == 1

    def select(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn interleaved channels into tracks, in float64 so that the mix rounds once.

        Parameters
        ----------
        samples : (N, C) float64 array
            All channels of a stretch of the recording.

        Returns
        -------
        (N, tracks) float64 array
            The mean of the channels, the picked channel, or all of them.
        """
        if self.keeps(samples.shape[1]):
            return samples
        if self.kind == "one":
            return np.ascontiguousarray(samples[:, self.channel : self.channel + 1])
        mixed: NDArray[np.float64] = samples.mean(axis=1, keepdims=True)
        return mixed
