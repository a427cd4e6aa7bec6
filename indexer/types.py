"""The vocabulary that every package shares: ids, array types and the constants of the vector space."""

from typing import NewType

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
"""Rate of every waveform inside voxdex; what the supported encoders were trained on."""

EMBEDDING_DIM = 192
"""D, the dimension of every vector that a gallery keeps."""

GalleryId = NewType("GalleryId", int)
SpeakerId = NewType("SpeakerId", int)
RecordingId = NewType("RecordingId", int)
UtteranceId = NewType("UtteranceId", int)
EmbeddingId = NewType("EmbeddingId", int)
JobId = NewType("JobId", int)
ShardId = NewType("ShardId", int)
UnknownVoiceId = NewType("UnknownVoiceId", int)
EncoderId = NewType("EncoderId", str)
"""Weights hash and front end: vectors are comparable only when these are equal."""

Waveform = NDArray[np.float32]
"""(N,) mono samples in [-1, 1] at `SAMPLE_RATE_HZ`."""

Span = tuple[int, int]
"""First sample of a stretch of a waveform, and the first one after it."""

Vectors = NDArray[np.float32]
"""(B, D) rows; of unit L2 norm unless a docstring says raw."""
