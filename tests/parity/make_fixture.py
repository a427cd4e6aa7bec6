"""Write `tiny.nemo` (random weights) and `tiny_expected.npz` (its embeddings by the NumPy reference, float64).

python -m tests.parity.make_fixture
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.parity.nemo_files import nemo_config, random_weights, write_nemo
from tests.parity.numpy_ecapa import nemo_embedding

FOLDER = Path(__file__).parent
LENGTHS = (1_600, 2_560, 7_999, 16_000, 24_123)


def voiced_signal(samples: int) -> NDArray[np.float32]:
    """Return a buzz of moving pitch over hiss, the same on every machine: no random generator is involved."""
    time = np.arange(samples) / 16_000.0
    phase = 2 * np.pi * (120.0 * time + 6.0 * np.sin(2 * np.pi * 1.7 * time))
    harmonics = sum(
        np.sin(k * phase) / k * (1.0 + 0.5 * np.sin(2 * np.pi * (0.9 + 0.3 * k) * time)) for k in range(1, 30)
    )
    # The low bits of a multiplicative sequence serve as noise, so that no mel bin is empty.
    hiss = (np.arange(1, samples + 1, dtype=np.int64) * 48_271 % 65_537) * 16_807 % 65_537 / 65_537.0 - 0.5
    return (0.08 * harmonics + 0.02 * hiss).astype(np.float32)


def main() -> None:
    """Write both files beside this script."""
    config = nemo_config()
    weights = random_weights(config, seed=7)
    write_nemo(FOLDER / "tiny.nemo", config, weights)
    expected = {
        f"{generation}:{length}": nemo_embedding(voiced_signal(length), config, weights, generation)
        for generation in ("legacy", "current")
        for length in LENGTHS
    }
    np.savez(FOLDER / "tiny_expected.npz", **expected)


if __name__ == "__main__":
    main()
