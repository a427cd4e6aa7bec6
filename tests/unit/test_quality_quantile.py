"""The noise of an utterance without pauses: a quantile of each bin, by one sort."""

import numpy as np
import pytest

from indexer.audio.quality import _QUANTILE, _quantile


@pytest.mark.parametrize("frames", [1, 2, 3, 6, 187])
def test_the_quantile_by_sorting_is_that_of_numpy(frames: int) -> None:
    power = np.random.default_rng(frames).exponential(size=(frames, 257)).astype(np.float32)
    np.testing.assert_allclose(_quantile(power), np.quantile(power, _QUANTILE, axis=0), rtol=1e-6)
