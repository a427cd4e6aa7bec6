"""The beginnings of recordings that are measured with: no more of a recording is decoded, and no more recordings."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from indexer.archive import list_archive, nobody
from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.errors import VoxdexError
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

_SEED = 1


def beginnings(paths: Sequence[Path], seconds: float, limits: AudioSettings) -> Iterator[Waveform]:
    """Yield so many seconds of each recording that is as long, in an order drawn once for all; (N,) samples each.

    Recordings that cannot be read are passed over.

    Raises
    ------
    NotFound
        If a given path does not exist.
    """
    files = list_archive(paths, nobody).files
    for place in np.random.default_rng(_SEED).permutation(len(files)).tolist():
        with suppress(VoxdexError):
            begun = _beginning(files[place].path, round(seconds * SAMPLE_RATE_HZ), limits)
            if begun is not None:
                yield begun


def _beginning(path: Path, samples: int, limits: AudioSettings) -> Waveform | None:
    blocks: list[Waveform] = []
    with open_audio(path, channels=ChannelPolicy.parse("mix"), limits=limits) as reader:
        for block in reader.blocks():
            blocks.append(block[0])
            if sum(map(len, blocks)) >= samples:
                return np.ascontiguousarray(np.concatenate(blocks)[:samples])
    return None
