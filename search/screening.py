"""Is one voice all there is? Told from few windows, so that only conversations cost what telling voices apart costs."""

from collections.abc import Mapping, Sequence

import numpy as np

from indexer.audio.regions import Region, bridged
from indexer.types import EncoderId, Vectors

WINDOW_S = 3.0
_LEAST_S = 1.0
_BRIDGED_S = 0.5

ALIKE: Mapping[EncoderId, float] = {EncoderId("92f29b94e6948786-kaldi"): 0.65}  # campplus-zh-en
"""Of encoders whose vectors of one voice lie closer together than those of others."""

_ALIKE = 0.55
"""Of 60 speakers read for 10 s or more, one in ten has a window below it under the default encoder; where another
voice fills a window, all have, and where it takes half of one, two of three."""


class OneVoiceScreen:
    """A `Screen` that takes a recording for one voice where each window is like all the others together."""

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        """Lay windows of 3 s side by side over the speech; the last of a stretch overlaps the one before."""
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
            if length_s - count * WINDOW_S >= _LEAST_S:
                planned.append(Region(end_s - WINDOW_S, end_s))
        return planned

    def is_one_voice(self, vectors: Vectors, encoder_id: EncoderId) -> bool:
        """Tell whether every window is like the mean of the others; of a single window, that it is."""
        if len(vectors) < 2:
            return True
        rows = vectors.astype(np.float64)
        others = rows.sum(axis=0) - rows
        return bool(
            (np.sum(rows * others, axis=1) / np.linalg.norm(others, axis=1)).min() >= ALIKE.get(encoder_id, _ALIKE)
        )
