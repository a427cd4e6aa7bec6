"""Is one voice all there is? Told from few windows, so that only conversations cost what telling voices apart costs."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.audio.regions import Region, bridged
from indexer.types import EncoderId, Vectors, without_precision

WINDOW_S = 1.5
_LEAST_S = 1.0
_BRIDGED_S = 0.5

_BLOCK = 16
"""Windows that are judged together: 24 s of speech, overlapping by half, so that a change of voice is within one."""

SECOND_DIRECTION: Mapping[EncoderId, float] = {EncoderId("92f29b94e6948786-kaldi"): 0.32}  # campplus-zh-en
"""Of encoders whose vectors of one voice lie closer together than those of others."""

_SECOND_DIRECTION = 0.38
"""With it 8 of 131 recordings of one voice are sent to the diarizer, and none of 42 is kept from it in which a second
voice speaks for 1.5 s or more, the nearest of which has 0.399; `docs/conversations.md` says what they were."""

_LEAST_SECOND = 0.7
"""What few windows of one voice reach by chance: two whose cosine is 0.3."""


class OneVoiceScreen:
    """A `Screen` that asks whether windows vary in one more direction than one voice's would.

    The Gram matrix of n unit vectors of one voice has one large eigenvalue; the second is what differs from window to
    window, and grows with the square root of n, where a second voice makes it grow with n.
    """

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        """Lay windows of 1.5 s side by side over the speech; the last of a stretch overlaps the one before."""
        planned: list[Region] = []
        for start_s, end_s in bridged(regions, _BRIDGED_S):
            length_s = end_s - start_s
            if length_s < WINDOW_S:
                half_seconds = np.floor(length_s * 2) / 2
                if half_seconds >= _LEAST_S:
                    planned.append(Region(start_s, start_s + float(half_seconds)))
                continue
            count = int(length_s // WINDOW_S)
            planned += [Region(start_s + place * WINDOW_S, start_s + (place + 1) * WINDOW_S) for place in range(count)]
            if length_s - count * WINDOW_S >= WINDOW_S / 2:
                planned.append(Region(end_s - WINDOW_S, end_s))
        return planned

    def is_one_voice(self, vectors: Vectors, encoder_id: EncoderId) -> bool:
        """Tell whether no stretch of the windows, in order of time, varies like two voices; of one window, that it is.

        It errs towards several: the diarizer, which hears more, decides then.
        """
        share = SECOND_DIRECTION.get(without_precision(encoder_id), _SECOND_DIRECTION)
        return all(
            _second_eigenvalue(block) < max(share * np.sqrt(len(block)), _LEAST_SECOND)
            for block in _blocks(vectors.astype(np.float64))
        )


def _blocks(rows: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for first in range(0, max(len(rows) - _BLOCK, 0), _BLOCK // 2):
        yield rows[first : first + _BLOCK]
    yield rows[-_BLOCK:]


def _second_eigenvalue(rows: NDArray[np.float64]) -> float:
    return float(np.linalg.eigvalsh(rows @ rows.T)[-2]) if len(rows) > 1 else 0.0
