"""Compare every recording of a list with every other one, in this process: no service, no database.

python docs/examples/compare_many.py a.wav b.wav c.wav
"""

import sys
from pathlib import Path

import numpy as np

from api.dependencies import open_services


def main(*paths: str) -> None:
    """Print the matrix of scores, and the pair that is most alike."""
    with open_services() as services:
        comparison = services.comparison(None)  # the default encoder; or its name, or the path of a .nemo file
        vectors = np.stack([comparison.probe(Path(path))[0].vector for path in paths])  # (N, 192), unit length
    scores = vectors @ vectors.T
    for path, row in zip(paths, scores, strict=True):
        print(f"{path}: " + " ".join(f"{score:6.3f}" for score in row))
    np.fill_diagonal(scores, -1.0)
    first, second = np.unravel_index(scores.argmax(), scores.shape)
    print(f"most alike: {paths[first]} and {paths[second]}, score {scores[first, second]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
